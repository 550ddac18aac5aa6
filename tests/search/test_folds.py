"""Folds of the training rows as evidence: who answers them, and how they are counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import polytask
from polytask.comparison import runs
from polytask.comparison.arms import BASELINE
from polytask.comparison.predictions import ArmPredictions
from polytask.comparison.statistics import Difference, compare_arms
from polytask.errors import TrainingError
from polytask.search import evidence
from polytask.search.outline import FOLDS
from polytask.search.record import doubts
from polytask.search.stages import standing
from polytask.tasks.metric import METRICS


@pytest.fixture(scope="module")
def judged(given: tuple[dict[str, Any], Path]) -> polytask.AutoResult:
    """A search whose winner is judged by two folds, however clear it is."""
    values, folder = given
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "CLEAR", 2.0)
        return polytask.auto(values, folder / "judged", budget=9, folds=2, floor=50)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def lines(run: Path, task: str) -> list[dict[str, Any]]:
    return read(run / "predictions" / f"{task}.jsonl")


def test_every_fold_is_answered_by_models_that_did_not_train_on_it(
    judged: polytask.AutoResult, given: tuple[dict[str, Any], Path]
) -> None:
    values, _ = given
    rows = {split: read(Path(file)) for split, file in values["tasks"]["topic"]["data"].items()}
    answered: list[set[str]] = []
    assert [one["fold"] for one in judged.record["evidence"]] == [1, 2]
    for one in judged.record["evidence"]:
        runs = [judged.folder / "runs" / name for name in (one["winner"], *one["singles"].values())]
        assert len({run.name for run in runs}) == 1 + len(values["tasks"])
        for run in runs:
            config = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
            assert all(task["data"]["fold"] == f"{one['fold']}/{FOLDS}" for task in config["tasks"].values())
            assert all("test" not in task["data"] for task in config["tasks"].values())
            tested = {line["text"] for task in config["tasks"] for line in read(run / "predictions" / f"{task}.jsonl")}
            own = {row["text"] for row in rows["train"] if any(row.get(task) is not None for task in config["tasks"])}
            assert tested < own
            sources = json.loads((run / "data.json").read_text("utf-8"))["sources"]
            assert sum(source["rows"] for source in sources if source["split"] == "train") == len(own - tested)
        answered.append({line["text"] for task in values["tasks"] for line in lines(runs[0], task)})
    assert all(answered)
    assert not answered[0] & answered[1]
    assert not (answered[0] | answered[1]) & {row["text"] for split in ("dev", "test") for row in rows[split]}


def test_a_task_stands_where_all_rows_that_were_answered_put_it(judged: polytask.AutoResult) -> None:
    runs = judged.folder / "runs"
    whole: dict[str, Any] = {
        "winner": [one["run"] for one in judged.record["candidates"] if one["name"] == judged.record["winner"]][-1],
        "singles": {task: Path(place).name for task, place in judged.record["singles_runs"].items()},
    }
    assert any(told["lifted_by"] is None for told in judged.tasks.values())
    for task, told in judged.tasks.items():
        pairs: list[dict[str, Any]] = [{**whole, "winner": Path(whole["winner"]).name}, *judged.record["evidence"]]
        joint = [line for pair in pairs for line in lines(runs / pair["winner"], task)]
        single = [line for pair in pairs for line in lines(runs / pair["singles"][task], task)]
        labels = [line["label"] for line in joint]
        assert labels == [line["label"] for line in single]
        dev = len(lines(runs / Path(whole["winner"]).name, task))
        assert told["rows"] == {"dev": dev, "folds": len(labels) - dev}
        measure = METRICS["row"][told["metric"]]
        scores = [measure(labels, [line["prediction"] for line in answers]) for answers in (joint, single)]
        assert scores[0] is not None
        assert scores[1] is not None
        if told["lifted_by"] is None:
            assert told["dev"]["delta"] == pytest.approx(scores[0] - scores[1], abs=1e-3)
            assert f"by {dev} dev rows and {len(labels) - dev} held out of training" in told["sentence"]


def test_the_budget_is_kept_and_what_is_not_needed_is_left_for_the_ladder(
    judged: polytask.AutoResult, given: tuple[dict[str, Any], Path]
) -> None:
    assert judged.spent <= judged.record["budget"] * 1.05
    values, folder = given
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "CLEAR", 0.5)
        clear = polytask.auto(values, folder / "judged", budget=9, folds=2, floor=50)
    assert clear.record["evidence"] == []
    assert clear.spent < judged.spent
    assert all(task["rows"]["folds"] == 0 for task in clear.tasks.values())


def test_folds_that_the_budget_cannot_pay_are_refused(given: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    with pytest.raises(polytask.ConfigError, match=r"--budget: found 4, .* 5 times again without a fold, cost 14\.17"):
        polytask.auto(given[0], tmp_path / "out", budget=4, folds=5)


def difference(single: list[str], joint: list[str], name: str) -> Difference:
    labels, rows = ["a"] * len(single), tuple(range(len(single)))
    texts = tuple(f"{name} {number}" for number in rows)
    answers = {
        arm: ArmPredictions(rows, texts, tuple(labels), (tuple(one),))
        for arm, one in ((BASELINE, single), ("joint", joint))
    }
    return compare_arms("accuracy", "row", answers, baseline=BASELINE, resamples=500, seed=0)["joint"]


def width(one: Difference) -> float:
    assert one.low is not None
    assert one.high is not None
    return one.high - one.low


def test_a_step_is_added_to_what_is_known() -> None:
    known = difference(["a"] * 20 + ["b"] * 20, ["a"] * 30 + ["b"] * 10, "all")
    step = difference(["a"] * 15 + ["b"] * 5, ["a"] * 13 + ["b"] * 7, "dev")
    both = evidence.added(known, step)
    assert both.delta == pytest.approx(0.25 - 0.1)
    assert width(both) > width(known)  # two errors are more than one
    same = evidence.added(known, difference(["a"] * 20, ["a"] * 20, "dev"))
    assert (same.delta, same.low, same.high) == (known.delta, known.low, known.high)
    assert standing(replace(same, rows=known.rows), 0.5, "accuracy") == standing(known, 0.5, "accuracy")


def test_undefined_replicates_do_not_lie_above_the_floor() -> None:
    known = difference(["a"] * 40, ["a"] * 10 + ["b"] * 30, "worse")
    undefined = replace(known, replicates=np.where(np.arange(500) % 5, known.replicates, np.nan))
    assert standing(undefined, 0.5, "f1").above < 0.01
    alike = difference(["a"] * 2000, ["a"] * 2000, "alike")
    undefined = replace(alike, replicates=np.where(np.arange(500) % 5, alike.replicates, np.nan))
    assert standing(undefined, 0.5, "f1").above == pytest.approx(0.8)


@pytest.mark.parametrize(("rows", "least", "most"), [(60, 0.6, 0.65), (300, 0.9, 0.95), (2000, 0.999, 1.0)])
def test_equal_answers_to_few_rows_do_not_show_that_a_floor_holds(rows: int, least: float, most: float) -> None:
    alike = difference(["a"] * rows, ["a"] * rows, "alike")
    assert least <= standing(alike, 0.5, "accuracy").above <= most
    assert standing(alike, 0.0, "accuracy").above == 0.5
    assert standing(alike, 0.5, "mae").above == 1.0  # its unit is unknown, and errors differ in nearly every row


def outcome(above: float, high: float | None, *, folds: int = 0, lifted_by: str | None = None) -> dict[str, Any]:
    low = None if high is None else high - 0.05
    return {
        "below_floor": False, "single_learned": True, "lifted_by": lifted_by, "dev": {"above": above},
        "rows": {"dev": 100, "folds": folds}, "judged": True,
        "low": low, "high": high, "split": "test", "judged_by": "100 dev rows",
    }  # fmt: skip


def test_what_is_not_sure_is_said_and_so_is_what_test_rows_say_of_it() -> None:
    assert doubts({"a": outcome(0.95, 0.02), "b": outcome(1.0, 0.0, lifted_by="graft")}) == []
    (few,) = doubts({"a": outcome(0.6, 0.02), "b": outcome(0.99, 0.02)})
    assert few.startswith("a: too few rows to tell")
    assert "--folds 5" in few
    (few,) = doubts({"a": outcome(0.6, 0.02, folds=80), "b": outcome(0.7, None, folds=70)})
    assert few.startswith("a, b: too few rows to tell")
    assert "--folds" not in few
    (nothing,) = doubts({"a": {**outcome(1.0, 0.0), "single_learned": False}, "b": outcome(1.0, 0.0)})
    assert nothing.startswith("a: its own model is no better than the majority on dev")
    behind, few = doubts({"a": outcome(0.6, -0.01)})
    assert behind.startswith("a: on test it is behind its own model beyond the noise of these rows (-6.0 to -1.0 ")
    assert few.startswith("a: too few rows")


def test_a_fold_that_cannot_be_judged_by_is_told_and_its_cost_is_counted(
    judged: polytask.AutoResult, given: tuple[dict[str, Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, _ = given
    real = runs.train

    def train(config: Any, *arguments: Any, **options: Any) -> Any:
        if len(config.tasks) > 1 and any(task.data.fold for task in config.tasks.values()):
            raise TrainingError("the loss is not finite")
        return real(config, *arguments, **options)

    monkeypatch.setattr(runs, "train", train)
    monkeypatch.setattr(evidence, "CLEAR", 2.0)
    found = polytask.auto(values, tmp_path / "out", budget=9, folds=2, floor=0)
    assert found.record["evidence"] == []
    (note, *_) = [one for one in found.record["notes"] if one.startswith("fold 1 of 5 is not judged by: ")]
    assert note.endswith("the loss is not finite")
    assert found.spent <= found.record["budget"] * 1.05
    assert set(found.tasks) == set(judged.tasks)
