"""How a report shows a task: what its examples are called, how to read its samples, and caveats.

A report asks the object that `config.data.presentation()` gives, and knows no task by name. What
is here suits a task that has nothing of its own to show: samples as plain lists.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar


class Presentation:
    """What a report asks of a task.

    Attributes:
        held_out: what held-out examples are called.
        samples_title: heading of the samples.
        scoring: how answers are scored, in a sentence; may be empty.
        caveats: what a reader should know before believing the figures, in sentences.
        sample_keys: keys that every sample must have.
        keys: what the keys of a sample say to a reader, where that is not their name.
        template: jinja2 template of one sample, `package:file`; gets what :meth:`sample` gives.
        narrow: whether several samples stand side by side.
    """

    held_out: ClassVar[str] = "examples"
    samples_title: ClassVar[str] = "Samples"
    scoring: ClassVar[str] = ""
    caveats: ClassVar[tuple[str, ...]] = ()
    sample_keys: ClassVar[frozenset[str]] = frozenset()
    keys: ClassVar[Mapping[str, str]] = {}
    template: ClassVar[str] = "pretrain.tasks:sample.html"
    narrow: ClassVar[bool] = False

    def how_to_read(self, unit_names: Sequence[str], short_names: Sequence[str]) -> str:
        """How to read the samples, in sentences.

        Args:
            unit_names: of the units of a target in natural order; may be none.
            short_names: abbreviations of them.
        """
        return ""

    def advice(self, strategies: Collection[str]) -> tuple[str, ...]:
        """Further caveats of a comparison of these strategies."""
        return ()

    def sample(
        self,
        sample: Mapping[str, Any],
        order: Sequence[int],
        unit_names: Sequence[str],
        short_names: Sequence[str],
    ) -> dict[str, Any]:
        """What the template is given for one sample: values only, which it escapes.

        Args:
            sample: has :attr:`sample_keys`.
            order: numbers of the units as they were predicted; empty where each example has its
                own.
            unit_names: of the units of a target in natural order; may be none.
            short_names: abbreviations of them.
        """
        return plain(sample, self.keys)


def plain(sample: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    """A sample as a list of what it has, for the template `sample.html` of this folder.

    Args:
        sample: JSON values by key; `kind` is left out.
        keys: what keys say to a reader.
    """
    pairs = [
        {"key": keys.get(key, str(key).replace("_", " ")), **_written(value)}
        for key, value in sample.items()
        if key != "kind"
    ]
    return {"pairs": pairs}


def _written(value: Any) -> dict[str, Any]:
    """A JSON value as a passage, as chips or in a word."""
    if isinstance(value, str):
        return {"passage": value, "text": True}
    if value is None or value == []:
        return {"word": "none"}
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return {"chips": value}
    if isinstance(value, bool):
        return {"word": "yes" if value else "no"}
    if isinstance(value, float):
        return {"word": f"{value:.4g}"}
    return {"passage": json.dumps(value, ensure_ascii=False), "text": False}
