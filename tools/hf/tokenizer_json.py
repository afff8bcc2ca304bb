"""Our tokenizers as a `tokenizer.json`, which transformers' `AutoTokenizer` reads.

Ids are the same. What such a file cannot say exactly is left to the generation code: how words are
put together to text, and that SentencePiece's sign for a space is text where a text has it.
"""

from __future__ import annotations

import importlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any

import sentencepiece

from pretrain.data.tokenizers import (
    CharacterTokenizer,
    HuggingFaceTokenizer,
    LabelTokenizer,
    SentencePieceTokenizer,
    SymbolTokenizer,
    TextTokenizer,
    Tokenizer,
    WordTokenizer,
)
from pretrain.data.tokenizers.base import PAD, UNKNOWN
from pretrain.data.tokenizers.pieces import SPACE
from pretrain.errors import UserError


def tokenizers_package() -> Any:
    """The package `tokenizers`.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module("tokenizers")
    except ImportError:
        raise UserError(
            "writing a tokenizer.json needs the package tokenizers; run: pip install tokenizers"
        ) from None


def special_names(tokenizer: Tokenizer) -> list[tuple[int, str]]:
    """(id, name) of special tokens and labels, rising; no name is that of a token of the text."""
    text = tokenizer.text if isinstance(tokenizer, LabelTokenizer) else tokenizer
    if isinstance(text, SymbolTokenizer):
        return [(text.pad_id, PAD)]
    assert isinstance(text, TextTokenizer)
    taken = _tokens_of_text(text)
    names = list(text.specials)
    if isinstance(tokenizer, LabelTokenizer):
        names += [f"<label:{name}>" for name in tokenizer.names]
    found = []
    for number, name in enumerate(names, start=text.text_ids):
        while name in taken:
            name += "_"
        taken.add(name)
        found.append((number, name))
    return found


def _tokens_of_text(text: TextTokenizer) -> set[str]:
    if isinstance(text, HuggingFaceTokenizer):
        return set(tokenizers_package().Tokenizer.from_str(text.text).get_vocab())
    if isinstance(text, SentencePieceTokenizer):
        processor = sentencepiece.SentencePieceProcessor(model_proto=text.model)
        return {processor.id_to_piece(i) for i in range(text.text_ids)}
    return set(getattr(text, "tokens", ()))


def tokenizer_json(tokenizer: Tokenizer) -> tuple[str, bool]:
    """The content of a `tokenizer.json`, and whether special tokens and labels have names in it.

    They have none where a file of Hugging Face leaves ids out; they keep their ids all the same.

    Raises:
        UserError: the package `tokenizers` is not installed.
    """
    package = tokenizers_package()
    text = tokenizer.text if isinstance(tokenizer, LabelTokenizer) else tokenizer
    names = special_names(tokenizer)
    for kind, build in _BUILDERS.items():
        if isinstance(text, kind):
            built = build(package, text, dict((name, number) for number, name in names))
            break
    else:
        raise TypeError(f"no tokenizer.json for {type(text).__name__}")
    plain: str = built.to_str()
    built.add_special_tokens([package.AddedToken(name, special=True) for _, name in names])
    if any(built.token_to_id(name) != number for number, name in names):
        return plain, False
    whole: str = built.to_str()
    return whole, True


def _each_character(package: Any) -> Any:
    return package.pre_tokenizers.Split(package.Regex(r"[\s\S]"), "isolated")


def _symbols(package: Any, text: SymbolTokenizer, names: dict[str, int]) -> Any:
    ids = {symbol: number for number, symbol in enumerate(text.symbols)}
    built = package.Tokenizer(package.models.WordLevel({**ids, **names}, unk_token="<none>"))
    built.pre_tokenizer = _each_character(package)
    built.decoder = package.decoders.Fuse()
    return built


def _listed(package: Any, text: CharacterTokenizer | WordTokenizer, names: dict[str, int]) -> Any:
    ids = {token: number for number, token in enumerate(text.tokens)}
    unknown = next(n for n, i in names.items() if i == text.special(UNKNOWN))
    built = package.Tokenizer(package.models.WordLevel({**ids, **names}, unk_token=unknown))
    if isinstance(text, WordTokenizer):
        pattern = package.Regex(word_pattern())
        built.pre_tokenizer = package.pre_tokenizers.Split(pattern, "removed", invert=True)
        built.decoder = package.decoders.WordPiece(prefix="##", cleanup=True)
    else:
        built.pre_tokenizer = _each_character(package)
        built.decoder = package.decoders.Fuse()
    return built


@cache
def word_pattern() -> str:
    """The rule by which text is cut into words, with every class of characters spelt out, since
    Python's and Oniguruma's are not the same."""
    digit = _characters(str.isdecimal)
    letter = _characters(lambda c: re.match(r"[^\W\d]", c) is not None)
    mark = _characters(_is_mark)
    sign = _characters(lambda c: re.match(r"[^\w\s]", c) is not None)
    word = rf"[{letter}]+(?:[{mark}]+[{letter}]*)*"
    return rf"[{digit}]|{word}(?:['’]{word})*|[{sign}]"


def _is_mark(character: str) -> bool:
    code = ord(character)
    listed = 0x300 <= code < 0x20000 or 0xE0100 <= code < 0xE01F0
    return listed and unicodedata.category(character)[0] == "M"


def _characters(holds: Callable[[str], bool]) -> str:
    """A class's content: ranges of the characters for which `holds`."""
    ranges: list[list[int]] = []
    for code in chain(range(0xD800), range(0xE000, 0x110000)):
        if not holds(chr(code)):
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(rf"\x{{{a:X}}}" if a == b else rf"\x{{{a:X}}}-\x{{{b:X}}}" for a, b in ranges)


