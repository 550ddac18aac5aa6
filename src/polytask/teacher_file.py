"""Teacher predictions from a file, such as those of an LLM: jsonl lines with an id and probabilities by task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polytask.data.cache import file_digest
from polytask.data.columns import Matrices
from polytask.data.encode import Source
from polytask.data.files import DataFile
from polytask.data.readers import rows_of
from polytask.data.rows import DataTable
from polytask.errors import ConfigError, DataError
from polytask.options import FileOptions
from polytask.tasks import Task
from polytask.tasks.labels import label_text
from polytask.terms import DataWarning

# The column of a training row and the key of a line that connect the two.
ID = "id"


@dataclass(frozen=True)
class FileTeacher:
    """A file of predictions that teaches some tasks.

    Attributes:
        place: path of the option that names the file.
        path: path of the file.
        digest: hash of its content.
        tasks: tasks of the configuration with at least one prediction in the file.
        outputs: for each of these tasks the head outputs that correspond to the predictions, by id.
    """

    place: str
    path: str
    digest: str
    tasks: tuple[str, ...]
    outputs: Mapping[str, Mapping[str, list[float]]]

    def answers(self, source: Source, table: DataTable) -> dict[str, Matrices]:
        """Return the teacher's outputs for the rows of a source; nan for rows without any.

        Raises ConfigError if the rows have no ids, or none of them is in the file.
        """
        names = [name for name in self.tasks if name in source.tasks]
        ids = self._ids(table)
        answers: dict[str, Matrices] = {}
        for name in names:
            outputs_by_id = self.outputs[name]
            size = len(next(iter(outputs_by_id.values())))
            values = np.full((len(source), size), np.nan, np.float32)
            for row in source.carries[name].tolist():
                output = outputs_by_id.get(ids[row])
                if output is not None:
                    values[row] = output
            if np.isnan(values).all():
                raise ConfigError(
                    f"{self.place}: {self.path}: none of its {len(outputs_by_id)} answers to {name!r} belongs to a "
                    f"training row of {table.feed.name}; its {ID!r} must match the column {ID!r} of the rows"
                )
            answers[name] = Matrices(values, np.arange(1, len(source) + 1))
        return answers

    def notes(self, sources: Sequence[Source], tables: Sequence[DataTable]) -> Iterator[DataWarning]:
        """Yield notes on training rows that are not in the file, and on ids of no row.

        Args:
            sources, tables: all training sources of the run, and their tables.

        Raises ConfigError like `answers`.
        """
        unknown = dict.fromkeys(row_id for outputs_by_id in self.outputs.values() for row_id in outputs_by_id)
        for source, table in zip(sources, tables, strict=True):
            for name, values in self.answers(source, table).items():
                rows = source.carries[name].tolist()
                answered = sum(not np.isnan(values[row]).any() for row in rows)
                if answered < len(rows):
                    message = f"answers {answered} of {len(rows)} labelled training rows of {table.feed.name}"
                    yield DataWarning(f"{self.place}, {name}", f"{message}; the others learn from their labels alone")
            if set(source.tasks) & set(self.tasks):
                for row_id in self._ids(table):
                    unknown.pop(row_id, None)
        if unknown:
            example = f"{next(iter(unknown))[:80]!r}"
            yield DataWarning(self.place, f"{len(unknown)} of its ids match no training row, such as {example}")

    def _ids(self, table: DataTable) -> list[str]:
        """Return the id of each encoded row."""
        by_place: dict[str, str] = {}
        seen: dict[str, str] = {}
        for place, values in table.feed.read():
            if values.get(ID) is None:
                raise ConfigError(
                    f"{self.place}: {self.path} answers rows by their id, and {place} has none; give each training row "
                    f"a column {ID!r}"
                )
            row_id = by_place[place] = _id_text(values[ID])
            if seen.setdefault(row_id, place) != place:
                raise ConfigError(
                    f"{self.place}: the {ID} {row_id!r} occurs at {seen[row_id]} and at {place}; ids must be unique"
                )
        return [by_place[place] for place in table.rows.data.column("place").to_pylist()]


def _id_text(value: Any) -> str:  # noqa: ANN401
    """Return an id as text; 7, "7" and the 7.0 of a column with gaps are the same."""
    try:
        return label_text(value)
    except ValueError:
        return str(value)


def read_teacher_file(place: str, path: Path, tasks: Mapping[str, Task]) -> FileTeacher:
    """Read a file of teacher predictions.

    Args:
        place: path of the option that names the file.
        path: path of the file.
        tasks: tasks of the configuration.

    Raises DataError with file and line for an invalid prediction, ConfigError if the file covers none of the tasks.
    """
    outputs: dict[str, dict[str, list[float]]] = {}
    keys: dict[str, None] = {}
    lines: dict[str, str] = {}
    file = DataFile(path, FileOptions(format="jsonl"))
    for number, line in rows_of(file):
        where = file.place(number)
        if ID not in line or isinstance(line[ID], dict | list | None):
            raise DataError(f"{where}: no {ID!r}; each line has the {ID} of the training row that it answers")
        row_id = _id_text(line[ID])
        if row_id in lines:
            raise DataError(f"{where}: the {ID} {row_id!r} occurs in {lines[row_id]} already; answer a row once")
        lines[row_id] = where
        answers = line["predictions"] if isinstance(line.get("predictions"), dict) else line
        keys.update(dict.fromkeys(answers))
        for name in (name for name in tasks if answers.get(name) is not None):
            try:
                outputs.setdefault(name, {})[row_id] = tasks[name].outputs_of(answers[name])
            except ValueError as error:
                raise DataError(f"{where}: task {name!r}: {error}") from None
    if not outputs:
        contents = ", ".join(key for key in keys if key != ID) or "nothing"
        raise ConfigError(
            f"{place}: {path} answers {contents}, and the configuration has the tasks {', '.join(tasks)}; a line of a "
            f'teacher is {{"{ID}": ..., "TASK": {{"LABEL": 0.8, ...}}}}, or what `polytask predict` writes'
        )
    common = tuple(name for name in tasks if name in outputs)
    return FileTeacher(place, str(path), file_digest(path), common, outputs)
