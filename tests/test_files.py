import pytest

from pretrain.files import written_whole


def fail_half_way(path):
    with written_whole(path) as beside:
        beside.write_text("half")
        raise ZeroDivisionError


def test_a_file_is_there_whole_or_as_it_was(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        fail_half_way(path)
    assert path.read_text() == "old"
    with written_whole(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
