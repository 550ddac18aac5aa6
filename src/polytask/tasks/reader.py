"""What a task type knows of rows: where its labels stand, and what they mean."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self, TypeAlias

from polytask.tasks.label_stats import LabelStats, Rereading
from polytask.tasks.task_options import TaskOptions
from polytask.terms import Label

Row: TypeAlias = Mapping[str, Any]
GoldType: TypeAlias = Literal["string", "double", "list<string>", "list<double>"]


class LabelReader(ABC):
    """The side of a task type that reads rows."""

    Options: ClassVar[type[TaskOptions]]
    # Arrow type of a cell, by name: "string", "list<string>", "double".
    label_type: ClassVar[GoldType]
    # Whether companions stand in many rows, as options do: those of dev are then no leak where training rows have them.
    companions_recur: ClassVar[bool] = False
    # What to know of rows without a label, beyond that they are masked.
    missing_hint: ClassVar[str] = ""

    options: Any

    @classmethod
    @abstractmethod
    def columns(cls, options: Any) -> tuple[str, ...]:  # noqa: ANN401
        """Name the columns that hold the labels."""

    @classmethod
    def numbers_in(cls, options: Any) -> tuple[str, ...]:  # noqa: ANN401
        """Name the columns of labels whose cells are numbers: in text they may be written with a decimal comma."""
        del options
        return ()

    @classmethod
    @abstractmethod
    def read(cls, options: Any, row: Row, stats: LabelStats) -> Label:  # noqa: ANN401
        """Return the label in a row, or None where it has none; count it. Raises ValueError on a bad cell."""

    @classmethod
    def companions(cls, options: Any, row: Row, label: Label) -> list[tuple[str, Label]]:  # noqa: ANN401
        """Return the row's other texts, each with its label: they pass the encoder beside the row's own, for this task.

        Args:
            label: of the row's own text, as `read` returned it.
        """
        del options, row, label
        return []

    @classmethod
    def rereading(cls, options: Any, stats: LabelStats) -> Rereading | None:  # noqa: ANN401
        """Return how the labels of rows are meant, where only all labels of the file tell; None where they stay.

        Args:
            stats: what `read` counted in the whole file.

        Raises BadLabel for one that does not fit the others.
        """
        del options, stats
        return None

    @classmethod
    @abstractmethod
    def fit(cls, name: str, options: Any, stats: LabelStats) -> Self:  # noqa: ANN401
        """Build the task from its options and what the training rows hold. Raises ValueError when they are useless."""

    @classmethod
    def names_in(cls, label: Label) -> Iterator[tuple[int, str]]:
        """Yield the labels that a row's label names, each with its place: of types at word level the word."""
        for at, name in enumerate(label if isinstance(label, list) else [label]):
            if isinstance(name, str):
                yield at, name

    def notes_on(self, stats: LabelStats) -> Iterator[str]:
        """Say what a person should know of how the labels of a split are read."""
        del stats
        yield from ()

    @property
    def reading_options(self) -> Any:  # noqa: ANN401
        """The options by which other rows are read as the training rows were."""
        return self.options

    def only_label(self, stats: LabelStats) -> str | None:
        """Name what all counted rows have, as in `every row has ...`; None where they differ."""
        return f"the label {next(iter(stats.labels))!r}" if len(stats.labels) == 1 else None

    def label_notes(self, stats: LabelStats) -> list[str]:
        """Say what a person should know of the labels of the training rows, of which `stats` are."""
        del stats
        return []

    def nothing_hint(self, label: str) -> str:
        """Say how a label that may mean nothing can be read so."""
        return f"if it means that a row is not labelled, set `unlabelled: [{json.dumps(label, ensure_ascii=False)}]`"
