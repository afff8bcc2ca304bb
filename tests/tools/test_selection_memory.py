from pathlib import Path

import numpy as np

from pretrain.selection.table.sharding import SLACK, plan_table
from tools.selection_memory import cell, main, zipf_pairs


def test_the_documentation_shows_what_the_tool_prints(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out in Path("docs/selector.md").read_text()


def test_pairs_follow_zipfs_law():
    pairs = zipf_pairs(100, 1e6, 5)
    assert abs(pairs.sum() - 1e7) < 100
    assert pairs[0] == np.round(pairs[9] * 10, -1) or abs(pairs[0] / pairs[9] - 10) < 1e-4


def test_a_cell_says_what_the_plan_holds():
    pairs = zipf_pairs(50_304, 1e9, 10)
    assert cell(pairs, 8, 4).startswith("all, ")
    plan = plan_table(pairs, 50_304, 4 << 30, 1)
    assert plan.bytes <= 4 << 30
    assert f"{int(plan.kept.sum()):,}" in cell(pairs, 1, 4)
    assert plan_table(pairs, 50_304, 4 << 30, 2).bytes <= 2 * (4 << 30) / SLACK
    assert cell(np.array([100]), 1, 1e-9) == "nothing fits"
