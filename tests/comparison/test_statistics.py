"""The intervals are those of normal theory, planted differences are found, and the verdicts follow from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from polytask.comparison.examples import examples
from polytask.comparison.predictions import ArmPredictions
from polytask.comparison.statistics import Difference, combine, compare_arms, drawn_seeds, overall
from polytask.comparison.verdict import Needed, SharingArm, VerdictInputs, judge, needed_for, points, recommend
from polytask.evaluation.bootstrap import interval

ROWS = 400


def answers(right: Sequence[float], generator: np.random.Generator, rows: int = ROWS) -> ArmPredictions:
    """Answers to yes-or-no questions that are right with these probabilities, seed by seed."""
    found = tuple(tuple("yes" if value else "no" for value in generator.random(rows) < share) for share in right)
    return ArmPredictions(tuple(range(rows)), tuple(f"text {row}" for row in range(rows)), ("yes",) * rows, found)


def compared(single: Sequence[float], arm: Sequence[float], *, seed: int = 0, rows: int = ROWS) -> Difference:
    generator = np.random.default_rng(seed)
    both = {"single": answers(single, generator, rows), "arm": answers(arm, generator, rows)}
    found = compare_arms("accuracy", "row", both, baseline="single", resamples=2000, seed=0)
    assert (found["single"].delta, found["single"].low, found["single"].high) == (0, 0, 0)
    return found["arm"]


def difference(delta: float, low: float, high: float, rows: float = 1e-4, seeds: float = 1e-4) -> Difference:
    return Difference((0.8 + delta,) * 2, delta, low, high, delta / 0.8, rows, seeds, np.array([low, delta, high]))


def verdict(floor: float = 0.005, **arms: Difference) -> str:
    return judge(VerdictInputs("topic", "accuracy", arms, floor, ROWS, 3)).word


def test_the_interval_of_a_difference_of_accuracies_is_that_of_normal_theory() -> None:
    generator = np.random.default_rng(7)
    both = {"single": answers([0.7, 0.7, 0.7], generator), "arm": answers([0.8, 0.8, 0.8], generator)}
    found = compare_arms("accuracy", "row", both, baseline="single", resamples=4000, seed=0)["arm"]
    right = [
        np.array([[answer == "yes" for answer in one] for one in both[name].predictions]) for name in ("single", "arm")
    ]
    each = right[1].astype(float) - right[0]
    from_rows = each.mean(0).var() / ROWS
    from_seeds = each.mean(1).var(ddof=1) / 3 + (each.var(1).mean() - each.mean(0).var()) / ROWS / 2
    assert found.delta == pytest.approx(each.mean())
    assert found.from_rows == pytest.approx(from_rows, rel=0.1)
    assert found.from_seeds == pytest.approx(from_seeds, rel=0.25)
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(found.from_rows + found.from_seeds), rel=0.06)


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_the_seeds_part_has_the_variance_of_a_mean_of_seeds(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(size=seeds)
    drawn = drawn_seeds(seeds, 20_000, 0)
    middle, stretched = combine(np.tile(values, (20_000, 1)), drawn)
    assert middle == pytest.approx(np.full(20_000, values.mean()))
    assert np.var(stretched) == pytest.approx(values.var(ddof=1) / seeds, rel=0.05)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Eight seeds that differ, 200 rows: a fresh experiment each time."""
    covered, count = 0, 120
    for seed in range(count):
        generator = np.random.default_rng(seed)
        single, arm = (np.clip(generator.normal(middle, 0.03, size=8), 0, 1) for middle in (0.7, 0.75))
        both = {"single": answers(single.tolist(), generator, 200), "arm": answers(arm.tolist(), generator, 200)}
        found = compare_arms("accuracy", "row", both, baseline="single", resamples=400, seed=seed)["arm"]
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.05 <= found.high
    assert 0.88 <= covered / count <= 1.0


def test_planted_differences_are_found_with_their_sign() -> None:
    better, worse, same = compared([0.6] * 3, [0.8] * 3), compared([0.8] * 3, [0.6] * 3), compared([0.7] * 3, [0.7] * 3)
    assert better.low is not None
    assert better.low > 0.1
    assert worse.high is not None
    assert worse.high < -0.1
    assert same.low is not None
    assert same.high is not None
    assert same.low < 0 < same.high
    assert verdict(arm=better) == "share"
    assert verdict(arm=worse) == "keep_apart"
    assert verdict(arm=same) == "cannot_tell"


