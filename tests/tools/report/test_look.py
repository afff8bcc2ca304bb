from tools.report.look import looks_of


def test_known_strategies_keep_their_look_and_all_looks_differ() -> None:
    names = ["max_mi", "mine", "ntp", "other"]
    looks = looks_of(names)
    assert looks["max_mi"] == looks_of(["max_mi"])["max_mi"]
    assert len(set(looks.values())) == len(names)
