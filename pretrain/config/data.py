"""The section `data`: what is learned.

Each task has a class of its own, found by `data.task` in :data:`pretrain.registry.TASKS`. What is
here is common to all of them, or to several.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from pretrain import registry
from pretrain.config.base import NonNegativeInt, PositiveInt, Section, check_name
from pretrain.config.selection import SelectionConfig, Strategy


@dataclass(frozen=True)
class Restoration:
    """How what a model writes becomes an answer in natural order.

    Attributes:
        kind: reorder (the units of an answer are written in another order), labels (a set of
            labels is written after the text), insert (tokens in front of sentences are taken out),
            none (it is in natural order).
        form: what a prompt looks like, as a regular expression; any prompt if None.
        example: such a prompt, for people.
    """

    kind: Literal["reorder", "labels", "insert", "none"]
    form: str | None = None
    example: str | None = None


class DataSection(Section):
    """What is learned: the fields of a task, and what the parts that know no task ask of it.

    Nothing here reads data, but for :meth:`build`.
    """

    task: str
    """Kind of examples."""

    strategies: ClassVar[tuple[Strategy, ...]] = ("ntp",)
    """Values of `selection.strategy` that the task knows."""
    estimators: ClassVar[tuple[str, ...]] = ("joint",)
    """Values of `selection.estimator` that the task knows; the first is its default."""
    fixed_units: ClassVar[bool] = False
    """Whether all targets have the same units, so that a model can be asked for one of them."""
    plans_sentences: ClassVar[bool] = False
    """Whether strategies other than ntp put a token in front of each sentence."""
    counts_part: ClassVar[bool] = False
    """Whether `selection.fit_tokens` says how much is counted."""

    @classmethod
    def of(cls, config: Any) -> Self:
        """The section of a configuration that is known to be of this task."""
        data = config.data
        assert isinstance(data, cls), f"data.task {data.task} is no {cls.__name__}"
        return data

    task_class: ClassVar[str]
    """`module:Class` of what :meth:`build` returns, imported when it is called."""
    presentation_class: ClassVar[str] = "pretrain.tasks.presentation:Presentation"
    """`module:Class` of what :meth:`presentation` returns."""

    def build(self, config: Any) -> Any:
        """The task (:class:`pretrain.tasks.base.Task`) of a configuration with this section.

        Raises:
            UserError: data cannot be read, or do not fit the model.
        """
        return registry.load(self.task_class)(config)

    def presentation(self) -> Any:
        """How results are shown (:class:`pretrain.tasks.presentation.Presentation`)."""
        return registry.load(self.presentation_class)()

    @abstractmethod
    def title(self) -> str:
        """What is learned, in words."""

    def restoration(self, strategy: str) -> Restoration:
        """What an export needs to put answers back into natural order."""
        return Restoration("none")

    def own_tokenizer(self) -> Any:
        """The tokenizer (:class:`pretrain.data.tokenizers.Tokenizer`) of a task that brings one;
        None where it is a file or is made of the training texts."""
        return None

    def model_tokenizer(self, text: Any, unit_names: Sequence[str]) -> Any:
        """The tokenizer of a model's tokens: here, that of its texts.

        Args:
            text: tokenizer of the texts.
            unit_names: of the target's units, as the run's selection names them.
        """
        return text

    def answer(self, tokenizer: Any, natural: Sequence[int]) -> str | None:
        """What a model wrote, once it is in natural order, where tokens are not shown as text.

        Args:
            tokenizer: of the model's tokens.
            natural: tokens of an answer.
        """
        return None

    def remade_tokenizer(self, config: Any) -> Any:
        """The tokenizer of a model's tokens, made again from the training texts.

        Raises:
            UserError: they cannot be read.
        """
        return config.data.build(config).tokenizer

    def known_vocabulary(self) -> int | None:
        """Tokens of the tokenizer, or the most that it can have, where that is known without
        reading data.

        Raises:
            UserError: the file of the tokenizer cannot be read.
        """
        return None

    @property
    def packs_documents(self) -> bool:
        """Whether several documents share a sequence, and attention is masked between them."""
        return False

    def table_cells(
        self, selection: SelectionConfig, vocabulary: int, data_parallel: int
    ) -> int | None:
        """Counts that a rank that reads data holds for the selector's table; None if not known.

        Args:
            selection: counts a table.
            vocabulary: rows of the embedding.
            data_parallel: ranks that share the table.
        """
        return None


class HeldOutShare(DataSection):
    """A share of the examples is held out."""

    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Share that is held out. a*b and b*a are always on the same side, as are equal texts."""
    split_seed: NonNegativeInt = 0
    """Seed of the split, apart from training.seed so that seeds share one test set."""


