"""Which evaluation is kept: each rule orders evaluations as it says, and refuses what it cannot compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import polytask as pt
from polytask.assemble import assemble
from polytask.errors import ConfigError
from polytask.options import DataOptions
from polytask.tasks import smaller_is_better
from polytask.training.options import TrainOptions
from polytask.training.selection import RULES, DevScores, Rule, pareto, read_rule

Job = Callable[..., dict[str, Any]]
METRICS = {"intent": "accuracy", "rating": "mae"}
DATA = dict.fromkeys(METRICS, DataOptions(train="train.jsonl", dev="dev.jsonl"))
SHARE = st.floats(0.01, 1)


def dev(intent: float, rating: float) -> DevScores:
    """Scores whose normalised form has the majority at accuracy 0.5 and at a mean error of 2."""
    return DevScores(
        {"intent": {"accuracy": intent}, "rating": {"mae": rating}},
        {"intent": 2 * intent - 1, "rating": 1 - rating / 2},
    )


def rule(select: str, **baselines: float | str) -> Rule:
    return read_rule(TrainOptions(select=select, baselines=baselines or None), METRICS, DATA)


@pytest.mark.parametrize(
    ("select", "expected"),
    [("gap", (0.6 + 0.5) / 2), ("mean", (0.8 - 1) / 2), ("worst", 0.5), ("intent", 0.6), ("rating", 0.5)],
)
def test_each_rule_rates_an_evaluation_by_its_closed_form(select: str, expected: float) -> None:
    assert {*RULES} == {"gap", "mean", "worst"}
    assert rule(select)(dev(0.8, 1.0)) == pytest.approx(expected)


def test_given_baselines_make_gaps_relative_differences() -> None:
    """Maninis et al. 2019, equation 4: (0.8 - 0.4) / 0.4 = 1, and an error of 3 in place of 2 is half as bad again."""
    found = dev(0.8, 3.0)
    assert rule("gap", intent=0.4, rating=2.0)(found) == pytest.approx((1.0 - 0.5) / 2)
    assert rule("worst", intent=0.4, rating=2.0)(found) == pytest.approx(-0.5)


@given(SHARE, SHARE, SHARE, SHARE, st.sampled_from([None, {"intent": 0.3, "rating": 0.7}]))
def test_no_rule_prefers_an_evaluation_that_is_worse_for_every_task(
    one: float, other: float, error: float, more: float, baselines: dict[str, float] | None
) -> None:
    better, worse = dev(max(one, other), min(error, more)), dev(min(one, other), max(error, more))
    for name in (*RULES, *METRICS):
        chosen = Rule(name, METRICS, baselines)
        assert chosen(better) >= chosen(worse)


@given(SHARE, SHARE)
def test_what_only_equals_the_baselines_has_no_gap(accuracy: float, error: float) -> None:
    assert rule("gap", intent=accuracy, rating=error)(dev(accuracy, error)) == pytest.approx(0)
    assert smaller_is_better("mae")


def test_an_undefined_score_counts_as_nothing() -> None:
    undefined = DevScores({"intent": {"accuracy": None}, "rating": {"mae": 1.0}}, {"intent": 0.0, "rating": 0.5})
    assert rule("mean")(undefined) == pytest.approx(-0.5)
    assert rule("worst", intent=0.4, rating=1.0)(undefined) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("select", "baselines", "told"),
    [
        ("worse", {}, "train.select: found 'worse'; accepted: gap, intent, mean, rating, worst; did you mean 'worst'?"),
        ("gap", {"intend": 0.5}, "train.baselines: found 'intend'; accepted: intent, rating; did you mean 'intent'?"),
        ("gap", {"intent": 0.5}, "train.baselines: found nothing for 'rating'; expected one for every task"),
        ("gap", {"intent": 0, "rating": 1}, "train.baselines.intent: found 0, to which no difference is relative"),
        ("gap", {"intent": "nowhere", "rating": 1}, "train.baselines.intent: found 'nowhere', which holds no scores"),
    ],
)
def test_what_cannot_select_is_told(select: str, baselines: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rule(select, **baselines)
    assert told in str(caught.value)


def test_baselines_beside_a_rule_that_reads_none_are_an_error() -> None:
    with pytest.raises(ValueError, match="only gap and worst use them"):
        TrainOptions(select="mean", baselines={"intent": 0.5})


@pytest.mark.parametrize("select", [*RULES, "topic"])
def test_the_kept_evaluation_is_the_one_that_the_rule_rates_best(job: Job, tmp_path: Path, select: str) -> None:
    values = job(rows=30, epochs=1, evaluations_per_epoch=3, select=select)
    pt.train(values, tmp_path / "run")
    chosen = assemble(pt.Config.model_validate(values)).rule
    assert chosen.name == select
    record = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    log = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text("utf-8").splitlines()]
    found = [event for event in log if event["event"] == "evaluation"]
    assert record["selection"] == {"rule": select, "baselines": None}
    assert record["best_step"] == [event["step"] for event in found if event["best"]][-1]
    if select == "mean":
        rated = {event["step"]: chosen(DevScores(event["dev"], {})) for event in found}
        assert record["best_step"] == max(rated, key=rated.__getitem__)


def test_an_earlier_run_is_a_baseline_and_its_scores_are_noted(job: Job, tmp_path: Path) -> None:
    first = pt.train(job(max_steps=2), tmp_path / "first")
    baselines = {"sentiment": str(tmp_path / "first"), "topic": 0.25, "entities": 0.5}
    pt.train(job(max_steps=2, baselines=baselines), tmp_path / "second")
    record = json.loads((tmp_path / "second" / "run.json").read_text("utf-8"))
    reached = first.scores["dev"]["sentiment"]["accuracy"]
    assert record["selection"] == {"rule": "gap", "baselines": {**baselines, "sentiment": reached}}
    values = job(max_steps=2, baselines=baselines)
    values["tasks"]["sentiment"]["data"]["dev"] = 0.5
    with pytest.raises(ConfigError, match=r"train.baselines.sentiment: .* scores on different rows are not comparable"):
        pt.train(values)


SCORES = st.dictionaries(st.integers(0, 99), st.tuples(*[st.sampled_from([0.1, 0.2, 0.3])] * 3), min_size=1)


@given(SCORES)
def test_what_is_not_in_the_pareto_set_is_beaten_by_one_that_is(found: dict[int, tuple[float, ...]]) -> None:
    kept = pareto({step: dict(zip("abc", scores, strict=True)) for step, scores in found.items()})
    for step, scores in found.items():
        beaten = [
            other for other in kept
            if found[other] != scores and all(one >= two for one, two in zip(found[other], scores, strict=True))
        ]  # fmt: skip
        assert bool(beaten) == (step not in kept)
