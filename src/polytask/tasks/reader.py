"""How a task type reads its labels from rows, and what the labels mean."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self, TypeAlias

from polytask.options import DataOptions
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
    # Whether companions recur in many rows, as options do: then it is no leak if dev and training rows share them.
    companions_recur: ClassVar[bool] = False
    # Added to the note about rows without a label.
    missing_hint: ClassVar[str] = ""

    options: Any

    @classmethod
    @abstractmethod
    def columns(cls, options: Any) -> tuple[str, ...]:  # noqa: ANN401
        """Name the columns that hold the labels."""

    @classmethod
    def numbers_in(cls, options: Any) -> tuple[str, ...]:  # noqa: ANN401
        """Name the label columns that hold numbers: files may write these with a decimal comma."""
        del options
        return ()

    @classmethod
    @abstractmethod
    def read(cls, options: Any, row: Row, stats: LabelStats) -> Label:  # noqa: ANN401
        """Return the label of a row, or None if it has none, and count it. Raises ValueError on a bad cell."""

    @classmethod
    def companions(cls, options: Any, row: Row, label: Label) -> list[tuple[str, Label]]:  # noqa: ANN401
        """Return the row's other texts, each with its label; the encoder reads them too, for this task only.

        Args:
            label: label of the row's own text, as `read` returned it.
        """
        del options, row, label
        return []

    @classmethod
    def rereading(cls, options: Any, stats: LabelStats) -> Rereading | None:  # noqa: ANN401
        """Return how to reread labels whose meaning depends on all labels of the file; None if they stay as they are.

        Args:
            stats: what `read` counted in the whole file.

        Raises BadLabel for a label that does not fit the others.
        """
        del options, stats
        return None

    @classmethod
    @abstractmethod
    def fit(cls, name: str, options: Any, stats: LabelStats) -> Self:  # noqa: ANN401
        """Build the task from its options and the training rows' labels. Raises ValueError if they are useless."""

    @classmethod
    def names_in(cls, label: Label) -> Iterator[tuple[int, str]]:
        """Yield the names in a row's label, each with its index (at word level, that of the word)."""
        for index, name in enumerate(label if isinstance(label, list) else [label]):
            if isinstance(name, str):
                yield index, name

    def notes_on(self, stats: LabelStats) -> Iterator[str]:
        """Yield notes for the user about how the labels of a split are read."""
        del stats
        yield from ()

    def unreachable(self, stats: LabelStats) -> Iterator[str]:
        """Yield notes for the user about known labels of a split that no prediction can equal."""
        del stats
        yield from ()

    @property
    def reading_options(self) -> Any:  # noqa: ANN401
        """The options with which other rows are read in the same way as the training rows."""
        return self.options

    def read_from(self, data: DataOptions) -> Any:  # noqa: ANN401
        """Return the options for reading other files; by default their offsets are in the unit of the training rows."""
        if data.offsets is None:
            data = data.model_copy(update={"offsets": self.options.data.offsets})
        return self.reading_options.model_copy(update={"data": data})

    def only_label(self, stats: LabelStats) -> str | None:
        """Describe what all counted rows have in common, to complete `every row has ...`; None if they differ."""
        return f"the label {next(iter(stats.labels))!r}" if len(stats.labels) == 1 else None

    def label_notes(self, stats: LabelStats) -> list[str]:
        """Return notes for the user about the labels of the training rows, which `stats` counted."""
        del stats
        return []

    def nothing_hint(self, label: str) -> str:
        """Return advice for a label that may mean `not labelled`."""
        return f"if it means that a row is not labelled, set `unlabelled: [{json.dumps(label, ensure_ascii=False)}]`"