class TokenizerFile(DataSection):
    """Texts are tokenized."""

    tokenizer: Path | None = None
    """Tokenizer of texts, as tools.train_tokenizer or Hugging Face wrote it; the words of the
    training texts by frequency if not given (a corpus needs the one that it was prepared with)."""


class ExampleFiles(HeldOutShare):
    """Examples are read from files when the run begins."""

    path: Path | None = None
    """Examples: a file, a folder or a pattern. JSON lines (.jsonl, .ndjson, .json), CSV, TSV or
    Parquet with `text` and, where labels are learned, `labels`, or with a record's fields; or plain
    text (.txt)."""
    test_path: Path | None = None
    """Held-out examples; a share of `path` if not given."""
    vocabulary: PositiveInt = 8192
    """Words that are kept where no tokenizer is given."""

    @model_validator(mode="after")
    def _path_given(self) -> Self:
        if self.path is None:
            raise ValueError(
                f"data.task {self.task} needs data.path, the file that holds the training texts"
            )
        return self


class TextFiles(TokenizerFile, ExampleFiles):
    """Texts are read from a file and tokenized when the run begins."""

    fields: str | None = None
    """The fields or columns that are read, where they have other names: text=NAME,labels=NAME."""

    read_fields: ClassVar[tuple[str, ...]] = ("text",)
    """What `fields` may name."""

    @property
    def field_names(self) -> dict[str, str]:
        """The name in the files of each field that is read."""
        named = dict(_named(part) for part in self.fields.split(",")) if self.fields else {}
        return {name: named.get(name, name) for name in self.read_fields}

    @field_validator("fields", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """A file may have a mapping."""
        if isinstance(value, dict):
            return ",".join(f"{name}={field}" for name, field in value.items())
        return value

    @field_validator("fields", mode="after")
    @classmethod
    def _known_fields(cls, value: str | None) -> str | None:
        parts = [_named(part) for part in value.split(",")] if value is not None else []
        names = [name for name, _ in parts]
        for name, field in parts:
            if name not in cls.read_fields or not field or names.count(name) > 1:
                raise ValueError(
                    f"data.fields {value!r}: expected each of {', '.join(cls.read_fields)} at most "
                    f"once, for example {','.join(f'{x}=COLUMN' for x in cls.read_fields)}"
                )
        return value


def _named(part: str) -> tuple[str, str]:
    name, _, field = part.partition("=")
    return name.strip(), field.strip()


def default_task() -> str:
    """The task of a configuration that names none: the registry's first."""
    return next(iter(registry.TASKS))


def default_section() -> DataSection:
    """The section of a configuration without one."""
    return section_of(default_task())()  # type: ignore[call-arg]  # `task` has a default there


def section_of(task: str) -> type[DataSection]:
    """The class of a task's section.

    Raises:
        ValueError: there is no such task.
    """
    known = tuple(registry.TASKS)
    cls: type[DataSection] = registry.load(
        registry.TASKS[check_name("data.task", str(task), known)]
    )
    return cls


def read_section(values: Any) -> Any:
    """The section of a task from its fields, `task` among them.

    A field of another task is dropped where it has its default, as in the files of runs that wrote
    the fields of all tasks.

    Raises:
        ValueError: the task is not known, or a field is of no use to it.
        ValidationError: as of the task's class.
    """
    if not isinstance(values, dict):
        return values if isinstance(values, DataSection) else DataSection.model_validate(values)
    task = values.get("task", default_task())
    cls = section_of(task)
    own = {
        name: value
        for name, value in values.items()
        if name in cls.model_fields or not _idle_elsewhere(task, name, value)
    }
    return cls.model_validate(own)


def _idle_elsewhere(task: str, name: str, value: Any) -> bool:
    """Whether a field that `task` does not have is one of another task, at its default there.

    Raises:
        ValueError: it is one of another task, with another value.
    """
    fields = (section_of(other).model_fields.get(name) for other in registry.TASKS)
    found = value
    for field in (owned := [field for field in fields if field is not None]):
        with suppress(ValidationError):
            found = TypeAdapter(field.rebuild_annotation()).validate_python(value)
        if found == field.get_default(call_default_factory=True, validated_data={}):
            return True
    if owned:
        raise ValueError(f"data.{name} {found} is of no use to data.task {task}; leave it out")
    return False


AnyData = Annotated[SerializeAsAny[DataSection], BeforeValidator(read_section)]
"""The section of whichever task `task` names."""
