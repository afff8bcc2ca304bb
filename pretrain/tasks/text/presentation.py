"""Texts: the inserted tokens marked; sentences with the token that was selected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pretrain.tasks.presentation import Presentation, plain


class TextPresentation(Presentation):
    """Passages, and sentences with the selected token marked."""

    held_out = "text"
    scoring = "Inserted tokens are paid for: bits of all tokens, per token of the original text."
    caveats = (
        "With an inserted token, the joint figure (inserted token and sentence, per original "
        "token) is the one that compares; it bounds the true one from above, as do ELBO, "
        "importance-weighted (iw), chain and exact figures, each closer. The conditional "
        "figure has the inserted token free of charge, which is a word of the answer: it never "
        "stands alone.",
        "Inserted tokens take positions: of equally many trained tokens, fewer are of the text "
        "itself (original tokens per position).",
    )
    template = "pretrain.tasks.text:sample.html"
    keys: ClassVar = {
        "source": "the text before",
        "target": "true continuation",
        "raw": "as the model wrote it",
        "prediction": "without what it inserted",
    }

    def how_to_read(self, unit_names: Sequence[str], short_names: Sequence[str]) -> str:
        """What is marked."""
        return "Marked: the token that was selected to stand in front of its sentence."

    def sample(
        self,
        sample: Mapping[str, Any],
        order: Sequence[int],
        unit_names: Sequence[str],
        short_names: Sequence[str],
    ) -> dict[str, Any]:
        """The tokens of a sentence and the place of the selected one, or a list of all values."""
        if sample.keys() >= {"tokens", "position"}:
            return {"tokens": sample["tokens"], "position": sample["position"]}
        return plain(sample, self.keys)
