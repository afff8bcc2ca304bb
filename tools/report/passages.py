"""Texts: what stands between `<plan>` and `</plan>` is marked; other values as a plain list."""

from __future__ import annotations

import json
import re
from typing import Any

from tools.report.markup import Html, tag, text
from tools.report.results import RunResult
from tools.report.words import clip

PASSAGE_LENGTH = 1200
PLAN = re.compile(r"<plan>(.*?)</plan>", re.DOTALL)
PASSAGES_NOTE = "Marked: the token that was selected to stand in front of its sentence."
KEYS = {
    "source": "the text before",
    "target": "true continuation",
    "raw": "as the model wrote it",
    "prediction": "without what it inserted",
}
"""What the keys of a sample say to a reader."""


def passage_card(sample: dict[str, Any], run: RunResult) -> Html:
    """One sample: a sentence with its selected token, or a list of all values."""
    if sample.keys() >= {"tokens", "position"}:
        return tag("li", tag("div", _sentence(sample), class_="passage"), class_="plain")
    pairs = [
        part
        for key, value in sample.items()
        if key != "kind"
        for part in (
            tag("dt", text(KEYS.get(key, str(key).replace("_", " ")))),
            tag("dd", _value(value), class_="passage" if isinstance(value, str) else None),
        )
    ]
    return tag("li", tag("dl", *pairs), class_="plain")


def _sentence(sample: dict[str, Any]) -> Html:
    """The tokens of a sentence, the selected one marked."""
    tokens = [
        tag("mark", text(token)) if place == sample["position"] else text(token)
        for place, token in enumerate(sample["tokens"])
    ]
    return Html(" ".join(tokens))


def passage(words: object) -> Html:
    """A text, clipped, with its plans marked."""
    shown = clip(str(words), PASSAGE_LENGTH)
    parts, end = [], 0
    for found in PLAN.finditer(shown):
        parts += [text(shown[end : found.start()]), tag("mark", text(found.group(1).strip()))]
        end = found.end()
    return Html("".join([*parts, text(shown[end:])]))


def _value(value: Any) -> Html:
    if isinstance(value, str):
        return passage(value)
    if value is None or value == []:
        return text("none")
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return Html("".join(tag("span", text(item), class_="chip") for item in value))
    if isinstance(value, bool):
        return text("yes" if value else "no")
    if isinstance(value, float):
        return text(f"{value:.4g}")
    return passage(json.dumps(value, ensure_ascii=False))
