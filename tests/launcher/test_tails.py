"""Ends of files that are half written, growing, long or missing."""

from launcher.tails import json_object, tail


def test_half_a_line_is_left_out_until_it_is_whole(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2')
    assert [line["step"] for line in tail(path).objects] == [1]
    with open(path, "a") as file:
        file.write("}\n")
    assert tail(path).last == {"step": 2}


def test_only_the_end_of_a_long_file_is_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {step:08d}1}}\n'.replace(" 0", " 1") for step in range(9)))
    size = len(path.read_bytes().splitlines(keepends=True)[0])
    read = tail(path, size=3 * size + 5)
    assert len(read.objects) == 3
    assert not read.whole
    assert tail(path).whole


def test_a_line_longer_than_the_end_that_is_read_is_still_found(tmp_path):
    path = tmp_path / "evaluation.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "samples": "' + "x" * 5_000 + '"}\n')
    assert tail(path, size=64).last["step"] == 2


def test_lines_that_are_no_objects_and_files_that_are_missing_are_empty(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'\xff\xfe\n[1]\n{"step": 3}\nnull\n')
    assert tail(path).objects == ({"step": 3},)
    assert tail(tmp_path / "none").objects == ()
    assert json_object(path) == json_object(tmp_path) == json_object(tmp_path / "none") == {}
