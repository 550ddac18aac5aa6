"""The record of a comparison, comparison.json, built from the run folders and the findings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polytask.comparison.arms import BASELINE
from polytask.comparison.examples import examples
from polytask.comparison.predictions import ArmPredictions, divided, read_record
from polytask.comparison.preparation import Prepared
from polytask.comparison.statistics import LEVEL, Difference, holm, mean_of, overall
from polytask.comparison.transfer import transfer
from polytask.comparison.verdict import TEST_ROWS, TRAINING_ROWS, SharingArm, VerdictInputs, judge, recommend
from polytask.errors import OutputError
from polytask.regular import read_text
from polytask.tasks.arrays import rounded
from polytask.tasks.metric import smaller_is_better

Folders = Mapping[int, Sequence[Path]]


@dataclass(frozen=True)
class Findings:
    """The findings of a comparison.

    Attributes:
        metrics: main metric of each task.
        runs: run folders by arm and seed, one per model of the arm.
        answers, differences: predictions and differences by task and arm.
        floor: points that a task may lose.
        folds: number of folds of the training rows that replace test rows; 0 for none.
    """

    metrics: Mapping[str, str]
    prepared: Mapping[str, Prepared]
    runs: Mapping[str, Folders]
    answers: Mapping[str, Mapping[str, ArmPredictions]]
    differences: Mapping[str, Mapping[str, Difference]]
    seeds: tuple[int, ...]
    floor: float
    notes: tuple[str, ...]
    folds: int = 0

    def divided(self, folders: Sequence[Path]) -> list[Sequence[Path]]:
        """Split an arm's runs with a seed by fold."""
        return divided(folders, self.folds or 1)


def to_json(findings: Findings, folder: Path) -> dict[str, Any]:
    """Return comparison.json.

    Args:
        findings: the findings.
        folder: folder that the paths of runs are relative to.
    """
    arms = {name: _arm(arm, findings.runs[name], folder, findings) for name, arm in findings.prepared.items()}
    sharing = sorted(
        (name for name, arm in findings.prepared.items() if arm.shares), key=lambda name: arms[name]["parameters"]
    )
    candidates = [_candidate(name, arms[name]["parameters"], findings) for name in sharing]
    recommended, reason = recommend(candidates, arms[BASELINE]["parameters"], findings.floor)
    unequal = [name for name in sharing if findings.prepared[name].unequal]
    if unequal:
        reason += f"; the budget of {', '.join(unequal)} is not that of the single models, see the notes"
    shown = recommended if recommended in sharing else max(candidates, key=lambda arm: arm.mean).name
    return {
        "tasks": {task: _task(task, sharing, findings) for task in findings.metrics},
        "arms": arms,
        "recommended": recommended,
        "reason": reason,
        "floor": findings.floor,
        "seeds": list(findings.seeds),
        "folds": findings.folds,
        "level": LEVEL,
        "notes": list(findings.notes),
        "overall": {arm.name: _overall(arm) for arm in candidates},
        "transfer": transfer(
            findings.metrics, findings.runs, findings.prepared, findings.differences, sharing, findings.folds or 1
        ),
        "examples": {
            task: {"arm": shown, **examples(by_arm[BASELINE].over(by_arm[shown].seeds), by_arm[shown])}

            for task, by_arm in findings.answers.items()
        },
    }  # fmt: skip


def _overall(candidate: SharingArm) -> dict[str, float] | None:
    """Return an arm's mean relative difference over tasks."""
    return (
        None
        if candidate.overall is None
        else dict(zip(("mean", "low", "high"), map(rounded, candidate.overall), strict=True))
    )


def _candidate(name: str, parameters: int, findings: Findings) -> SharingArm:
    differences = {task: by_arm[name] for task, by_arm in findings.differences.items()}
    # Only the seeds that the arm was trained with.
    at = [list(findings.runs[BASELINE]).index(seed) for seed in findings.runs[name]]
    values = [by_arm[BASELINE].values for by_arm in findings.differences.values()]
    singles = [mean_of([scores[index] for index in at]) for scores in values]
    floors = dict.fromkeys(differences, findings.floor / 100)
    return SharingArm(name, differences, floors, overall(list(differences.values()), singles), parameters)


def _task(task: str, sharing: Sequence[str], findings: Findings) -> dict[str, Any]:
    by_arm, rows = findings.differences[task], len(findings.answers[task][BASELINE].rows)
    chosen = {name: by_arm[name] for name in sharing}
    metric = findings.metrics[task]
    means = [one.mean for one in by_arm.values() if one.mean is not None]
    best = min if smaller_is_better(metric) else max
    reached, majority = best(means) if means else None, _majority(task, metric, findings)
    fewer = {name: len(findings.runs[name]) for name in chosen if len(findings.runs[name]) < len(findings.seeds)}
    verdict = judge(
        VerdictInputs(
            task,
            metric,
            chosen,
            findings.floor / 100,
            rows,
            len(findings.seeds),
            reached,
            majority,
            fewer,
            TRAINING_ROWS if findings.folds else TEST_ROWS,
        )
    )
    corrected = _corrected(by_arm, findings)
    return {
        "metric": metric,
        "smaller_is_better": smaller_is_better(metric),
        "rows": rows,
        "majority": _rounded(majority),
        "arms": {name: {**_difference(one), **corrected.get(name, {})} for name, one in by_arm.items()},
        "verdict": verdict.word,
        "sentence": verdict.sentence + "".join(findings.prepared[name].unequal.of(task, name) for name in sharing),
        "needed": None if verdict.needed is None else asdict(verdict.needed),
    }


