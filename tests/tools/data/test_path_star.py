import json
from pathlib import Path

import pytest

from tools.data.path_star import main


def made(tmp_path: Path, *options: str) -> list[list[dict]]:
    paths = [tmp_path / "train.jsonl", tmp_path / "test.jsonl"]
    assert main(["--out", str(paths[0]), "--test", str(paths[1]), *options, "--json"]) == 0
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in paths]


def test_the_path_is_the_only_way_from_the_start_to_the_goal(tmp_path, capsys):
    shape = ["--paths", "3", "--length", "4", "--nodes", "12"]
    train, test = made(tmp_path, *shape, "--examples", "200", "--test-examples", "50")
    assert json.loads(capsys.readouterr().out)["examples"] == len(train) == 200
    assert len(test) == 50
    first_arms = set()
    for record in (*train, *test):
        source, target = record["source"], record["target"]
        edges = [(source[f"from{n}"], source[f"to{n}"]) for n in range(1, 10)]
        assert len(source) == 2 * 9 + 2
        before = {end: begin for begin, end in edges}  # each node is entered once
        assert len(before) == 9
        path = [source["goal"]]
        while path[-1] != source["start"]:
            path.append(before[path[-1]])
        assert [target[f"step{n}"] for n in range(1, 5)] == path[::-1]
        assert sum(begin == source["start"] for begin, _ in edges) == 3
        assert len({node for edge in edges for node in edge}) == 10
        first_arms.add(edges.index((path[-1], path[-2])))
    assert len(first_arms) == 9  # edges stand in random order


def test_sides_are_disjoint_and_a_seed_repeats_them(tmp_path):
    small = ["--paths", "2", "--length", "2", "--nodes", "6", "--examples", "80", "--seed", "3"]
    train, test = made(tmp_path, *small, "--test-examples", "20")
    sources = [json.dumps(record["source"]) for record in (*train, *test)]
    assert len(set(sources)) == 100
    again = made(tmp_path, *small, "--test-examples", "20")
    assert again == [train, test]
    small[-1] = "4"
    assert made(tmp_path, *small, "--test-examples", "20") != again


@pytest.mark.parametrize(
    "options, said",
    [
        (["--nodes", "5"], "--paths 3 --length 4 needs at least 2 nodes on a path and --nodes 10"),
        (["--length", "1"], "needs at least 2 nodes on a path"),
        (["--paths", "1", "--length", "2", "--nodes", "3"], "are too many to draw"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_nothing_written(tmp_path, capsys, options, said):
    out = tmp_path / "out.jsonl"
    assert main(["--out", str(out), *options]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()
