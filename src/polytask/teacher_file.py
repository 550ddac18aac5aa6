"""Answers in a file that teach, such as those of a language model: jsonl lines with an id and probabilities by task."""

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

# The column of a training row, and the key of a line, that say which line is about which row.
ID = "id"


@dataclass(frozen=True)
class FileTeacher:
    """A file of answers, and what it teaches.

    Attributes:
        place: the option that names it.
        tasks: those of the configuration that any of its lines answers.
        outputs: for each of them what a head would have to say, by id.
    """

    place: str
    path: str
    digest: str
    tasks: tuple[str, ...]
    outputs: Mapping[str, Mapping[str, list[float]]]

    def answers(self, source: Source, table: DataTable) -> dict[str, Matrices]:
        """Return its answers on the rows of a source; nan where it has none.

        Raises ConfigError where the rows have no ids, or it answers none of them.
        """
        names = [name for name in self.tasks if name in source.tasks]
        ids = self._ids(table)
        found: dict[str, Matrices] = {}
        for name in names:
            known = self.outputs[name]
            size = len(next(iter(known.values())))
            values = np.full((len(source), size), np.nan, np.float32)
            for row in source.carries[name].tolist():
                output = known.get(ids[row])
                if output is not None:
                    values[row] = output
            if np.isnan(values).all():
                raise ConfigError(
                    f"{self.place}: {self.path}: none of its {len(known)} answers to {name!r} is about a training row "
                    f"of {table.feed.name}; its {ID!r} has to be the one in the column {ID!r} of the rows"
                )
            found[name] = Matrices(values, np.arange(1, len(source) + 1))
        return found

    def notes(self, sources: Sequence[Source], tables: Sequence[DataTable]) -> Iterator[DataWarning]:
        """Yield what a person should know of which training rows it answers; arguments as for all sources of a run.

        Raises ConfigError as `answers` does.
        """
        unknown = dict.fromkeys(own for known in self.outputs.values() for own in known)
        for source, table in zip(sources, tables, strict=True):
            for name, values in self.answers(source, table).items():
                rows = source.carries[name].tolist()
                said = sum(not np.isnan(values[row]).any() for row in rows)
                if said < len(rows):
                    told = f"answers {said} of {len(rows)} labelled training rows of {table.feed.name}"
                    yield DataWarning(f"{self.place}, {name}", f"{told}; the others learn from their labels alone")
            if set(source.tasks) & set(self.tasks):
                for own in self._ids(table):
                    unknown.pop(own, None)
        if unknown:
            such = f"{next(iter(unknown))[:80]!r}"
            yield DataWarning(self.place, f"{len(unknown)} of its ids are no training row's, such as {such}")

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
            own = by_place[place] = _id_text(values[ID])
            if seen.setdefault(own, place) != place:
                raise ConfigError(
                    f"{self.place}: the {ID} {own!r} stands at {seen[own]} and at {place}; an id is one row's"
                )
        return [by_place[place] for place in table.rows.data.column("place").to_pylist()]


def _id_text(value: Any) -> str:  # noqa: ANN401
    """Return an id as text: 7, "7" and the 7.0 of a column with gaps are one."""
    try:
        return label_text(value)
    except ValueError:
        return str(value)


def read_teacher_file(place: str, path: Path, tasks: Mapping[str, Task]) -> FileTeacher:
    """Read a file of answers.

    Args:
        place: the option that names it.
        tasks: of the configuration.

    Raises DataError with file and line for what is no answer, ConfigError where it answers none of the tasks.
    """
    outputs: dict[str, dict[str, list[float]]] = {}
    keys: dict[str, None] = {}
    lines: dict[str, str] = {}
    file = DataFile(path, FileOptions(format="jsonl"))
    for number, line in rows_of(file):
        where = file.place(number)
        if ID not in line or isinstance(line[ID], dict | list | None):
            raise DataError(f"{where}: no {ID!r}; each line has the {ID} of the training row that it answers")
        own = _id_text(line[ID])
        if own in lines:
            raise DataError(f"{where}: the {ID} {own!r} stands in {lines[own]} already; answer a row once")
        lines[own] = where
        answers = line["predictions"] if isinstance(line.get("predictions"), dict) else line
        keys.update(dict.fromkeys(answers))
        for name in (name for name in tasks if answers.get(name) is not None):
            try:
                outputs.setdefault(name, {})[own] = tasks[name].outputs_of(answers[name])
            except ValueError as error:
                raise DataError(f"{where}: task {name!r}: {error}") from None
    if not outputs:
        held = ", ".join(key for key in keys if key != ID) or "nothing"
        raise ConfigError(
            f"{place}: {path} answers {held}, and the configuration has the tasks {', '.join(tasks)}; a line of a "
            f'teacher is {{"{ID}": ..., "TASK": {{"LABEL": 0.8, ...}}}}, or what `polytask predict` writes'
        )
    common = tuple(name for name in tasks if name in outputs)
    return FileTeacher(place, str(path), file_digest(path), common, outputs)
