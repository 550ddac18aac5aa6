"""What the runs answered on the test rows, read back from their folders, and whether they answered the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polytask.errors import UserError
from polytask.files import parse_json
from polytask.terms import Label


@dataclass(frozen=True)
class ArmPredictions:
    """A task's test rows and what the models of one arm said, seed by seed.

    Attributes:
        rows: their numbers in the split.
        predictions: seeds x rows.
        seeds: of the models; without any those of the baseline, in its order.
        places: where the rows stand: file and line; empty where the runs do not say.
    """

    rows: tuple[int, ...]
    texts: tuple[str, ...]
    labels: tuple[Label, ...]
    predictions: tuple[tuple[Label, ...], ...]
    seeds: tuple[int, ...] = ()
    places: tuple[str, ...] = ()

    def over(self, seeds: Sequence[int]) -> ArmPredictions:
        """Return the answers of the models with some of the seeds."""
        if not self.seeds or not seeds:
            return self
        return replace(
            self, seeds=tuple(seeds), predictions=tuple(self.predictions[self.seeds.index(seed)] for seed in seeds)
        )

    def measured(self, measure: Callable[[Sequence[Label]], Sequence[Any]]) -> ArmPredictions:
        """Return labels and predictions as a metric takes them."""
        predictions = tuple(tuple(measure(one)) for one in self.predictions)
        return replace(self, labels=tuple(measure(self.labels)), predictions=predictions)


def read_predictions(
    runs: Mapping[str, Mapping[int, Sequence[Path]]], tasks: Sequence[str]
) -> dict[str, dict[str, ArmPredictions]]:
    """Return the answers by task and arm. Raises UserError when arms were scored on different rows."""
    answers: dict[str, dict[str, ArmPredictions]] = {task: {} for task in tasks}
    for task in tasks:
        for arm, by_seed in runs.items():
            read = [_read(_folder_of(folders, task), task) for folders in by_seed.values()]
            for lines in read:
                _require_same_rows(task, arm, lines, read[0])
            first = read[0]
            found = tuple(tuple(line["prediction"] for line in lines) for lines in read)
            answers[task][arm] = ArmPredictions(
                tuple(line["row"] for line in first),
                tuple(line.get("text", "") for line in first),
                tuple(line["label"] for line in first),
                found,
                tuple(by_seed),
                tuple(line.get("place", "") for line in first),
            )
        whole = next(iter(answers[task].values()))
        for arm, one in answers[task].items():
            if (one.rows, one.labels) != (whole.rows, whole.labels):
                raise UserError(_another_data_set(task, arm))
    return answers


def _folder_of(folders: Sequence[Path], task: str) -> Path:
    """Return the run that answers a task; each task is answered by one."""
    return next((folder for folder in folders if path_of(folder, task).is_file()), folders[0])


def path_of(folder: Path, task: str) -> Path:
    """Return the file of a run's answers for a task."""
    return folder / "predictions" / f"{task}.jsonl"


def rows_answered(folder: Path, task: str) -> int:
    """Return how many rows a run answered for a task. Raises UserError where they cannot be read."""
    return len(_read(folder, task))


def _read(folder: Path, task: str) -> list[dict[str, Any]]:
    path = path_of(folder, task)
    try:
        return [parse_json(line) for line in path.read_text("utf-8").split("\n") if line]
    except (OSError, ValueError):
        raise UserError(
            f"{path}: no predictions to be read there; the run is of another version: "
            f"delete {folder}, and the same command trains it again"
        ) from None


def _require_same_rows(task: str, arm: str, lines: Sequence[Mapping[str, Any]], first: Sequence[Any]) -> None:
    if [(line["row"], line["label"]) for line in lines] != [(line["row"], line["label"]) for line in first]:
        raise UserError(_another_data_set(task, arm))


def _another_data_set(task: str, arm: str) -> str:
    return (
        f"arm {arm!r}: its predictions for {task!r} are about other rows or labels than those of its baseline; "
        "baselines of another data set compare with nothing: delete the run folders of this arm, or name another --out"
    )