def test_less_is_better_where_the_metric_is_an_error() -> None:
    rows = 50
    labels = tuple(float(row) for row in range(rows))
    far, near = (tuple(tuple(label + shift for label in labels) for _ in range(2)) for shift in (2.0, 1.0))
    both = {
        name: ArmPredictions(tuple(range(rows)), ("",) * rows, labels, found)
        for name, found in (("single", far), ("arm", near))
    }
    found = compare_arms("mae", "row", both, baseline="single", resamples=100, seed=0)["arm"]
    assert (found.delta, found.low, found.high, found.relative) == (1.0, 1.0, 1.0, 0.5)
    assert found.mean == 1.0
    shown = examples(both["single"], both["arm"])
    assert [len(shown[side]) for side in ("fixed", "broken")] == [5, 0]
    assert shown["fixed"][0]["single"] == shown["fixed"][0]["label"] + 2


def test_an_undefined_metric_has_no_difference_and_no_verdict() -> None:
    constant = ArmPredictions((0, 1), ("", ""), (1.0, 2.0), ((1.0, 1.0), (1.0, 1.0)))
    found = compare_arms(
        "pearson", "row", {"single": constant, "arm": constant}, baseline="single", resamples=50, seed=0
    )
    assert found["arm"].delta is None
    assert found["arm"].low is None
    told = judge(VerdictInputs("topic", "pearson", {"arm": found["arm"]}, 0.0, 2, 2))
    assert told.word == "cannot_tell"
    assert "is undefined; choose another tasks.topic.metric" in told.sentence
    assert overall([found["arm"]], [None]) is None


@pytest.mark.parametrize(
    ("most", "other", "expected"),
    [
        ((0.01, 0.001, 0.02), (0.0, -0.02, 0.02), "share"),  # it gains
        ((0.0, -0.004, 0.004), (-0.1, -0.2, -0.05), "share"),  # no more than the floor
        ((-0.004, -0.0049, -0.003), (0.0, -0.1, 0.1), "share"),  # below, and within the floor
        ((0.0, -0.02, 0.02), (0.01, 0.002, 0.02), "share_partly"),
        ((-0.1, -0.2, -0.05), (0.0, -0.004, 0.004), "share_partly"),
        ((-0.1, -0.2, -0.05), (-0.02, -0.03, -0.01), "keep_apart"),
        ((-0.1, -0.2, -0.05), (-0.02, -0.05, 0.01), "cannot_tell"),
        ((0.0, -0.02, 0.02), (0.01, -0.006, 0.02), "cannot_tell"),
    ],
)
def test_the_verdicts(most: tuple[float, ...], other: tuple[float, ...], expected: str) -> None:
    assert verdict(most=difference(*most), other=difference(*other)) == expected  # type: ignore[misc]


def test_the_sentences_name_the_arm_and_its_figures() -> None:
    lost = judge(VerdictInputs("topic", "accuracy", {"most": difference(-0.1, -0.2, -0.05)}, 0.005, ROWS, 3)).sentence
    assert lost == "keep apart: with most, topic differs from its own model by -10.0 points [-20.0, -5.0] of accuracy"
    arms = {"most": difference(0.0, -0.02, 0.02), "other": difference(0.01, 0.002, 0.02)}
    partly = judge(VerdictInputs("topic", "accuracy", arms, 0.005, ROWS, 3)).sentence
    assert partly == (
        "share partly: topic gains with other: +1.0 points [+0.2, +2.0] of accuracy; with most, which shares most, it "
        "differs by +0.0 points [-2.0, +2.0]"
    )


def test_what_would_tell_follows_from_the_two_parts_of_the_variance() -> None:
    # Half the variance from each: the interval is to be sqrt(2 / 1.5) times narrower, or a quarter of one part.
    one = difference(0.0, -0.02, 0.02, rows=1e-4, seeds=1e-4)
    aim = 0.02 * math.sqrt(0.75)
    assert needed_for(one, aim, 100, 4) == Needed(200, 8)
    assert needed_for(one, 0.02 * math.sqrt(0.49), 100, 4) == Needed(None, None)
    rows_only = difference(0.0, -0.02, 0.02, rows=2e-4, seeds=0.0)
    assert needed_for(rows_only, 0.01, 100, 4) == Needed(400, None)
    assert needed_for(difference(0.0, -0.02, 0.02), 0.0, 100, 4) == Needed(None, None)  # no difference, no floor
    told = judge(VerdictInputs("topic", "accuracy", {"most": rows_only}, 0.01, 100, 4))
    assert "about 400 test rows in total (now 100) would settle it" in told.sentence
    assert "more seeds alone would not" in told.sentence


