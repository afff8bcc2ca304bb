"""Generation in natural order with a model that predicts the information-rich token first.

    python restored_generation.py "35*07=" [--raw] [--max-tokens N] [--temperature T]

    from restored_generation import Exported
    Exported.load("FOLDER").generate("35*07=")

A model of this kind writes digits or labels in an order of its own, or one token of a sentence in
front of it between two marks. `restored_order.json`, beside this file, says how. Needs torch and
transformers, and nothing else.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

FACTS = "restored_order.json"
FORMAT = 2
CONTINUATION = 64
"""Tokens that a text is continued by, if nobody says how many."""


class GoOn(Protocol):
    """A model that continues tokens."""

    def __call__(
        self,
        tokens: list[int],
        count: int,
        allowed: Callable[[list[int]], list[int]] | None,
        end: int | None,
    ) -> list[int]:
        """Up to `count` tokens after `tokens`, without those.

        Args:
            allowed: tokens written so far -> those that may come next; any if not given.
            end: token after which to stop, which is part of the result; None for no such token.
        """
        ...


class Restorer:
    """What is given to a model, and what is made of its tokens.

    Args:
        facts: content of `restored_order.json`.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        if facts.get("format") != FORMAT:
            raise ValueError(
                f"{FACTS}: format {facts.get('format')!r}, expected {FORMAT}; use the "
                "restored_generation.py beside it, or export the model again"
            )
        self.facts = facts
        self.kind: str = facts["kind"]
        self.strategy: str = facts["strategy"]
        self.order: list[int] = facts["order"]
        self.text_ids: int = facts["text_ids"]
        self.end: int | None = facts["end_id"]
        self.labels: list[str] = facts["labels"]
        self.first_label: int = facts["first_label"]
        self.names = {int(number): name for number, name in facts["specials"].items()}

    @property
    def inserts(self) -> bool:
        """Whether a token stands in front of each sentence."""
        return self.kind == "insert"

    def check(self, text: str) -> None:
        """Refuse a prompt that the model cannot know what to do with.

        Raises:
            ValueError: says what a prompt looks like.
        """
        form = self.facts["form"]
        if form and not re.fullmatch(form, text):
            raise ValueError(f"prompt {text!r}: expected the form {self.facts['example']}")

    def write(self, tokens: list[int], go_on: GoOn, most: int | None = None) -> list[int]:
        """What the model writes after a prompt of these tokens, in its own order.

        Args:
            most: tokens of a continuation (text); inserted ones count.

        Raises:
            ValueError: the prompt leaves no room.
        """
        if self.kind == "reorder":
            return go_on(tokens, len(self.order), None, None)
        if self.kind == "labels":
            cut = tokens[: self.facts["text_tokens"]]
            return go_on(
                [*cut, self.facts["plan_id"]], self.facts["longest"], self._labels, self.end
            )
        plan = self._plan(tokens, go_on)
        if plan and self.facts.get("slot") and self.strategy == "first":
            tokens = [self.facts["blank_id"], *tokens[1:]]
        prompt = [self.end, *plan, *tokens]
        room = self.facts["positions"] - len(prompt) + 1
        if room < 1:
            raise ValueError(
                f"the prompt has {len(tokens)} tokens, the model room for "
                f"{self.facts['positions']}; give a shorter one"
            )
        known: list[int] = [token for token in prompt if token is not None]
        written = go_on(known, min(CONTINUATION if most is None else most, room), None, self.end)
        return self._announced(written, known)

    def _announced(self, written: list[int], known: list[int]) -> list[int]:
        """What was written with the prompt's own token in its slot, where it left one behind."""
        opening, closing = self.facts["plan_id"], self.facts["close_id"]
        if not self.facts.get("slot") or known[1:2] != [opening]:
            return written
        blank, ends = self.facts["blank_id"], [*written, opening].index(opening)
        if self.strategy == "first" or known[3:4] != [closing] or blank not in written[:ends]:
            return written
        place = written.index(blank)
        return [*written[:place], known[2], *written[place + 1 :]]

    def _filled(self, written: list[int]) -> list[int]:
        """Tokens in which each inserted one stands in the first slot behind it; other slots are
        taken away."""
        opening, closing = self.facts["plan_id"], self.facts["close_id"]
        filled: list[int] = []
        token = None
        for place, each in enumerate(written):
            if written[place - 1 : place] == [opening] and written[place + 1 : place + 2] == [
                closing
            ]:
                token = each
            elif each == self.facts["blank_id"]:
                filled += [] if token is None else [token]
                token = None
                continue
            filled.append(each)
        return filled

    def _plan(self, tokens: list[int], go_on: GoOn) -> list[int]:
        """What stands in front of the prompt: the token that its sentence would be announced by."""
        if not self.inserts or not tokens:
            return []
        opening, closing = self.facts["plan_id"], self.facts["close_id"]
        if self.strategy == "blank":
            return [opening, self.facts["blank_id"], closing]
        if self.strategy == "first":
            return [opening, tokens[0], closing]
        text = list(range(self.text_ids))
        assert self.end is not None
        return [opening, *go_on([self.end, opening], 1, lambda _: text, None), closing]

    def _labels(self, written: list[int]) -> list[int]:
        """Labels that are not written yet, and the end."""
        assert self.end is not None
        if self.end in written:
            return [self.end]
        labels = range(self.first_label, self.first_label + len(self.labels))
        return [*(token for token in labels if token not in written), self.end]

    def restore(self, written: list[int]) -> list[int]:
        """Tokens in natural order, without what was inserted."""
        if self.kind == "reorder":
            natural = [0] * len(self.order)
            for place, token in zip(self.order, written, strict=True):
                natural[place] = token
            return natural
        if self.end in written:
            written = written[: written.index(self.end)]
        if self.kind == "labels":
            return sorted(written)
        return self._without_plans(written) if self.inserts else written

    def _without_plans(self, written: list[int]) -> list[int]:
        opening, closing = self.facts["plan_id"], self.facts["close_id"]
        if written[-2:-1] == [opening]:  # cut off before its closing mark
            written = written[:-2]
        if self.facts.get("slot"):
            written = self._filled(written)
        planned = {
            place + 1
            for place in range(len(written) - 2)
            if written[place] == opening and written[place + 2] == closing
        }
        return [
            token
            for place, token in enumerate(written)
            if token not in (opening, closing) and place not in planned
        ]

    def show(self, tokens: list[int], decode: Callable[[list[int]], str], raw: bool) -> str:
        """Text of tokens, labels by name, special tokens by name if `raw` and left out if not.

        Args:
            decode: text of tokens that are all text.
        """
        kept = tokens if raw else [token for token in tokens if token not in self.names]
        parts = []
        for kind, run in groupby(kept, self._kind):
            ids = list(run)
            if kind == "text":
                parts.append(decode(ids))
            elif kind == "label":
                parts.append(", ".join(self.labels[token - self.first_label] for token in ids))
            else:
                parts += [self.names.get(token, "?") for token in ids]
        return (" " if self.facts["words"] or self.labels else "").join(filter(None, parts))

    def _kind(self, token: int) -> str:
        if token < self.text_ids:
            return "text"
        inside = self.first_label <= token < self.first_label + len(self.labels)
        return "label" if inside else "special"


