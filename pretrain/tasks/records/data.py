"""Records read from files, and their fields as tokens of fixed widths.

    {"source": {"year": 1996, "colour": "red"}, "target": {"code": "A7"}}

Equal sources lie on one side of the split. What the fields are is told from all of `data.path`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pretrain.data.held_out import hold_out
from pretrain.data.records import files_of, is_plain, records_of, shortened
from pretrain.data.tokenizers import RecordTokenizer, split_words
from pretrain.data.tokenizers.records import EMPTY, MARK, MISSING, Field, text_of
from pretrain.errors import ConfigError, UserError
from pretrain.tasks.fixed_width.data import Examples
from pretrain.tasks.records.config import FieldSettings, RecordsData
from pretrain.tasks.records.fields import infer
from pretrain.tasks.records.presence import informative

EXPECTED = '{"source": {...}, "target": {...}}, fields by name'
SIDES = ("source", "target")
KEEP = "set data.missing to category to keep it, "


@dataclass(frozen=True)
class Record:
    """A record.

    Attributes:
        where: file and line.
        source, target: values by field.
        plain: whether the source is a text without a name.
    """

    where: str
    source: dict[str, Any]
    target: dict[str, Any]
    plain: bool = False

    def side(self, name: str) -> dict[str, Any]:
        """Its source or target."""
        fields: dict[str, Any] = getattr(self, name)
        return fields

    @property
    def key(self) -> str:
        """Equal for equal sources."""
        return repr(sorted(self.source.items()))


class RecordDataset:
    """Records, a share of them held out; see :class:`pretrain.tasks.fixed_width.data.Dataset`.

    Attributes:
        tokenizer: of the units of all fields.
        unit_names: of the target's units in natural order.
        train, test: the two sides.
        end_id: token of a level that a path does not have, where targets are paths.
        whole: nobody knows of what the records are all.

    Raises:
        UserError: a file cannot be read, or a record is not like the others; names the line.
        ConfigError: the fields cannot be told, or nothing is left to train on.
    """

    whole = False

    def __init__(self, data: RecordsData) -> None:
        assert data.path is not None
        found = read_records(data.path, data)
        names = {side: field_names(found, side, data) for side in SIDES}
        fields = _fields(found, names, data)
        end = None if data.path_end is None else _end_of_levels(fields["target"], data.path_end)

        def read(path: Path) -> list[Record]:
            records = found if path == data.path else read_records(path, data)
            for side in SIDES:
                check_names(records, side, names[side], data)
            return records

        sides = hold_out(data, read, lambda record: record.key, "records", "data.test_fraction")
        self.tokenizer = _tokenizer(fields, sides[0], data.vocabulary)
        self.end_id = None if end is None else self.tokenizer.ids([end])[0]
        self.unit_names = tuple(name for field in fields["target"] for name in field.unit_names)
        self.train, self.test = map(self._examples, sides)
        if any(field.kind == "text" for field in fields["source"]):
            self._add_presence(data.informative_words)

    @property
    def values(self) -> int:
        """Ids of units are below this; presence is 0 or 1."""
        return max(2, self.tokenizer.units)

    def every(self) -> Examples:
        """Both sides together."""
        both = (self.train, self.test)
        presence = None
        if self.train.presence is not None:
            presence = np.concatenate([side.presence for side in both if side.presence is not None])
        return Examples(
            np.concatenate([side.source for side in both]),
            np.concatenate([side.target for side in both]),
            self.train.feature_columns,
            presence,
        )

    def _examples(self, records: Sequence[Record]) -> Examples:
        fields = self.tokenizer.source
        source = self._tokens(records, "source", fields)
        mark = np.full((len(records), 1), self.tokenizer.special(MARK))
        columns = [f.kind != "text" for f in fields for _ in range(f.units)]
        return Examples(
            np.hstack([source, mark]),
            self._tokens(records, "target", self.tokenizer.target),
            tuple(np.flatnonzero(columns).tolist()),
        )

    def _tokens(self, records: Sequence[Record], side: str, fields: Sequence[Field]) -> np.ndarray:
        """[records, units] int64 of the fields of a side."""
        rows = np.empty((len(records), sum(field.units for field in fields)), dtype=np.int64)
        place = 0
        for field in fields:
            known: dict[tuple[type, Any], list[int]] = {}
            columns = rows[:, place : (place := place + field.units)]
            for row, record in enumerate(records):
                value = record.side(side).get(field.name)
                found = known.get((type(value), value))
                if found is None:
                    try:
                        found = self.tokenizer.ids(field.split(value))
                    except ValueError as error:
                        _refuse(record, f"{side}: {error}", KEEP if value is None else "")
                    known[type(value), value] = found
                columns[row] = found
        return rows

    def _add_presence(self, words: int) -> None:
        fields = self.tokenizer.source
        texts = np.flatnonzero([f.kind == "text" for f in fields for _ in range(f.units)])
        empty = self.tokenizer.ids([EMPTY])[0]
        chosen = informative(self.train.source[:, texts], self.train.target, empty, words)
        for name in ("train", "test"):
            side: Examples = getattr(self, name)
            there = [(side.source[:, texts] == word).any(axis=1) for word in chosen]
            presence = np.stack(there, axis=1).astype(np.int64)
            setattr(self, name, replace(side, presence=presence))


def _end_of_levels(fields: Sequence[Field], end: str) -> str:
    """The unit that ends a path, where a target can be a path in a hierarchy.

    Raises:
        ConfigError: a field is no category, or no path ends early.
    """
    for field in fields:
        if field.kind != "category":
            raise ConfigError(
                f"data.path_end {end}: the target's field {field.name} is a {field.kind}, and "
                f"levels are categories; set data.field_settings.{field.name}.kind category"
            )
    ended = [field for field in fields if end in field.values]
    if not ended:
        raise ConfigError(
            f"data.path_end {end}: no field of a target has this value; leave it out, or write "
            "the value of levels that a path does not have"
        )
    return ended[0].split(end)[0]


def read_records(path: Path, data: RecordsData) -> list[Record]:
    """All records of a file, a folder or a pattern.

    Raises:
        UserError: a file cannot be read or is malformed, or there is no record.
    """
    found = []
    for file in files_of(path):
        if is_plain(file):
            raise UserError(f"{file}: plain text has no fields; expected {EXPECTED}, .jsonl")
        found += [_record(where, values, data) for where, values in records_of(file)]
    if not found:
        raise UserError(f"{path} is empty; expected {EXPECTED}")
    return found


def _record(where: str, values: dict[str, Any], data: RecordsData) -> Record:
    sides: list[Any]
    if data.source and data.target and not isinstance(values.get("target"), dict):
        sides = [{name: values.get(name) for name in side} for side in (data.source, data.target)]
    else:
        sides = [values.get(side) for side in SIDES]
    plain = isinstance(sides[0], str)
    if plain:
        sides[0] = {"text": sides[0]}
    for name, fields in zip(SIDES, sides, strict=True):
        if not isinstance(fields, dict):
            way = f"data.{name} may name columns" if name in values else f"no {name}"
            raise UserError(
                f"{where}: found the fields {', '.join(values) or '-'} ({way}); expected "
                f"{EXPECTED}, or name the columns in data.source and data.target"
            )
        for field, value in fields.items():
            try:
                text_of(field)
            except ValueError as error:
                raise UserError(f"{where}: {name}: {error} in the name of a field") from None
            if not isinstance(value, str | int | float | None):
                raise UserError(
                    f"{where}: {name}: the field {field} is {shortened(value)}; expected a text, a "
                    "number, true, false or null"
                )
    return Record(where, sides[0], sides[1], plain)


def field_names(records: Sequence[Record], side: str, data: RecordsData) -> tuple[str, ...]:
    """Names of a side's fields in natural order.

    Raises:
        UserError: the first record has none there.
    """
    given: tuple[str, ...] = getattr(data, side)
    if given:
        return given
    looked_at = records if data.missing == "category" else records[:1]
    names = tuple(dict.fromkeys(name for record in looked_at for name in record.side(side)))
    if not names:
        _refuse(records[0], f"{side} has no field")
    return names


def check_names(
    records: Sequence[Record], side: str, names: Sequence[str], data: RecordsData
) -> None:
    """Refuse a record with a field that the others have not; where fields are named, others are
    ignored.

    Raises:
        UserError: names the line.
    """
    if getattr(data, side):
        return
    known = set(names)
    for record in records:
        for name in record.side(side):
            if name not in known:
                some = "the first record" if data.missing == "refuse" else "data.path"
                listed = ", ".join(names)
                _refuse(record, f"{side} has the field {name}; {some} has {listed}", KEEP)


def _fields(
    records: Sequence[Record], names: dict[str, tuple[str, ...]], data: RecordsData
) -> dict[str, list[Field]]:
    """The fields of both sides; what has one name in both has values of one kind.

    Raises:
        ConfigError: a field cannot be told, or data.field_settings names one that is not there.
    """
    there = set(names["source"]) | set(names["target"])
    if unknown := [name for name in data.field_settings if name not in there]:
        raise ConfigError(
            f"data.field_settings names {unknown[0]}, but the records of {data.path} have the "
            f"fields {', '.join((*names['source'], *names['target']))}"
        )
    optional = data.missing == "category"
    fields: dict[str, list[Field]] = {side: [] for side in SIDES}
    for side in SIDES:
        for name in names[side]:
            values = [
                record.side(each)[name]
                for each in SIDES
                if name in names[each]
                for record in records
                if record.side(each).get(name) is not None
            ]
            settings = data.field_settings.get(name)
            if settings is None and side == "source" and records[0].plain:
                settings = FieldSettings(kind="text")
            field = infer(name, values, settings, optional)
            if side == "target" and field.kind == "text":
                raise ConfigError(
                    f"data.path {data.path}: the target's field {name} has texts of up to "
                    f"{max(map(len, map(str, values)))} characters, which are not written unit by "
                    f"unit; shorten them, or set data.field_settings.{name}.kind to string or "
                    "category"
                )
            fields[side].append(field)
    return fields


def _tokenizer(
    fields: dict[str, list[Field]], train: Iterable[Record], vocabulary: int
) -> RecordTokenizer:
    """Units of targets first, then those of sources, then the most frequent words."""
    units: dict[str, None] = {EMPTY: None}
    for side in ("target", "source"):
        units |= dict.fromkeys(sorted(set().union(*(field.known for field in fields[side]))))
    texts = [field.name for field in fields["source"] if field.kind == "text"]
    words = Counter(
        word
        for record in train
        for name in texts
        if isinstance(text := record.source.get(name), str)
        for word in split_words(text)
    )
    ranked = sorted(words, key=lambda word: (-words[word], word))
    more = [word for word in islice(ranked, vocabulary) if word not in units and word != MISSING]
    return RecordTokenizer([*units, *more], len(units), fields["source"], fields["target"])


def _refuse(record: Record, why: str, way: str = "") -> NoReturn:
    raise UserError(f"{record.where}: {why}; {way}mend or remove the line")
