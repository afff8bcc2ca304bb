"""Reports on a comparison of strategies: summary, terminal table, plot and a page to read.

The caller trains one model per strategy and seed and hands over one `RunResult` for each.
Everything here is arithmetic on those figures: no training, no network.
"""

from tools.report.findings import caveats, headline
from tools.report.results import Comparison, RunResult, check
from tools.report.summary import summarise
from tools.report.terminal import format_table
from tools.report.words import abbreviate

__all__ = [
    "Comparison",
    "RunResult",
    "abbreviate",
    "caveats",
    "check",
    "format_table",
    "headline",
    "summarise",
]