class Exported:
    """A model and its tokenizer, as transformers reads them.

    Args:
        model: as `AutoModelForCausalLM` makes it.
        tokenizer: as `AutoTokenizer` makes it.
        facts: content of `restored_order.json`.
    """

    def __init__(self, model: Any, tokenizer: Any, facts: dict[str, Any]) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.restorer = Restorer(facts)

    @classmethod
    def load(cls, folder: str | Path) -> Exported:
        """The model of a folder; no code of it is run."""
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        folder = Path(folder)
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **safe)
        return cls(model.eval(), AutoTokenizer.from_pretrained(folder, **safe), facts)

    def generate(
        self, prompt: str, raw: bool = False, max_tokens: int | None = None, **sampling: Any
    ) -> str:
        """What the model answers, in natural order.

        Args:
            raw: in the model's own order, special tokens by name.
            max_tokens: of a continuation (text).
            sampling: for transformers' `generate`, such as `do_sample=True, temperature=0.8`.

        Raises:
            ValueError: the prompt has another form than the model knows, or no room.
        """
        self.restorer.check(prompt)

        def go_on(
            tokens: list[int],
            count: int,
            allowed: Callable[[list[int]], list[int]] | None,
            end: int | None,
        ) -> list[int]:
            return self._go_on(tokens, count, allowed, end, sampling)

        written = self.restorer.write(self.encode(prompt), go_on, max_tokens)
        chosen = written if raw else self.restorer.restore(written)
        return self.restorer.show(chosen, self.decode, raw)

    def encode(self, text: str) -> list[int]:
        """Tokens of text; never a special token."""
        space = self.restorer.facts["space"]
        parts = text.split(space["text"]) if space else [text]
        ids: list[int] = []
        for number, part in enumerate(parts):
            ids += space["ids"] if number else []
            ids += self.tokenizer(part, add_special_tokens=False)["input_ids"] if part else []
        return ids

    def decode(self, ids: list[int]) -> str:
        """Text of tokens that are all text."""
        if self.restorer.facts["words"]:
            from pretrain.data.tokenizers.joining import join_words

            return str(join_words(self.tokenizer.convert_ids_to_tokens(ids)))
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def _go_on(
        self,
        tokens: list[int],
        count: int,
        allowed: Callable[[list[int]], list[int]] | None,
        end: int | None,
        sampling: dict[str, Any],
    ) -> list[int]:
        import torch

        given = torch.tensor([tokens], device=self.model.device)
        options: dict[str, Any] = {"do_sample": False, **sampling}
        if allowed is not None:
            options["prefix_allowed_tokens_fn"] = lambda _, ids: allowed(
                ids[len(tokens) :].tolist()
            )
        with torch.no_grad():
            output = self.model.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=count,
                eos_token_id=end,
                pad_token_id=self.restorer.facts["pad_id"],
                **options,
            )
        written: list[int] = output[0, len(tokens) :].tolist()
        return written


def main(argv: Sequence[str] | None = None) -> int:
    """Print what the model of this file's folder answers. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("prompt", nargs="+")
    parser.add_argument("--raw", action="store_true", help="the model's own order")
    parser.add_argument("--max-tokens", type=int, default=None, help="of a continuation")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 for the likeliest tokens")
    options = parser.parse_args(argv)
    sampling = {}
    if options.temperature > 0:
        sampling = {"do_sample": True, "temperature": options.temperature}
    if isinstance(sys.stdout, io.TextIOWrapper):  # what it does not have is written as escapes
        sys.stdout.reconfigure(errors="backslashreplace")
    exported = Exported.load(Path(__file__).resolve().parent)
    for prompt in options.prompt:
        try:
            print(exported.generate(prompt, options.raw, options.max_tokens, **sampling))
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
