import pytest
from rouge_score.tokenizers import DefaultTokenizer

from pretrain.tasks.text.rouge import Words, rouge, words_of
from pretrain.tasks.text.scores import generation_metrics

SCRIPTS = [
    "Привет, мир", "Καλημέρα κόσμε", "今日は良い天気", "नमस्ते दुनिया", "สวัสดีชาวโลก", "مرحبا بالعالم",
    "안녕 세상", "über das Meer",
]  # fmt: skip


def test_rouge_of_known_pairs():
    # Stems are compared: kings and king are one word.
    found = rouge([("the kings of france", "the king of spain"), ("a b c", "")])
    assert found == pytest.approx({"rouge1": 0.75 / 2, "rouge2": (2 / 3) / 2, "rougeL": 0.75 / 2})
    metrics = {m.name: m.value for m in generation_metrics([[1, 2]], [("a b", "a b")])}
    assert metrics["rougeL"] == metrics["distinct_1"] == 1.0


@pytest.mark.parametrize("text", SCRIPTS)
def test_a_text_is_like_itself_in_every_script(text):
    assert rouge([(text, text)]) == {"rouge1": 1.0, "rouge2": 1.0, "rougeL": 1.0}


def test_another_letter_is_another_word():
    assert rouge([("ber", "über")])["rouge1"] == 0.0
    assert rouge([("мир дому", "мир сад")])["rouge1"] == 0.5


def test_text_without_spaces_is_compared_by_characters():
    # Two of three characters, and one of two pairs.
    assert rouge([("天气好", "天气坏")]) == pytest.approx(
        {"rouge1": 2 / 3, "rouge2": 1 / 2, "rougeL": 2 / 3}
    )
    assert words_of("GPT在中国 2024年") == ["GPT", "在", "中", "国", "2024", "年"]
    assert words_of("กำลัง") == ["ก", "ำ", "ลั", "ง"]


def test_marks_and_joiners_belong_to_their_word():
    assert words_of("नमस्ते, दुनिया!") == ["नमस्ते", "दुनिया"]
    assert words_of("می\u200cخواهم") == ["می\u200cخواهم"]
    assert Words().tokenize("E\u0301cole") == Words().tokenize("école")
    assert Words().tokenize("ΚΌΣΜΟΣ") == Words().tokenize("κόσμος")


@pytest.mark.parametrize(
    "text", ["The king's 12 kings weren't running_home, e.g. to A-1!", "", "?! .", "x\ty\nz"]
)
def test_ascii_has_the_words_of_rouge_score(text):
    assert Words().tokenize(text) == DefaultTokenizer(use_stemmer=True).tokenize(text)
