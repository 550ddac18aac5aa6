"""What the runs answered on the test rows, read back from their folders, and whether they answered the same rows.

Where test rows are folds of the training rows, a model of each fold answers a part of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, TypeAlias

from polytask.errors import UserError
from polytask.files import parse_json
from polytask.regular import read_text
from polytask.terms import Label

_Lines: TypeAlias = list[dict[str, Any]]
_KEYS = frozenset({"row", "label", "prediction"})
# Takes labels, predictions and the positive label's probabilities; returns truth and predictions as a metric has them.
Measure: TypeAlias = Callable[
    [Sequence[Label], Sequence[Label], "Sequence[float] | None"], tuple[Sequence[Any], Sequence[Any]]
]


@dataclass(frozen=True)
class ArmPredictions:
    """A task's test rows and what the models of one arm said, seed by seed.

    Attributes:
        rows: their numbers in the split.
        predictions: seeds x rows.
        seeds: of the models; without any those of the baseline, in its order.
        places: where the rows stand: file and line; empty where the runs do not say.
        probabilities: of the positive label: seeds x rows; empty where none is known.
    """

    rows: tuple[int, ...]
    texts: tuple[str, ...]
    labels: tuple[Label, ...]
    predictions: tuple[tuple[Label, ...], ...]
    seeds: tuple[int, ...] = ()
    places: tuple[str, ...] = ()
    probabilities: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, answers: Sequence[_Lines], seeds: tuple[int, ...]) -> ArmPredictions:
        """Return what models with these seeds answered to the same rows: the lines of each one's file."""
        first = answers[0]
        known = all("probability" in line for lines in answers for line in lines)
        return cls(
            tuple(line["row"] for line in first),
            tuple(line.get("text", "") for line in first),
            tuple(line["label"] for line in first),
            tuple(tuple(line["prediction"] for line in lines) for lines in answers),
            seeds,
            tuple(line.get("place", "") for line in first),
            tuple(tuple(line["probability"] for line in lines) for lines in answers) if known else (),
        )

    def over(self, seeds: Sequence[int]) -> ArmPredictions:
        """Return the answers of the models with some of the seeds."""
        if not self.seeds or not seeds:
            return self
        places = [self.seeds.index(seed) for seed in seeds]
        return replace(
            self,
            seeds=tuple(seeds),
            predictions=tuple(self.predictions[place] for place in places),
            probabilities=tuple(self.probabilities[place] for place in places) if self.probabilities else (),
        )

    def followed_by(self, other: ArmPredictions) -> ArmPredictions:
        """Return the answers of models that were trained with the same seeds, on rows of their own, as those of one."""
        return replace(
            self,
            rows=tuple(range(len(self.rows) + len(other.rows))),
            texts=self.texts + other.texts,
            labels=self.labels + other.labels,
            predictions=tuple(one + more for one, more in zip(self.predictions, other.predictions, strict=True)),
            places=self.places + other.places,
            probabilities=tuple(one + more for one, more in zip(self.probabilities, other.probabilities, strict=True)),
        )

    def measured(self, measure: Measure) -> ArmPredictions:
        """Return labels and predictions as a metric takes them."""
        each = self.probabilities or [None] * len(self.predictions)
        pairs = [measure(self.labels, one, known) for one, known in zip(self.predictions, each, strict=True)]
        return replace(self, labels=tuple(pairs[0][0]), predictions=tuple(tuple(found) for _, found in pairs))


def read_predictions(
    runs: Mapping[str, Mapping[int, Sequence[Path]]], tasks: Sequence[str], folds: int = 1
) -> dict[str, dict[str, ArmPredictions]]:
    """Return the answers by task and arm. Raises UserError when arms were scored on different rows.

    Args:
        runs: run folders by arm and seed.
        folds: how many of an arm's runs with a seed answer a task, each of them rows of its own.
    """
    answers: dict[str, dict[str, ArmPredictions]] = {task: {} for task in tasks}
    for task in tasks:
        for arm, by_seed in runs.items():
            found = [_folders_of(folders, task, folds) for folders in by_seed.values()]
            parts = [_of_fold(task, arm, one, tuple(by_seed)) for one in zip(*found, strict=True)]
            answers[task][arm] = reduce(ArmPredictions.followed_by, parts)
        whole = next(iter(answers[task].values()))
        for arm, one in answers[task].items():
            if (one.rows, one.labels) != (whole.rows, whole.labels):
                raise UserError(_another_data_set(task, arm))
    return answers


def require_answers_to(
    labels: Mapping[str, Sequence[Label]], answers: Mapping[str, Mapping[str, ArmPredictions]]
) -> None:
    """Raise UserError where what the runs answered are not the rows that are compared.

    Args:
        labels: of these rows, by task. Texts and numbers are looked at; of others only how many there are.
    """
    for task, by_arm in answers.items():
        for arm, found in by_arm.items():
            pairs = zip(labels[task], found.labels, strict=False)
            odd = any(isinstance(one, str | int | float) and one != other for one, other in pairs)
            if odd or len(labels[task]) != len(found.labels):
                raise UserError(_another_data_set(task, arm))


def _of_fold(task: str, arm: str, folders: Sequence[Path], seeds: tuple[int, ...]) -> ArmPredictions:
    """Return what the models of all seeds answered to the same rows."""
    read = [_read(folder, task) for folder in folders]
    for lines in read:
        _require_same_rows(task, arm, lines, read[0])
    return ArmPredictions.of(read, seeds)


def _folders_of(folders: Sequence[Path], task: str, folds: int) -> Sequence[Path]:
    """Return the runs that answer a task: one a fold, in the order of the folds."""
    found: list[Path] = []
    for part in divided(folders, folds):
        found += [folder for folder in part if path_of(folder, task).is_file()][:1] or part[:1]
    return found


def divided(folders: Sequence[Path], folds: int) -> list[Sequence[Path]]:
    """Return the runs of each fold; those of a fold lie together."""
    count = len(folders) // folds
    return [folders[start : start + count] for start in range(0, len(folders), count)]


def path_of(folder: Path, task: str) -> Path:
    """Return the file of a run's answers for a task."""
    return folder / "predictions" / f"{task}.jsonl"


def rows_answered(folder: Path, task: str) -> int:
    """Return how many rows a run answered for a task. Raises UserError where they cannot be read."""
    return len(_read(folder, task))


def _read(folder: Path, task: str) -> _Lines:
    path = path_of(folder, task)
    try:
        lines = [parse_json(line) for line in read_text(path).split("\n") if line]
        if not lines or not all(isinstance(line, dict) and line.keys() >= _KEYS for line in lines):
            raise ValueError
        return lines
    except (OSError, ValueError):
        raise UserError(
            f"{path}: no predictions to be read there; the run is of another version: "
            f"delete {folder}, and the same command trains it again"
        ) from None


def _require_same_rows(task: str, arm: str, lines: _Lines, first: _Lines) -> None:
    if [(line["row"], line["label"]) for line in lines] != [(line["row"], line["label"]) for line in first]:
        raise UserError(_another_data_set(task, arm))


def _another_data_set(task: str, arm: str) -> str:
    return (
        f"arm {arm!r}: its predictions for {task!r} are about other rows or labels than those of its baseline; "
        "baselines of another data set compare with nothing: delete the run folders of this arm, or name another --out"
    )
