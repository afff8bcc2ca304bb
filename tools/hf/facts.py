"""What `restored_order.json` says of a model, for :mod:`tools.hf.restored_generation`."""

from __future__ import annotations

from typing import Any

from pretrain.data.tokenizers import (
    LabelTokenizer,
    SentencePieceTokenizer,
    TextTokenizer,
    Tokenizer,
    WordTokenizer,
)
from pretrain.data.tokenizers.pieces import SPACE
from tools.hf.restored_generation import FORMAT
from tools.hf.trained import Trained

MARKS = {"end_id": "<end>", "plan_id": "<plan>", "close_id": "</plan>", "blank_id": "<blank>"}


def facts_of(trained: Trained) -> dict[str, Any]:
    """How the model's tokens are put back into natural order, as JSON values."""
    config, tokenizer = trained.config, trained.tokenizer
    text = tokenizer.text if isinstance(tokenizer, LabelTokenizer) else tokenizer
    texts = isinstance(text, TextTokenizer)
    labels = list(tokenizer.names) if isinstance(tokenizer, LabelTokenizer) else []
    positions = config.model.sequence_length
    longest = trained.manifest.state.get("longest", min(len(labels), positions // 2))
    told = config.data.restoration(trained.strategy)
    return {
        "format": FORMAT,
        "kind": told.kind,
        "strategy": trained.strategy,
        "slot": config.selection.plan_slot,
        "order": list(trained.order) if told.kind == "reorder" else [],
        "unit_names": list(trained.unit_names),
        "fingerprint": trained.manifest.fingerprint,
        "positions": positions,
        "text_ids": text.text_ids if isinstance(text, TextTokenizer) else text.pad_id,
        "pad_id": tokenizer.pad_id,
        **{key: text.special(name) if texts else None for key, name in MARKS.items()},
        "specials": _specials(text),
        "labels": labels,
        "first_label": text.size,
        "text_tokens": positions - longest - 1,
        "longest": longest,
        "form": told.form,
        "example": told.example,
        "words": isinstance(text, WordTokenizer),
        "space": _space(text),
    }


def _specials(text: Tokenizer) -> dict[int, str]:
    if isinstance(text, TextTokenizer):
        return dict(enumerate(text.specials, start=text.text_ids))
    return {text.pad_id: "<pad>"}


def _space(text: Tokenizer) -> dict[str, Any] | None:
    """SentencePiece's sign for a space, as its bytes."""
    if not isinstance(text, SentencePieceTokenizer):
        return None
    return {"text": SPACE, "ids": text.encode(SPACE).tolist()}
