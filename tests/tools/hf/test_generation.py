"""Answers in natural order, from checkpoints and from exports alike."""

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from pretrain.data.tokenizers import (
    CharacterTokenizer,
    HuggingFaceTokenizer,
    LabelTokenizer,
    SymbolTokenizer,
    WordTokenizer,
    save_tokenizer,
    split_words,
    train_pieces,
)
from pretrain.data.tokenizers.pieces import PROBES
from pretrain.selection.orders.transforms import Insert, Reorder
from tests.tools.hf.models import ARITHMETIC, LLAMA, config_of, save
from tools import export_hf, generate
from tools.hf.facts import facts_of
from tools.hf.restored_generation import Restorer
from tools.hf.tokenizer_json import differing, tokenizer_json
from tools.hf.trained import Trained

TEXT = (Path(__file__).parents[3] / "data" / "shakespeare.sample.txt").read_text()[:20_000]
LABELS = ("game", "role::program", "the")


def byte_pairs() -> HuggingFaceTokenizer:
    built = tokenizers.Tokenizer(tokenizers.models.BPE())
    pre = tokenizers.pre_tokenizers
    built.pre_tokenizer = pre.Sequence(
        [pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]
    )
    built.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=350,
        special_tokens=["<pad>"],  # one of ours has the same name
        initial_alphabet=pre.ByteLevel.alphabet(),
        show_progress=False,
    )
    built.train_from_iterator(TEXT.splitlines(), trainer)
    return HuggingFaceTokenizer(built.to_str())


WORDS = WordTokenizer.from_counts(Counter(split_words(TEXT)), 60)
TOKENIZERS = {
    "symbols": lambda: SymbolTokenizer("0123456789+-*="),
    "characters": lambda: CharacterTokenizer.from_counts(Counter(TEXT), 40),
    "words": lambda: WORDS,
    "labels": lambda: LabelTokenizer(WORDS, LABELS),
    "unigram": lambda: train_pieces(TEXT.splitlines(), "unigram", 450),
    "bpe": lambda: train_pieces(TEXT.splitlines(), "bpe", 450),
    "hugging face": byte_pairs,
}


def odd_texts() -> list[str]:
    """Real lines, and characters from everywhere among them."""
    chance = random.Random(0)
    codes = [code for code in range(0x30000) if not 0xD800 <= code < 0xE000 and code != 0x2581]
    soup = [
        "".join(
            chr(chance.choice(codes)) if chance.random() < 0.3 else chance.choice(TEXT)
            for _ in range(30)
        )
        for _ in range(300)
    ]
    return [*soup, *TEXT.splitlines()[:200], *PROBES, "<pad> <end> <label:game> 12 o'er", "²½x①"]


@pytest.mark.parametrize("name", list(TOKENIZERS))
def test_a_tokenizer_json_encodes_as_ours(name):
    tokenizer = TOKENIZERS[name]()
    content, named = tokenizer_json(tokenizer)
    assert named
    texts = ["35*07=", "1234567890+-"] if name == "symbols" else odd_texts()
    assert differing(tokenizer, content, texts) is None
    read = tokenizers.Tokenizer.from_str(content)
    assert len(read.get_vocab()) == tokenizer.size
    if name not in ("words", "labels"):
        for text in texts:
            ids = tokenizer.encode(text).tolist()
            assert read.decode(ids) == tokenizer.decode(ids)


@pytest.mark.parametrize("name", ["unigram", "bpe", "hugging face"])
def test_a_tokenizer_json_decodes_text_that_is_cut_inside_a_character_as_ours(name):
    tokenizer = TOKENIZERS[name]()
    read = tokenizers.Tokenizer.from_str(tokenizer_json(tokenizer)[0])
    chance = random.Random(1)
    for text in ["naïve 天気 🚀x", *odd_texts()[:60]]:
        ids = tokenizer.encode(text).tolist()
        end = chance.randrange(len(ids))
        some = [chance.randrange(1, tokenizer.text_ids) for _ in range(20)]
        for cut in (ids[:end], ids[end:], some):
            assert read.decode(cut) == tokenizer.decode(cut)


