"""Pieces of words, learnt by SentencePiece."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator

import numpy as np
import sentencepiece

from pretrain.data.tokenizers.base import PROBES, SPECIALS, TextTokenizer, digest
from pretrain.errors import UserError

SPACE = "▁"
"""Stands for a space in pieces. In text it is encoded as its bytes, so that it comes back."""
APART = "\x1f"
"""Parts digits from what is beside them in the training, which itself knows only those of ASCII."""
RESERVED = str.maketrans({SPACE: " ", "▅": " ", "\0": " ", APART: " "})
"""A line with one of these would be left out of the training, or be taken for parted."""
OTHER_DIGIT = re.compile(r"(?![0-9])\d")
INPUT_SENTENCES = 10_000_000
"""Training reads this many lines, from the first on."""


class SentencePieceTokenizer(TextTokenizer):
    """Pieces of a SentencePiece model, and bytes for what no piece covers.

    Every text that UTF-8 can express comes back from its ids unchanged.

    Args:
        model: the bytes of a .model file.
        any_digits: its pieces may join digits.

    Raises:
        ValueError: it is damaged, changes text, or joins digits.
    """

    def __init__(self, model: bytes, any_digits: bool = False) -> None:
        self.model = model
        self._processor = _processor(model)
        count = self._processor.get_piece_size()
        super().__init__(count, SPECIALS)
        pieces = [self._processor.id_to_piece(i) for i in range(count)]
        byte = [self._processor.is_byte(i) for i in range(count)]
        silent = [
            self._processor.is_control(i) or self._processor.is_unknown(i) for i in range(count)
        ]
        self._content: list[str | int] = [
            "" if hidden else int(piece[3:5], 16) if raw else piece.replace(SPACE, " ")
            for piece, raw, hidden in zip(pieces, byte, silent, strict=True)
        ]
        """What each id stands for: text, or one byte."""
        if sum(byte) != 256:
            raise ValueError("the model has no bytes to fall back to; train it with byte_fallback")
        self._space_ids = [self._processor.piece_to_id(f"<0x{b:02X}>") for b in SPACE.encode()]
        joined = [p for p, raw in zip(pieces, byte, strict=True) if not raw and _joins_digits(p)]
        if joined and not any_digits:
            raise ValueError(
                f"the model joins digits with others ({', '.join(map(repr, joined[:3]))}), and "
                "digits must be single; train it with split_digits"
            )
        self._check_round_trips()

    def token_id(self, name: str) -> int | None:
        """Id of a piece of the model, such as `</s>`, or of ours; None if there is none of it."""
        found = self._processor.piece_to_id(name)
        return found if self._processor.id_to_piece(found) == name else super().token_id(name)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the model and the special tokens."""
        return digest("sentencepiece", self.specials, hashlib.sha256(self.model).hexdigest())

    def encode(self, text: str) -> np.ndarray:
        """[tokens] int64."""
        first, *others = (part.encode() for part in text.split(SPACE))
        ids = list(self._processor.encode(first))
        for part in others:
            ids += self._space_ids
            ids += self._processor.encode(part)
        return np.array(ids, dtype=np.int64)

    def content(self) -> bytes:
        """The model."""
        return self.model

    def _text(self, ids: list[int], specials: bool) -> str:
        """Bytes in a row that are no UTF-8, as where text was cut inside a character, are a
        U+FFFD each, as in the `tokenizer.json` that is exported."""
        parts: list[str] = []
        run = bytearray()
        for content in map(self._content.__getitem__, ids):
            if isinstance(content, int):
                run.append(content)
                continue
            if run:
                parts.append(_decoded(run))
                run = bytearray()
            parts.append(content)
        return "".join([*parts, _decoded(run)])

    def _check_round_trips(self) -> None:
        for text in PROBES:
            back = self.decode(self.encode(text))
            if back != text:
                raise ValueError(
                    f"the model turns {text!r} into {back!r}; train it with "
                    "add_dummy_prefix=False, remove_extra_whitespaces=False and "
                    "normalization_rule_name=identity"
                )


def train_pieces(lines: Iterable[str], kind: str, size: int) -> SentencePieceTokenizer:
    """Learn pieces; the same lines give the same bytes.

    Args:
        lines: training text; those after the first `INPUT_SENTENCES` are not read.
        kind: unigram or bpe.
        size: of the tokenizer, special tokens included.

    Raises:
        UserError: the text is too small, or too rich in characters, for this size; or what the
            lines raise.
    """
    model = io.BytesIO()
    wanted = size - len(SPECIALS)
    if wanted < 1:
        raise UserError(_too_small(size, len(SPECIALS) + 258))
    refused: list[UserError] = []
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_clean(lines, refused),
            model_writer=model,
            model_type=kind,
            vocab_size=wanted,
            byte_fallback=True,
            split_digits=True,
            pretokenization_delimiter=APART,
            required_chars="0123456789",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            normalization_rule_name="identity",
            input_sentence_size=INPUT_SENTENCES,
            shuffle_input_sentence=False,
            max_sentence_length=2**30,
            num_threads=1,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise (refused or [UserError(_explained(str(error), size))])[0] from None
    return SentencePieceTokenizer(model.getvalue())


def _clean(lines: Iterable[str], refused: list[UserError]) -> Iterator[str]:
    """What SentencePiece reads. It turns errors into its own, so ours are put aside as well."""
    try:
        for text in lines:
            parted = OTHER_DIGIT.sub(rf"{APART}\g<0>{APART}", text.translate(RESERVED))
            yield from filter(None, parted.split("\n"))
    except UserError as error:
        refused.append(error)
        raise


def _explained(message: str, size: int) -> str:
    """SentencePiece's message as ours, where it is one about the size."""
    if found := re.search(r"value <= (\d+)", message):
        largest = int(found[1]) + len(SPECIALS)
        return (
            f"size {size} is more than the text yields; the largest possible is {largest} "
            f"({len(SPECIALS)} of them special tokens): use it, or more text"
        )
    if found := re.search(r"smaller than required_chars\D*\d+\D+(\d+)", message):
        return _too_small(size, int(found[1]) + len(SPECIALS))
    return f"SentencePiece cannot learn from this text: {message.strip()}"


def _too_small(size: int, smallest: int) -> str:
    return (
        f"size {size} is too small for the text's characters, 256 bytes and {len(SPECIALS)} "
        f"special tokens; use {smallest} or more"
    )


def _processor(model: bytes) -> sentencepiece.SentencePieceProcessor:
    try:
        if not model:
            raise RuntimeError("it is empty")
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        if not processor.get_piece_size():
            raise RuntimeError("it has no pieces")
    except RuntimeError as error:
        why = str(error).splitlines()[0].strip()
        raise ValueError(
            f"no SentencePiece model, or a damaged one ({why}); copy it again, or train it with "
            "tools.train_tokenizer"
        ) from None
    return processor


def _decoded(raw: bytearray) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "\ufffd" * len(raw)


def _joins_digits(piece: str) -> bool:
    return len(piece) > 1 and any(character.isdecimal() for character in piece)
