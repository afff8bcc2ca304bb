import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.data.sentences import split_sentences

PIECES = st.sampled_from(
    ["Mr. ", "A.", "é. ", "1. ", "3.4 ", "\u2028", "\u2029. ", "\x85", "\u00a0", "\u3000", "\ud800",
     "\n", "\n\n", " \n \n", "word ", "Word. ", "! ", "? ", "...", "<plan>",
     "</plan>", "👩\u200d🚀", "“", "”"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=30).map("".join)))
@settings(max_examples=500)
def test_pieces_join_to_the_document(text):
    pieces = split_sentences(text)
    assert "".join(pieces) == text
    assert all(pieces)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", []),
        (" \n", [" \n"]),
        ("To be, or not\nto be. That is\nit!", ["To be, or not\nto be. ", "That is\nit!"]),
        ("Mr. Ford is out.  Is he?\n", ["Mr. Ford is out.  ", "Is he?\n"]),
        ("ACT I\n\nSCENE 1\n \n\nEnter", ["ACT I\n\n", "SCENE 1\n \n\n", "Enter"]),
    ],
)
def test_sentences(text, expected):
    assert split_sentences(text) == expected
