"""Token ids of many texts at once, as bytes.

The ids are those of `Tokenizer.encode`, to the last one; only the way there is shorter:

- SentencePiece bpe: a piece never reaches over a space, except for one before it, nor over a line's
  end (where the model's pieces say so, which is looked up). Merges on both sides then have nothing
  to do with each other, and each word is encoded once and remembered.
- SentencePiece unigram: in batches. Words are not remembered: its scores are added up from the
  beginning of a text, in single precision, so near ties can fall differently in a word alone.
- Hugging Face: in batches.
- words and characters: a look-up for each.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sentencepiece

from pretrain.data.tokenizers import HuggingFaceTokenizer, SentencePieceTokenizer, TextTokenizer
from pretrain.data.tokenizers.pieces import SPACE

Encoder = Callable[[Sequence[str]], list[bytes]]
"""Texts to the bytes of their ids."""

BPE = 2
"""TrainerSpec.ModelType in sentencepiece_model.proto."""


def make_encoder(tokenizer: TextTokenizer, dtype: np.dtype) -> Encoder:
    """The fastest way to a tokenizer's ids."""
    if isinstance(tokenizer, SentencePieceTokenizer):
        if words_stand_alone(tokenizer.model):
            return _words(tokenizer, dtype)
        return _pieces_in_batches(tokenizer, dtype)
    if isinstance(tokenizer, HuggingFaceTokenizer):
        return lambda texts: [ids.astype(dtype).tobytes() for ids in tokenizer.encode_batch(texts)]
    return lambda texts: [tokenizer.encode(text).astype(dtype).tobytes() for text in texts]


def words_stand_alone(model: bytes) -> bool:
    """Whether a SentencePiece model is bpe, and no piece of it reaches over a space or line end."""
    protocol: Any = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    content = protocol.ModelProto.FromString(model)
    if content.trainer_spec.model_type != BPE or content.trainer_spec.treat_whitespace_as_suffix:
        return False
    pieces = [entry.piece for entry in content.pieces]
    return not any(SPACE in piece[1:] or (len(piece) > 1 and "\n" in piece) for piece in pieces)


def _words(tokenizer: SentencePieceTokenizer, dtype: np.dtype) -> Encoder:
    from tools.preprocessing.cache import WordTable

    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    table = WordTable(lambda words: processor.encode(words, num_threads=1), dtype)

    def encode(texts: Sequence[str]) -> list[bytes]:
        # The sign that pieces have for a space is no space in text.
        found = table.encode([b"" if SPACE in text else text.encode() for text in texts])
        return [
            tokenizer.encode(text).astype(dtype).tobytes() if SPACE in text else ids
            for text, ids in zip(texts, found, strict=True)
        ]

    return encode


def _pieces_in_batches(tokenizer: SentencePieceTokenizer, dtype: np.dtype) -> Encoder:
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)

    def encode(texts: Sequence[str]) -> list[bytes]:
        plain = [text for text in texts if SPACE not in text]
        found = iter(processor.encode(plain, num_threads=1))
        return [
            (tokenizer.encode(text) if SPACE in text else np.array(next(found)))
            .astype(dtype)
            .tobytes()
            for text in texts
        ]

    return encode