def test_what_a_tokenizer_json_encodes_otherwise_is_found():
    content, _ = tokenizer_json(CharacterTokenizer("ab"))
    assert differing(CharacterTokenizer("ba"), content, ["", "ab"]) == "ab"


def restorer(tmp_path, task: str, strategy: str, selection=None, longest=0) -> Restorer:
    return Restorer(
        facts_of(Trained.read(checkpoint(tmp_path, task, strategy, selection, longest)))
    )


def checkpoint(tmp_path, task="arithmetic", strategy="max_mi", selection=None, longest=2) -> Path:
    folder = tmp_path / "run" / "checkpoints" / "step-00000007"
    if task == "arithmetic":
        save(folder, config_of({"tie_embeddings": False}))
        return folder
    names = LABELS if task == "multilabel" else ()
    chosen = {"strategy": strategy, "order": (2, 0, 1)[: len(names)], "unit_names": names}
    data = {"task": task, "path": "not/there.txt"}
    config = config_of(
        {**LLAMA, "sequence_length": 24}, data=data, selection={"strategy": strategy}
    )
    rows = WORDS.size + len(names)
    save(folder, config, -(-rows // 8) * 8, selection or chosen, longest=longest)
    save_tokenizer(WORDS, tmp_path / "run" / "vocabulary.json")
    return folder


def test_digits_are_put_back(tmp_path):
    found = restorer(tmp_path, "arithmetic", "max_mi")
    written = found.write([3, 5], lambda tokens, count, *_: list(range(count)))
    natural = found.restore(written)
    assert natural == Reorder(ARITHMETIC["order"]).restore(np.arange(4)).tolist()
    assert found.show(natural, SymbolTokenizer("0123456789+-*=").decode, False) == "3102"


def test_labels_are_written_once_and_sorted(tmp_path):
    found = restorer(tmp_path, "multilabel", "max_mi", longest=3)
    first, end = found.first_label, found.end
    asked = []

    def go_on(tokens, count, allowed, stop):
        asked.append((tokens, count, stop))
        written = [first + 2, first]
        assert allowed([]) == [first, first + 1, first + 2, end]
        assert allowed(written) == [first + 1, end]
        assert allowed([*written, end]) == [end]
        return [*written, end]

    written = found.write([1] * 40, go_on)
    # 24 positions, of which a mark and three labels take four.
    assert asked == [([1] * 20 + [WORDS.special("<plan>")], 3, end)]
    assert found.show(found.restore(written), WORDS.decode, False) == "game, the"
    assert found.show(written, WORDS.decode, True) == "the, game <end>"


@pytest.mark.parametrize("strategy", ["max_mi", "first", "blank", "ntp"])
def test_planned_tokens_are_taken_away(strategy, tmp_path):
    found = restorer(tmp_path, "text", strategy)
    plan, close, end, blank = (
        WORDS.special(name) for name in ("<plan>", "</plan>", "<end>", "<blank>")
    )
    laid = [plan, 7, close, 1, 7, 2, close, plan, 9, close, 3]
    prompts = []

    def go_on(tokens, count, allowed, stop):
        prompts.append(tokens)
        return [5] if count == 1 else [*laid, end, 4]

    written = found.write([8, 6], go_on)
    before = {"max_mi": [plan, 5, close], "first": [plan, 8, close], "blank": [plan, blank, close]}
    assert prompts[-1] == [end, *before.get(strategy, []), 8, 6]
    if strategy == "ntp":
        assert found.restore(written) == laid
        return
    expected = Insert(plan, close).restore(np.array(laid)).tolist()
    assert found.restore(written) == expected
    assert found.restore([1, plan, 7]) == [1]  # cut off before its closing mark


@pytest.mark.parametrize("strategy", ["max_mi", "first"])
def test_tokens_that_left_a_slot_are_put_back(strategy, tmp_path):
    facts = restorer(tmp_path, "text", strategy).facts
    assert facts["slot"] is False
    found = Restorer({**facts, "slot": True})
    plan, close, end, slot = (
        WORDS.special(name) for name in ("<plan>", "</plan>", "<end>", "<blank>")
    )
    prompts = []

    def go_on(tokens, count, allowed, stop):
        prompts.append(tokens)
        if count == 1:
            return [5]
        return [1, slot, slot, plan, 7, close, 1, slot, 2, slot, plan, 9, close, 3, end, 4]

    written = found.write([8, 6], go_on)
    if strategy == "max_mi":  # the prompt's token goes to the first slot of its sentence
        assert prompts[-1] == [end, plan, 5, close, 8, 6]
        assert found.restore(written) == [1, 5, 1, 7, 2, 3]
    else:  # which is in the prompt
        assert prompts[-1] == [end, plan, 8, close, slot, 6]
        assert found.restore(written) == [1, 1, 7, 2, 3]
    laid = written[: written.index(end)]
    expected = Insert(plan, close, slot=slot).restore(np.array(laid)).tolist()
    assert found.restore(written) == expected


PROMPTS = {
    "arithmetic": "35*07=",
    "multilabel": " ".join(WORDS.tokens[:9]),
    "text": " ".join(WORDS.tokens[:6]),
}


@pytest.mark.parametrize("task", list(PROMPTS))
def test_transformers_and_ours_write_the_same(task, tmp_path, capsys):
    folder = checkpoint(tmp_path, task)
    out = tmp_path / "out"
    assert export_hf.main(["--checkpoint", str(folder.parents[1]), "--out", str(out)]) == 0
    capsys.readouterr()
    answers = []
    for source in (["--checkpoint", str(folder)], ["--model", str(out)]):
        for more in ([], ["--raw"]):
            prompt = ["--prompt", PROMPTS[task]] * 2 + ["--max-tokens", "12"]
            assert generate.main([*source, *prompt, *more]) == 0
            answers.append(capsys.readouterr().out)
    assert answers[:2] == answers[2:]
    natural, raw = (answer.split("\n")[0] for answer in answers[:2])
    assert natural
    if task == "arithmetic":
        assert [natural[place] for place in ARITHMETIC["order"]] == list(raw)
    if task == "multilabel":
        assert natural.split(", ") == sorted(natural.split(", "))
    if task == "text":  # the file in the folder says the same by itself
        command = [sys.executable, out / "restored_generation.py", PROMPTS[task]]
        alone = subprocess.run(
            [*command, "--max-tokens", "12"], cwd=tmp_path, capture_output=True, text=True
        )
        assert alone.stdout == natural + "\n", alone.stderr
    assert json.loads((out / "config.json").read_text())["vocab_size"] % 8 == 0
    assert "abcdef" in (out / "README.md").read_text()


def test_what_is_drawn_depends_on_the_seed_and_stays_within_bounds(tmp_path, capsys):
    folder = checkpoint(tmp_path)

    def drawn(*more: str) -> str:
        command = ["--checkpoint", str(folder), "--prompt", "35*07=", "--raw", *more]
        assert generate.main(command) == 0
        return capsys.readouterr().out

    likeliest = drawn()
    hot = [drawn("--temperature", "5", "--seed", str(seed)) for seed in (1, 1, 2)]
    assert hot[0] == hot[1] != hot[2]
    assert drawn("--temperature", "5", "--top-k", "1") == likeliest
    assert drawn("--temperature", "5", "--top-p", "1e-6") == likeliest


@pytest.mark.parametrize(
    "options,message",
    [
        (["--prompt", "3*7="], "expected the form 35\\*07="),
        ([], "nothing to answer"),
        (["--prompt", "35*07=", "--top-p", "0"], "--top-p 0.0: expected above 0"),
        (["--prompts", "not/there"], "cannot be read"),
    ],
)
def test_what_cannot_be_answered_is_said(options, message, tmp_path, capsys):
    assert generate.main(["--checkpoint", str(checkpoint(tmp_path)), *options]) == 2
    said = capsys.readouterr().err
    assert message.replace("\\", "") in said
