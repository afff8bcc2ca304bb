"""The README.md of an exported model."""

from __future__ import annotations

from typing import Any

import yaml

from tools.hf.trained import Trained

SHOWN = 24
"""Units of the order that are named."""
HOW = {
    "reorder": "The digits of an answer are predicted in another order than they are written "
    "in; generation puts them back.",
    "labels": "The labels of a text are predicted in an order that the selection gives, after "
    "the mark `<plan>`; generation returns them sorted by name.",
    "insert": "In front of each sentence stands one selected token between the marks `<plan>` and "
    "`</plan>`; generation takes the three away. A document begins with `<end>`, and a prompt is "
    "announced in the same way, by a token that the model writes itself.",
    "none": "Text is predicted from left to right. A document begins with `<end>`.",
}

SLOT = " The token leaves its place, where `<blank>` stands for it; generation puts it back there."


def model_card(trained: Trained, facts: dict[str, Any], notes: list[str]) -> str:
    """Markdown: what the model is, when it was trained, and how its output is to be read.

    Args:
        facts: content of `restored_order.json`.
        notes: what else is to be said.
    """
    manifest, config = trained.manifest, trained.config
    names = [trained.unit_names[unit] for unit in trained.order[:SHOWN]]
    more = ["..."] if len(trained.order) > SHOWN else []
    order = ", ".join(names + more) or "each example's own"
    if trained.strategy == "ntp":
        order = "natural"
    example = facts["example"] or "Some text"
    rows = [
        ("task", config.data.task),
        ("model", f"{config.model.preset}, {config.model.layers} layers, width "
                  f"{config.model.hidden_size}, {trained.rows} rows of vocabulary"),
        ("trained", f"{manifest.step:,} steps, {manifest.tokens:,} tokens"),
        ("written", manifest.finished),
        ("layout", manifest.layout),
        ("selection strategy", trained.strategy),
        ("order", order),
        ("fingerprint of the selection", f"`{manifest.fingerprint}`"),
    ]  # fmt: skip
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    said = "".join(f"- {note}\n" for note in notes)
    what = yaml.safe_dump(
        {"data": manifest.config["data"], "selection": manifest.config["selection"]},
        sort_keys=False,
    )
    return f"""---
library_name: transformers
---

# A model for {config.data.task} that predicts the information-rich token first

| | |
|---|---|
{table}

{HOW[facts["kind"]]}{SLOT if facts["slot"] else ""}

```
python restored_generation.py "{example}"
python restored_generation.py "{example}" --raw
```

`restored_order.json` says how tokens are put back. transformers' own `generate` returns them in
the order of the model.

{said}
Data and selection of the run:

```yaml
{what}```
"""
