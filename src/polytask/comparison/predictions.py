"""Predictions of the runs on the test rows, read from their folders, with a check that the rows are the same.

If folds of the training rows replace test rows, the model of each fold predicts a part of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, TypeAlias

from polytask.errors import OutputError, UserError
from polytask.files import parse_json, read_json
from polytask.regular import read_text
from polytask.terms import Label

_Lines: TypeAlias = list[dict[str, Any]]
_KEYS = frozenset({"row", "label", "prediction"})
# What the files of a finished run hold at least.
_RECORDS = {
    "run.json": frozenset({"seconds", "predicted_split", "parameters", "exposure"}),
    "data.json": frozenset({"sources"}),
    "scores.json": frozenset({"dev"}),
    "baselines.json": frozenset({"dev"}),
}
# Takes labels, predictions and probabilities of the positive label; returns truth and predictions for a metric.
Measure: TypeAlias = Callable[
    [Sequence[Label], Sequence[Label], "Sequence[float] | None"], tuple[Sequence[Any], Sequence[Any]]
]


@dataclass(frozen=True)
class ArmPredictions:
    """A task's test rows, and the predictions of one arm's models by seed.

    Attributes:
        rows: numbers of the rows in the split.
        predictions: seeds x rows.
        seeds: seeds of the models; if empty, those of the baseline in its order.
        places: file and line of the rows; empty if the runs did not record them.
        probabilities: probabilities of the positive label, seeds x rows; empty if unknown.
        folders: folders of the runs that predicted them.
    """

    rows: tuple[int, ...]
    texts: tuple[str, ...]
    labels: tuple[Label, ...]
    predictions: tuple[tuple[Label, ...], ...]
    seeds: tuple[int, ...] = ()
    places: tuple[str, ...] = ()
    probabilities: tuple[tuple[float, ...], ...] = ()
    folders: tuple[Path, ...] = ()

    @classmethod
    def of(cls, answers: Sequence[_Lines], seeds: tuple[int, ...], folders: Sequence[Path] = ()) -> ArmPredictions:
        """Return the predictions of models with these seeds on the same rows, from the lines of their files."""
        first = answers[0]
        has_probabilities = all("probability" in line for lines in answers for line in lines)
        return cls(
            tuple(line["row"] for line in first),
            tuple(line.get("text", "") for line in first),
            tuple(line["label"] for line in first),
            tuple(tuple(line["prediction"] for line in lines) for lines in answers),
            seeds,
            tuple(line.get("place", "") for line in first),
            tuple(tuple(line["probability"] for line in lines) for lines in answers) if has_probabilities else (),
            tuple(folders),
        )

    def over(self, seeds: Sequence[int]) -> ArmPredictions:
        """Return the predictions for some of the seeds."""
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
        """Append the rows of models that were trained with the same seeds."""
        return replace(
            self,
            rows=tuple(range(len(self.rows) + len(other.rows))),
            texts=self.texts + other.texts,
            labels=self.labels + other.labels,
            predictions=tuple(values + more for values, more in zip(self.predictions, other.predictions, strict=True)),
            places=self.places + other.places,
            probabilities=tuple(
                values + more for values, more in zip(self.probabilities, other.probabilities, strict=True)
            ),
            folders=self.folders + other.folders,
        )

    def measured(self, measure: Measure) -> ArmPredictions:
        """Return labels and predictions in the form that a metric takes."""
        each = self.probabilities or [None] * len(self.predictions)
        pairs = [
            measure(self.labels, predicted, probabilities)
            for predicted, probabilities in zip(self.predictions, each, strict=True)
        ]
        return replace(
            self,
            labels=tuple(pairs[0][0]),
            predictions=tuple(tuple(measured_predictions) for _, measured_predictions in pairs),
        )


def read_predictions(
    runs: Mapping[str, Mapping[int, Sequence[Path]]], tasks: Sequence[str], folds: int = 1
) -> dict[str, dict[str, ArmPredictions]]:
    """Return the predictions by task and arm. Raises UserError if arms were scored on different rows.

    Args:
        runs: run folders by arm and seed.
        tasks: names of the tasks.
        folds: number of an arm's runs per seed that predict a task, each on its own rows.
    """
    answers: dict[str, dict[str, ArmPredictions]] = {task: {} for task in tasks}
    for task in tasks:
        first: list[ArmPredictions] = []
        for arm, by_seed in runs.items():
            found = [_folders_of(folders, task, folds) for folders in by_seed.values()]
            parts = [_of_fold(task, one, tuple(by_seed)) for one in zip(*found, strict=True)]
            first = first or parts
            for part, same in zip(parts, first, strict=True):
                if part.labels != same.labels or (folds == 1 and part.rows != same.rows):
                    raise UserError(_other_rows(task, part.folders[0], same.folders[0]))
            answers[task][arm] = reduce(ArmPredictions.followed_by, parts)
    return answers


def require_answers_to(
    labels: Mapping[str, Sequence[Label]], answers: Mapping[str, Mapping[str, ArmPredictions]]
) -> None:
    """Raise UserError unless the runs predicted the rows that are compared.

    Args:
        labels: labels of these rows by task. Texts and numbers are compared; of others only their number.
        answers: predictions by task and arm.
    """
    for task, by_arm in answers.items():
        for predictions in by_arm.values():
            pairs = zip(labels[task], predictions.labels, strict=False)
            different = any(isinstance(label, str | int | float) and label != other for label, other in pairs)
            if different or len(labels[task]) != len(predictions.labels):
                listed = ", ".join(map(str, predictions.folders))
                raise UserError(
                    f"{path_of(predictions.folders[0], task)}: predictions for other rows or labels than those that "
                    f"are compared; delete the runs of these models ({listed}), and the same command trains them again"
                )


def _of_fold(task: str, folders: Sequence[Path], seeds: tuple[int, ...]) -> ArmPredictions:
    """Return the predictions of the models of all seeds on the same rows."""
    lines_by_seed = [_read(folder, task) for folder in folders]
    for folder, lines in zip(folders, lines_by_seed, strict=True):
        if [(line["row"], line["label"]) for line in lines] != [
            (line["row"], line["label"]) for line in lines_by_seed[0]
        ]:
            raise UserError(_other_rows(task, folder, folders[0]))
    return ArmPredictions.of(lines_by_seed, seeds, folders)


def _folders_of(folders: Sequence[Path], task: str, folds: int) -> Sequence[Path]:
    """Return the runs that predict a task: one per fold, in the order of the folds."""
    answering: list[Path] = []
    for part in divided(folders, folds):
        answering += [folder for folder in part if path_of(folder, task).is_file()][:1] or part[:1]
    return answering


def divided(folders: Sequence[Path], folds: int) -> list[Sequence[Path]]:
    """Split runs, which are ordered by fold, into those of each fold."""
    count = len(folders) // folds
    return [folders[start : start + count] for start in range(0, len(folders), count)]


def path_of(folder: Path, task: str) -> Path:
    """Return the file with a run's predictions for a task."""
    return folder / "predictions" / f"{task}.jsonl"


