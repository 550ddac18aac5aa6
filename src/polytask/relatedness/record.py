"""The result: matrices, groups, plan and an interpretation, as values and as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polytask.files import write_json
from polytask.relatedness.evidence import Evidence, Floats, MeasureResult
from polytask.relatedness.grouping import groups_of, plan_for, proven
from polytask.relatedness.measures import MEASURES
from polytask.relatedness.sentences import sentences_of
from polytask.relatedness.transfer import RankCorrelation, rank_correlation
from polytask.result import Result, listed
from polytask.sharing.plan import Plan

# The measure used for grouping: an average over all points, so the least noisy of those that a probe always has.
GROUPED_BY = "gradient_cosine"


@dataclass(frozen=True)
class Cost:
    """The cost of the probe, compared with one joint run.

    Attributes:
        row_passes, joint_row_passes: passes of one row through the encoder, forward 1 and backward 2.
        seconds: duration of the probe.
    """

    row_passes: int
    joint_row_passes: int
    seconds: float

    @property
    def share_of_joint_run(self) -> float:
        """Row passes relative to those of one joint run."""
        return self.row_passes / self.joint_row_passes


@dataclass(frozen=True, repr=False)
class Relatedness(Result):
    """How related tasks are.

    Attributes:
        tasks: T names, the order of all matrices.
        measures: results by name of the measure; see `MEASURES`.
        groups: groups of tasks that were shown to help each other; the others are alone.
        grouped_by: the measure on which the groups and the plan are based.
        affinity: that measure minus its standard error, of shape (T, T).
        plan: the tree that `sharing: {strategy: from_affinity}` builds from the affinity.
        cost: cost of the probe.
        rank_correlation: rank correlation of each measure with the true transfer, if a comparison has it.
        sentences: an interpretation, and what cannot be concluded.
    """

    tasks: tuple[str, ...]
    measures: Mapping[str, MeasureResult]
    groups: list[list[str]]
    grouped_by: str
    affinity: Floats
    plan: Plan
    cost: Cost
    rank_correlation: Mapping[str, RankCorrelation]
    sentences: list[str]

    def summary(self) -> str:
        return "groups " + " ".join(f"[{listed(group)}]" for group in self.groups)

    def records(self) -> list[dict[str, Any]]:
        return [
            {"measure": name, "task": one, "other": other, **_pair(measured, row, column)}
            for name, measured in self.measures.items()
            for row, one in enumerate(self.tasks)
            for column, other in enumerate(self.tasks)
            if row != column
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON: the file `relatedness.json`."""
        cost = {"share_of_joint_run": round(self.cost.share_of_joint_run, 4), **asdict(self.cost)}
        data = {
            "tasks": list(self.tasks),
            "measures": {
                name: {"meaning": MEASURES[name].meaning, **_measure_json(measured)}
                for name, measured in self.measures.items()
            },
            "groups": self.groups,
            "grouped_by": self.grouped_by,
            "plan": self.plan.to_json(),
            "picture": self.plan.picture(),
            "cost": cost,
            "sentences": self.sentences,
        }
        if self.rank_correlation:
            data["rank_correlation"] = {
                name: asdict(correlation) for name, correlation in self.rank_correlation.items()
            }
        return data

    def affinity_json(self) -> dict[str, Any]:
        """Return what `sharing: {strategy: from_affinity, file: ...}` reads."""
        return {"tasks": list(self.tasks), "affinity": _numbers(self.affinity)}

    def write(self, folder: Path) -> None:
        """Write `relatedness.json` and `affinity.json` into a folder."""
        for name, value in (("relatedness.json", self.to_json()), ("affinity.json", self.affinity_json())):
            write_json(folder / name, value)


def conclude(evidence: Evidence, layers: int, cost: Cost, notes: Sequence[str] = ()) -> Relatedness:
    """Compute the result from the evidence.

    Args:
        layers: number of encoder layers.
        notes: sentences to append.
    """
    computed = {name: measure.compute(evidence) for name, measure in MEASURES.items()}
    measures = {name: result for name, result in computed.items() if result is not None}
    affinity = proven(measures[GROUPED_BY])
    groups = groups_of(evidence.tasks, affinity)
    truth = measures.get("transfer")
    correlation = {
        name: rank_correlation(result.matrix, truth.matrix)
        for name, result in measures.items()
        if truth is not None and name != "transfer"
    }
    plan = plan_for(evidence.tasks, layers, affinity)
    sentences = sentences_of(evidence.tasks, measures[GROUPED_BY], groups, correlation)
    copies = max(map(len, plan.levels))
    if len(groups) > copies:
        sentences.append(
            f"The proposed plan has at most {copies} {'copies' if copies > 1 else 'copy'} of a layer, so some of the "
            f"{len(groups)} groups share one."
        )
    return Relatedness(
        evidence.tasks, measures, groups, GROUPED_BY, affinity, plan, cost, correlation, [*sentences, *notes]
    )  # fmt: skip


def _pair(measured: MeasureResult, row: int, column: int) -> dict[str, float | None]:
    """Return how much the task of a row helps that of a column, and the standard error."""
    value = float(measured.matrix[row, column])
    error = None if measured.error is None else float(measured.error[row, column])
    return {"value": value if np.isfinite(value) else None, "error": error}


def _measure_json(measured: MeasureResult) -> dict[str, Any]:
    data: dict[str, Any] = {"matrix": _numbers(measured.matrix)}
    if measured.error is not None:
        data["error"] = _numbers(measured.error)
    if measured.layers:
        data["layers"] = {number: _numbers(matrix) for number, matrix in measured.layers.items()}
    return data


def _numbers(matrix: Floats) -> list[list[float | None]]:
    """Return a matrix as JSON; null where there is no number."""
    return [[float(f"{value:.6g}") if np.isfinite(value) else None for value in row] for row in matrix.tolist()]