def test_so_many_rows_do_tell() -> None:
    """What is asked for is enough: the interval of a run with so many rows is as narrow as it has to be."""
    few = compared([0.7] * 3, [0.73] * 3, rows=300)
    needed = needed_for(few, 0.0, 300, 3)
    if needed.rows is not None:
        many = compared([0.7] * 3, [0.7 + (few.delta or 0)] * 3, rows=4 * needed.rows)
        assert many.low is not None
        assert many.low > 0


def candidate(name: str, parameters: int, **differences: Difference) -> SharingArm:
    found = overall(list(differences.values()), [0.8] * len(differences))
    return SharingArm(name, differences, dict.fromkeys(differences, 0.005), found, parameters)


def test_the_recommended_arm_gains_most_among_those_that_harm_nobody() -> None:
    good, even, harmful = (difference(0.02, 0.01, 0.03), difference(0.0, -0.02, 0.02), difference(-0.1, -0.2, -0.05))
    both = [candidate("global", 100, a=good, b=harmful), candidate("partial", 150, a=even, b=good)]
    name, reason = recommend(both, 200, 0.5)
    assert name == "partial"
    assert "no task is significantly more than 0.5 points below its own model" in reason
    assert "it has 150 parameters instead of 200" in reason
    assert recommend([candidate("global", 100, a=good, b=good)], 200, 0.5)[1].count("it gains +2.5 %") == 1
    name, reason = recommend([candidate("global", 100, a=even, b=even)], 200, 0.5)
    assert name == "global"
    assert "is not significant; its advantage is its size" in reason
    name, reason = recommend([both[0]], 200, 0.5)
    assert name == "single"
    assert reason.endswith("below its own model (global: b)")
    assert "separate models" in reason


def test_examples_are_rows_that_most_seeds_mend_or_break() -> None:
    labels = ("yes",) * 4
    places = tuple(f"x.csv:{line}" for line in (4, 6, 8, 10))
    alone = (("no", "yes", "no", "no"),) * 3
    single = ArmPredictions((3, 5, 7, 9), ("a", "b", "c", "d"), labels, alone, places=places)
    found = (("yes", "no", "no", "yes"), ("yes", "no", "yes", "no"), ("no", "no", "no", "no"))
    shown = examples(single, ArmPredictions((3, 5, 7, 9), ("a", "b", "c", "d"), labels, found))
    assert [(one["row"], one["text"], one["single"], one["prediction"]) for one in shown["fixed"]] == [
        (3, "a", "no", "yes")
    ]
    assert [(one["row"], one["place"], one["prediction"]) for one in shown["broken"]] == [(5, "x.csv:6", "no")]


def test_tasks_on_the_same_texts_draw_the_same_rows() -> None:
    first, second = compared([0.6] * 2, [0.8] * 2), compared([0.6] * 2, [0.8] * 2)
    assert (first.replicates == second.replicates).all()
    found = overall([first, second], [0.6, 0.6])
    assert found is not None
    alone = interval(first.replicates / 0.6)
    assert alone is not None
    assert found[1:] == pytest.approx(alone)


def test_a_task_that_no_arm_has_learned_gets_no_verdict() -> None:
    same = {"most": difference(0.0, -0.001, 0.001)}
    told = judge(VerdictInputs("entities", "f1", same, 0.005, ROWS, 3, reached=0.0006, majority=0.0))
    assert told.word == "cannot_tell"
    assert "no arm has learned entities" in told.sentence
    assert "train longer" in told.sentence
    assert judge(VerdictInputs("entities", "f1", same, 0.005, ROWS, 3, reached=0.3, majority=0.0)).word == "share"
    assert judge(VerdictInputs("rating", "mae", same, 0.005, ROWS, 3, reached=0.8, majority=0.8)).word == "cannot_tell"
    assert judge(VerdictInputs("rating", "mae", same, 0.005, ROWS, 3, reached=0.5, majority=0.8)).word == "share"


@pytest.mark.parametrize(("value", "shown"), [(-0.0, "+0.0"), (-0.0004, "+0.0"), (-0.0006, "-0.1"), (0.0123, "+1.2")])
def test_no_difference_has_no_minus(value: float, shown: str) -> None:
    assert points(value) == shown