def rows_answered(folder: Path, task: str) -> int:
    """Return the number of rows that a run predicted for a task. Raises UserError if they cannot be read."""
    return len(_read(folder, task))


def read_record(run: Path, name: str) -> dict[str, Any]:
    """Read a JSON file of a finished run. Raises OutputError, naming the run to train again, if it is damaged."""
    again = f"delete {run}, and the same command trains it again"
    record = read_json(run / name, again)
    missing = _RECORDS[name] - record.keys() if isinstance(record, dict) else _RECORDS[name]
    if missing:
        raise OutputError(
            f"{run / name}: has no {', '.join(sorted(missing))}; it is damaged, or from another version: {again}"
        )
    return record


def _read(folder: Path, task: str) -> _Lines:
    path, again = path_of(folder, task), f"delete {folder}, and the same command trains it again"
    try:
        lines = [parse_json(line) for line in read_text(path).split("\n") if line]
        if not lines or not all(isinstance(line, dict) and line.keys() >= _KEYS for line in lines):
            raise ValueError
    except (OSError, ValueError):
        raise UserError(
            f"{path}: no readable predictions; the file is damaged, or from another version: {again}"
        ) from None
    count = read_record(folder, "run.json").get("predicted_rows", {}).get(task, len(lines))
    if len(lines) != count:
        raise UserError(f"{path}: found {len(lines)} predictions, but the run made {count}; it is damaged: {again}")
    return lines


def _other_rows(task: str, folder: Path, other: Path) -> str:
    return (
        f"{path_of(folder, task)}: predictions for other rows or labels than those in {path_of(other, task)}, so they "
        f"cannot be compared; one of the two is damaged: delete {folder} and {other}, and the same command trains them "
        "again"
    )