def _corrected(by_arm: Mapping[str, Difference], findings: Findings) -> dict[str, dict[str, float]]:
    """Return the arms' p-values, raw and corrected for the number of arms; arms with the same runs count once."""
    families: dict[str, list[str]] = {}
    for name, one in by_arm.items():
        if name != BASELINE and one.p is not None:
            families.setdefault(str(findings.runs[name]), []).append(name)
    values = [by_arm[names[0]].p or 0.0 for names in families.values()]
    return {
        name: {"p": rounded(value), "p_holm": rounded(corrected)}
        for names, value, corrected in zip(families.values(), values, holm(values), strict=True)
        for name in names
    }


def _majority(task: str, metric: str, findings: Findings) -> float | None:
    """Return the score of the majority baseline on the compared rows; the mean over folds, if any."""
    scores: list[float | None] = []
    for run in next(iter(findings.runs[BASELINE].values())):
        split = read_record(run, "run.json")["predicted_split"].get(task)
        if split is not None:
            scores.append(read_record(run, "baselines.json").get(split, {}).get(task, {}).get(metric))
    return mean_of(scores) if scores else None


def _difference(difference: Difference) -> dict[str, Any]:
    values = {
        "mean": difference.mean,
        "std": difference.std,
        "delta": difference.delta,
        "low": difference.low,
        "high": difference.high,
    }
    spread = {"from_rows": math.sqrt(difference.from_rows), "from_seeds": math.sqrt(difference.from_seeds)}
    return {
        **{key: _rounded(value) for key, value in {**values, "relative": difference.relative, **spread}.items()},
        "values": [_rounded(value) for value in difference.values],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else rounded(value)


def _arm(prepared: Prepared, runs: Folders, folder: Path, findings: Findings) -> dict[str, Any]:
    """Return the parts and costs of an arm, averaged over seeds and folds; for single models the total of all."""
    parts = [part for listed in runs.values() for part in findings.divided(listed)]
    records = [[read_record(run, "run.json") for run in part] for part in parts]
    exposure = {
        task: round(float(np.mean(seen)))
        for task in findings.metrics
        if (seen := [run["exposure"][task]["rows"] for listed in records for run in listed if task in run["exposure"]])
    }
    return {
        "overrides": list(prepared.arm.overrides),
        "parameters": _mean([sum(run["parameters"]["total"] for run in listed) for listed in records]),
        "train_seconds": round(float(np.mean([sum(run["seconds"] for run in listed) for listed in records])), 1),
        "predict_rows_per_second": _speed(prepared, parts, records),
        "exposure": exposure,
        "shares": prepared.shares,
        "runs": {str(seed): [str(run.relative_to(folder)) for run in listed] for seed, listed in runs.items()},
    }


def _mean(values: Sequence[float]) -> int:
    return round(sum(values) / len(values))


def _speed(
    prepared: Prepared, parts: Sequence[Sequence[Path]], records: Sequence[Sequence[Mapping[str, Any]]]
) -> float | None:
    """Return test rows per second with all their tasks; several models process a row one after another."""
    speeds: list[float] = []
    for folders, listed in zip(parts, records, strict=True):
        rates = [run.get("predict_rows_per_second") for run in listed]
        if not prepared.arm.answers or not all(rates):
            return None
        passed = [_test_rows(run) for run in folders]
        distinct = sum({source: rows for found in passed for source, rows in found.items()}.values())
        seconds = sum(sum(found.values()) / rate for found, rate in zip(passed, rates, strict=True) if rate)
        speeds.append(distinct / seconds)
    return round(float(np.mean(speeds)), 1)


def _test_rows(run: Path) -> dict[str, int]:
    """Return the number of predicted rows per source; the key is equal for equal sources of two runs."""
    predicted, config = read_record(run, "run.json")["predicted_split"], _config(run)
    rows_by_source: dict[str, int] = {}
    for source in read_record(run, "data.json")["sources"]:
        tasks = [task for task in source["tasks"] if predicted.get(task) == source["split"]]
        if tasks:
            rows_by_source[json.dumps([source["split"], config["tasks"][tasks[0]].get("data", {})])] = source["rows"]
    return rows_by_source


def _config(run: Path) -> dict[str, Any]:
    import yaml

    try:
        return yaml.safe_load(read_text(run / "config.yaml"))
    except (OSError, ValueError, yaml.YAMLError):
        raise OutputError(
            f"{run / 'config.yaml'}: cannot be read; delete {run}, and the same command trains it again"
        ) from None