def _pieces(package: Any, text: SentencePieceTokenizer, names: dict[str, int]) -> Any:
    processor = sentencepiece.SentencePieceProcessor(model_proto=text.model)
    pieces = [processor.id_to_piece(i) for i in range(text.text_ids)]
    scores = [processor.get_score(i) for i in range(text.text_ids)]
    unknown = processor.unk_id()
    if _learnt_by_merging(processor, pieces, scores):
        usual = [
            not (processor.is_byte(i) or processor.is_control(i) or processor.is_unknown(i))
            for i in range(text.text_ids)
        ]
        ranks = {p: -s for p, s, ok in zip(pieces, scores, usual, strict=True) if ok}
        model = package.models.BPE(
            {piece: number for number, piece in enumerate(pieces)},
            _merges(ranks),
            unk_token=pieces[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    else:
        model = package.models.Unigram(
            list(zip(pieces, scores, strict=True)), unknown, byte_fallback=True
        )
    built = package.Tokenizer(model)
    built.normalizer = package.normalizers.Replace(" ", SPACE)
    decoders = package.decoders
    built.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return built


def _learnt_by_merging(processor: Any, pieces: Sequence[str], scores: Sequence[float]) -> bool:
    """Whether a model is BPE, whose scores are the numbers of merges."""
    learnt = [
        score
        for number, score in enumerate(scores)
        if len(pieces[number]) > 1
        and not (processor.is_byte(number) or processor.is_unknown(number))
    ]
    return all(score == int(score) for score in learnt)


def _merges(ranks: dict[str, float]) -> list[tuple[str, str]]:
    """Pairs of pieces in the order in which BPE joins them."""
    pairs = [
        (ranks[piece], ranks[piece[:cut]], ranks[piece[cut:]], piece[:cut], piece[cut:])
        for piece in ranks
        for cut in range(1, len(piece))
        if piece[:cut] in ranks and piece[cut:] in ranks
    ]
    return [(left, right) for *_, left, right in sorted(pairs)]


def _hugging_face(package: Any, text: HuggingFaceTokenizer, names: dict[str, int]) -> Any:
    values = json.loads(text.text)
    values |= {"post_processor": None, "truncation": None, "padding": None}
    return package.Tokenizer.from_str(json.dumps(values))


_BUILDERS: dict[Any, Callable[..., Any]] = {
    SymbolTokenizer: _symbols,
    CharacterTokenizer: _listed,
    WordTokenizer: _listed,
    SentencePieceTokenizer: _pieces,
    HuggingFaceTokenizer: _hugging_face,
}


def is_known(tokenizer: Tokenizer) -> bool:
    """Whether there can be a `tokenizer.json` of it."""
    text = tokenizer.text if isinstance(tokenizer, LabelTokenizer) else tokenizer
    return type(text) in _BUILDERS


def tokenizer_config(tokenizer: Tokenizer, length: int, named: bool) -> dict[str, Any]:
    """What stands beside a `tokenizer.json`.

    Args:
        length: positions of the model.
        named: whether special tokens have names in it.
    """
    values: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": length,
        "clean_up_tokenization_spaces": False,
        # A text that spells a special token does not become one.
        "split_special_tokens": True,
        "add_bos_token": False,
        "add_eos_token": False,
    }
    if named:
        names = dict(special_names(tokenizer))
        # Without an end, as in arithmetic, padding stands for it: tools insist on one.
        values["pad_token"] = values["eos_token"] = names[tokenizer.pad_id]
        for role, special in (("eos_token", "<end>"), ("unk_token", UNKNOWN)):
            try:
                values[role] = names[tokenizer.special(special)]
            except KeyError:
                continue
    return values


def differing(tokenizer: Tokenizer, content: str, texts: Iterable[str]) -> str | None:
    """The first of `texts` that a `tokenizer.json` encodes in another way; None if none is."""
    read = tokenizers_package().Tokenizer.from_str(content)
    read.encode_special_tokens = True
    for text in texts:
        if read.encode(text, add_special_tokens=False).ids != tokenizer.encode(text).tolist():
            return text
    return None
