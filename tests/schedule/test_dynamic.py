"""Dynamic: each policy does what it says to simulated tasks, and beats fixed proportions where it should."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from curves import Curve, Lesson, teach
from hypothesis import given, settings
from hypothesis import strategies as st
from variants import DYNAMIC, PARALLEL, Variant, steps, workload

from polytask.errors import ConfigError
from polytask.schedule import Feedback, Schedule, Workload
from polytask.schedule.dynamic import relative
from polytask.schedule.policies import LEAST

LONG = 10**4
FOREVER = math.inf
every_policy = pytest.mark.parametrize("variant", DYNAMIC, ids=str)


def run_of(*tasks: str, batch_size: int = 16, **more: Any) -> Workload:
    return workload(dict.fromkeys(tasks, 100), batch_size, epochs=400, **more)


def dynamic(policy: str, run: Workload, **options: Any) -> Schedule:
    return Variant("dynamic", {"policy": policy, "proportions": "uniform", **options}).build(run)


def tell_losses(schedule: Schedule, count: int, **losses: float) -> None:
    for _ in range(count):
        schedule.next()
        schedule.observe(Feedback(schedule.step, losses))


def tell_scores(schedule: Schedule, found: Mapping[str, float | None], trained: bool = True) -> list[tuple[str, str]]:
    """Take a step, evaluate, and return what was changed for whom."""
    if trained:
        tell_losses(schedule, 1, **dict.fromkeys(found, 1.0))
    dev = {task: {"f1": score} for task, score in found.items()}
    normalised = {task: score or 0.0 for task, score in found.items()}
    return [(change.event, change.values["task"]) for change in schedule.observe(Feedback(0, {}, dev, normalised))]


def shares(schedule: Schedule) -> dict[str, float]:
    return relative(schedule.shares())


def late(lesson: Lesson, steps: int = 100) -> dict[str, float]:
    """Return the shares of the rows drawn in the last steps."""
    return relative(lesson.drawn(-steps))


# all policies


@every_policy
def test_without_feedback_the_proportions_are_those_of_parallel(variant: Variant) -> None:
    run = workload({"a": 90, "b": 20, "c": 5}, 7, epochs=20)
    plain = Variant("parallel", {"proportions": variant.options["proportions"]}).build(run)
    schedule = variant.build(run)
    assert [schedule.next() for _ in range(60)] == [plain.next() for _ in range(60)]


@every_policy
def test_the_order_of_the_file_does_not_matter(variant: Variant) -> None:
    curves = {"a": (40.0, 0.02), "b": (4000.0, 0.0), "c": (400.0, 0.0)}
    found = []
    for names in itertools.permutations(curves):
        schedule = Variant("dynamic", {**variant.options, "proportions": "uniform"}).build(run_of(*names))
        teach(schedule, {task: Curve(tau, forgets=share) for task, (tau, share) in curves.items()}, 200)
        found.append(shares(schedule))
    assert all(other == pytest.approx(found[0], abs=0.02) for other in found)


@every_policy
@settings(max_examples=25)
@given(
    told=st.lists(
        st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e6) | st.sampled_from([0.0, 5e-324, 1e-11, 1e9])),
        max_size=30,
    ),
    scores=st.lists(st.none() | st.floats(-3, 1), min_size=30, max_size=30),
)
def test_no_feedback_breaks_the_shares_or_the_state(
    variant: Variant, told: list[dict[str, float]], scores: list[float | None]
) -> None:
    """Losses of some tasks only, of 0, or far from the last; scores undefined or below the baseline."""
    schedule = variant.build(run_of("a", "b", "c"))
    for losses, score in zip(told, scores, strict=False):
        assert schedule.next().rows
        schedule.observe(Feedback(schedule.step, losses))
        tell_scores(schedule, dict.fromkeys(losses, score), trained=False)
        assert all(math.isfinite(share) and share >= 0 for share in schedule.shares().values())
    assert schedule.next().rows
    json.dumps(schedule.state_dict(), allow_nan=False)


@every_policy
def test_every_task_goes_on_being_measured_whatever_becomes_of_the_others(variant: Variant) -> None:
    schedule = Variant("dynamic", {**variant.options, "proportions": "uniform"}).build(run_of("a", "b", "c"))
    lesson = teach(schedule, {"a": Curve(1), "b": Curve(FOREVER), "c": Curve(10**4, forgets=0.01)}, 400)
    for first in range(0, 400, 50):
        assert min(lesson.drawn(first, first + 50)[task] for task in "abc") >= 50 * 16 * LEAST / 3 / (1 + LEAST) - 2


@every_policy
def test_a_single_task_gets_all_rows(variant: Variant) -> None:
    found = list(steps(variant.build(workload({"a": 30}, 4, epochs=4)), LONG))
    assert [dict(step.rows) for step in found] == [{"a": 4}] * 32


# training_error


def tell_errors(schedule: Schedule, **errors: float) -> None:
    schedule.next()
    told = {task: (np.array([8 * error, 0.0]), np.array([8.0, 0.0])) for task, error in errors.items()}
    schedule.observe(Feedback(schedule.step, {}, errors=told))


def test_training_error_deals_by_the_error_to_a_power() -> None:
    for power in (0.0, 1.0, 2.0):
        schedule = dynamic("training_error", run_of("a", "b", "c"), error_power=power)
        assert shares(schedule) == pytest.approx(dict.fromkeys("abc", 1 / 3))
        tell_errors(schedule, a=0.8, b=0.4, c=0.2)
        assert shares(schedule) == pytest.approx(relative({"a": 0.8**power, "b": 0.4**power, "c": 0.2**power}))


def test_training_error_leaves_a_little_to_who_errs_no_more_and_deals_alike_when_nobody_does() -> None:
    schedule = dynamic("training_error", run_of("a", "b"))
    tell_errors(schedule, a=0.0, b=0.7)
    assert shares(schedule) == pytest.approx(relative({"a": LEAST, "b": 1.0}))
    for _ in range(400):
        tell_errors(schedule, a=0.0, b=0.0)
    assert shares(schedule) == pytest.approx({"a": 0.5, "b": 0.5})


def test_training_error_is_the_mean_over_classes_so_that_a_frequent_one_hides_no_rare_one() -> None:
    schedule = dynamic("training_error", run_of("tags", "texts"))
    found = {"tags": (np.array([0.0, 1.0]), np.array([99.0, 1.0])), "texts": (np.array([4.0]), np.array([16.0]))}
    schedule.next()
    schedule.observe(Feedback(0, {}, errors=found))
    assert shares(schedule) == pytest.approx(relative({"tags": 0.5, "texts": 0.25}))


def test_training_error_reaches_all_targets_sooner_than_equal_shares() -> None:
    targets = {"quick": 0.8, "slow": 0.8, "mid": 0.8}
    run = run_of(*targets)

    def curves() -> dict[str, Curve]:
        return {"quick": Curve(100), "slow": Curve(4000), "mid": Curve(800)}

    assert reach(dynamic("training_error", run), targets, curves()) < 0.7 * reach(
        PARALLEL[0].build(run), targets, curves()
    )


# loss_rate


def test_loss_rate_is_the_softmax_of_the_ratio_of_two_windows() -> None:
    schedule = dynamic("loss_rate", run_of("a", "b", "c"), window=4, softmax_temperature=0.7)
    tell_losses(schedule, 4, a=2.0, b=1.0, c=1.0)
    assert shares(schedule) == pytest.approx(dict.fromkeys("abc", 1 / 3))
    tell_losses(schedule, 3, a=1.0, b=0.9, c=1.2)
    assert shares(schedule) == pytest.approx(dict.fromkeys("abc", 1 / 3))
    tell_losses(schedule, 1, a=1.0, b=0.9, c=1.2)
    ratios = {"a": 0.5, "b": 0.9, "c": 1.2}
    assert shares(schedule) == pytest.approx(relative({task: math.exp(r / 0.7) for task, r in ratios.items()}))


@pytest.mark.parametrize("softmax_temperature", [0.1, 2.0])
def test_loss_rate_gives_more_rows_to_the_task_that_learns_slowly(softmax_temperature: float) -> None:
    lesson = teach(
        dynamic("loss_rate", run_of("fast", "slow"), softmax_temperature=softmax_temperature),
        {"fast": Curve(500), "slow": Curve(6000)},
        200,
    )
    drawn = lesson.drawn(40)
    assert drawn["slow"] > 1.05 * drawn["fast"]
    assert drawn["slow"] > 2 * drawn["fast"] or softmax_temperature > 1


def test_loss_rate_with_a_great_sharpness_is_uniform() -> None:
    lesson = teach(
        dynamic("loss_rate", run_of("a", "b"), softmax_temperature=1e6), {"a": Curve(50), "b": Curve(5000)}, 200
    )
    assert late(lesson) == pytest.approx({"a": 0.5, "b": 0.5}, abs=1e-3)


def test_loss_rate_survives_a_loss_that_jumps_and_comes_back_from_it() -> None:
    schedule = dynamic("loss_rate", run_of("a", "b"), window=2, softmax_temperature=0.01)
    tell_losses(schedule, 2, a=1e-9, b=1.0)
    tell_losses(schedule, 2, a=50.0, b=1.0)
    assert shares(schedule)["b"] == pytest.approx(LEAST / (1 + LEAST))
    tell_losses(schedule, 2, a=50.0, b=1.0)
    assert shares(schedule) == pytest.approx({"a": 0.5, "b": 0.5})


@pytest.mark.parametrize("policy", ["loss_rate", "bandit"])
@pytest.mark.parametrize("nothing", [0.0, 5e-324])
def test_a_loss_without_anything_left_is_no_measure(policy: str, nothing: float) -> None:
    schedule = dynamic(policy, run_of("a", "b"), window=2)
    tell_losses(schedule, 2, a=nothing, b=1.0)
    tell_losses(schedule, 2, a=5.0, b=1.0)
    assert shares(schedule) == pytest.approx({"a": 0.5, "b": 0.5})


# dev_gap


def reach(schedule: Schedule, targets: Mapping[str, float], curves: Mapping[str, Curve]) -> int:
    """Return the steps until every task is at its target."""
    until = lambda scores: all(scores[task] >= target for task, target in targets.items())  # noqa: E731
    lesson = teach(schedule, curves, LONG, until=until)
    assert until(lesson.scores[-1][1])
    return len(lesson.steps)


def test_dev_gap_deals_by_the_distance_from_the_target() -> None:
    schedule = dynamic("dev_gap", run_of("a", "b", "c"), targets={"a": 0.8, "b": 0.5, "c": 0.9})
    assert shares(schedule) == pytest.approx(dict.fromkeys("abc", 1 / 3))
    tell_scores(schedule, {"a": 0.4, "b": 0.4, "c": 0.45})
    assert shares(schedule) == pytest.approx(relative({"a": 0.5, "b": 0.2, "c": 0.5}))


def test_dev_gap_counts_no_score_and_one_below_0_as_a_whole_gap() -> None:
    schedule = dynamic("dev_gap", run_of("a", "b", "c"), targets=dict.fromkeys("abc", 0.5))
    tell_scores(schedule, {"a": None, "b": -2.0, "c": 0.25})
    assert shares(schedule) == pytest.approx(relative({"a": 1.0, "b": 1.0, "c": 0.5}))


def test_dev_gap_leaves_a_little_to_who_is_there_and_deals_alike_when_all_are() -> None:
    schedule = dynamic("dev_gap", run_of("a", "b"), targets={"a": 0.5, "b": 0.5})
    tell_scores(schedule, {"a": 0.7, "b": 0.4999})
    assert shares(schedule) == pytest.approx(relative({"a": LEAST, "b": 1.0}))
    tell_scores(schedule, {"a": 0.5, "b": 0.9})
    assert shares(schedule) == pytest.approx({"a": 0.5, "b": 0.5})


def test_dev_gap_keeps_what_an_evaluation_does_not_tell() -> None:
    schedule = dynamic("dev_gap", run_of("a", "b"), targets={"a": 0.8, "b": 0.8})
    tell_scores(schedule, {"a": 0.6, "b": 0.0})
    tell_scores(schedule, {"b": 0.4})
    assert shares(schedule) == pytest.approx(relative({"a": 0.25, "b": 0.5}))


@pytest.mark.parametrize("fixed", ["uniform", "proportional"])
def test_dev_gap_reaches_all_targets_sooner_when_one_task_is_far_behind(fixed: str) -> None:
    run, targets = run_of("near", "far", "mid"), {"near": 0.8, "far": 0.7, "mid": 0.8}

    def curves() -> dict[str, Curve]:
        return {"near": Curve(100), "far": Curve(4000), "mid": Curve(800)}

    plain = reach(Variant("parallel", {"proportions": fixed}).build(run), targets, curves())
    steered = reach(dynamic("dev_gap", run, targets=targets, proportions=fixed), targets, curves())
    assert steered < 0.6 * plain


@pytest.mark.parametrize(
    ("targets", "metric", "told"),
    [
        (None, "f1", "schedule.targets: not set; dev_gap needs the score that each task is to reach"),
        ({}, "f1", "schedule.targets: not set; dev_gap needs the score that each task is to reach"),
        ({"intent": 1}, "f1", "schedule.targets: found nothing for 'slots'; expected one for every task"),
        (
            {"intent": 1, "slot": 1},
            "f1",
            "schedule.targets: found 'slot'; accepted: intent, slots; did you mean 'slots'?",
        ),
        (
            {"intent": 1, "slots": 1},
            "mae",
            "schedule.targets: found 'intent', which is scored by mae; dev_gap accepts only metrics that are "
            "better when higher; choose another tasks.intent.metric, or another schedule.policy",
        ),
    ],
)
def test_dev_gap_asks_for_a_reachable_target_of_every_task(targets: Any, metric: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        dynamic("dev_gap", run_of("intent", "slots", metric=metric), targets=targets)
    assert str(caught.value) == told


# bandit


def test_bandit_gives_more_rows_to_the_task_that_still_makes_progress() -> None:
    lesson = teach(dynamic("bandit", run_of("flat", "learns")), {"flat": Curve(FOREVER), "learns": Curve(5000)}, 400)
    assert late(lesson)["learns"] > 0.7


def test_bandit_gives_few_rows_to_a_task_whose_loss_rises() -> None:
    schedule = dynamic("bandit", run_of("a", "b", "c"), window=2)
    for number in range(20):
        tell_losses(schedule, 2, a=1.0 + 0.1 * number, b=1.0, c=3.0 * 0.9**number)
    found = shares(schedule)
    assert found["a"] < found["b"] < found["c"]


def test_bandit_leaves_a_task_that_learned_fast_and_is_done() -> None:
    """What was learned early, when all losses fall far, does not hold the rows for ever."""
    lesson = teach(dynamic("bandit", run_of("fast", "slow")), {"fast": Curve(300), "slow": Curve(8000)}, 800)
    assert lesson.drawn(0, 200)["fast"] > 1.2 * lesson.drawn(0, 200)["slow"]
    assert late(lesson)["slow"] > 0.7


def test_bandit_turns_to_a_task_that_begins_to_learn_late() -> None:
    curves = {"early": Curve(300), "flat": Curve(FOREVER), "late": Curve(2000, from_step=300)}
    lesson = teach(dynamic("bandit", run_of(*curves)), curves, 700)
    assert relative(lesson.drawn(0, 300))["early"] > 0.4
    assert late(lesson)["late"] > 0.5


def test_bandit_is_not_confused_by_one_jump_of_a_loss() -> None:
    schedule = dynamic("bandit", run_of("a", "b"), window=2)
    tell_losses(schedule, 2, a=1e-6, b=5.0)
    tell_losses(schedule, 2, a=9.0, b=5.0)
    for number in range(20):
        tell_losses(schedule, 2, a=9.0, b=5.0 * 0.95**number)
    assert shares(schedule)["b"] > 0.7


def test_bandit_always_explores() -> None:
    schedule = dynamic("bandit", run_of("a", "b", "c"), window=1, explore=0.6)
    for number in range(100):
        tell_losses(schedule, 1, a=0.9**number, b=1.0, c=1.1**number)
        assert min(shares(schedule).values()) >= 0.6 / 3 - 1e-9


def test_bandit_reaches_all_targets_sooner_than_uniform() -> None:
    targets = {"fast": 0.8, "slow": 0.8}
    run = run_of(*targets)
    plain = reach(PARALLEL[0].build(run), targets, {"fast": Curve(200), "slow": Curve(6000)})
    steered = reach(dynamic("bandit", run), targets, {"fast": Curve(200), "slow": Curve(6000)})
    assert steered < 0.85 * plain


# stop_and_go


def test_stop_and_go_pauses_a_converged_task_and_refreshes_it_sparsely() -> None:
    lesson = teach(dynamic("stop_and_go", run_of("done", "learns")), {"done": Curve(30), "learns": Curve(9000)}, 400)
    assert [change.event for _, change in lesson.changes] == ["stop"]
    stopped = lesson.events("stop", "done")[0]
    assert stopped < 100
    for step in lesson.steps[stopped:]:
        assert dict(step.rows) == ({"done": 8, "learns": 8} if step.number % 4 == 0 else {"learns": 16})


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_stop_and_go_pauses_after_so_many_evaluations_with_too_little_gained(patience: int) -> None:
    schedule = dynamic("stop_and_go", run_of("a", "b"), patience=patience, least_gain=0.01)
    assert tell_scores(schedule, {"a": 0.5}) == []
    assert [tell_scores(schedule, {"a": 0.504}) for _ in range(patience)] == [[]] * (patience - 1) + [[("stop", "a")]]


def test_stop_and_go_waits_for_a_task_that_has_not_begun_to_learn() -> None:
    """The F1 of entities is that of its baseline, 0, until the first of them is found."""
    schedule = dynamic("stop_and_go", run_of("a", "b"), patience=1)
    told = [tell_scores(schedule, {"a": score}) for score in (0.0, 0.0, 0.0, 0.2, 0.2)]
    assert told == [[], [], [], [], [("stop", "a")]]


def test_stop_and_go_adds_up_small_gains() -> None:
    schedule = dynamic("stop_and_go", run_of("a", "b"), patience=2, least_gain=0.01)
    creeping = [0.5 * 1.006**number for number in range(12)]
    assert [tell_scores(schedule, {"a": score}) for score in creeping] == [[]] * 12


def test_stop_and_go_returns_to_a_task_that_gets_worse() -> None:
    schedule = dynamic("stop_and_go", run_of("a", "b"), patience=1)
    told = [tell_scores(schedule, {"a": score}) for score in (0.8, 0.8, 0.797, 0.795)]
    assert told == [[], [("stop", "a")], [], [("go", "a")]]
    assert shares(schedule) == {"a": 0.5, "b": 0.5}


def test_stop_and_go_lets_a_task_rest_that_does_not_recover() -> None:
    """Measured by a best that it never sees again, it would come back from every pause at once."""
    schedule = dynamic("stop_and_go", run_of("a", "b"), patience=1)
    told = [tell_scores(schedule, {"a": score}) for score in (0.8, 0.8, 0.7, 0.7, 0.7, 0.7, 0.699)]
    assert told == [[], [("stop", "a")], [("go", "a")], [("stop", "a")], [], [], []]


def test_stop_and_go_sees_a_fall_of_a_task_that_did_not_train_meanwhile() -> None:
    schedule = dynamic("stop_and_go", run_of("a", "b"), patience=1)
    assert [tell_scores(schedule, {"a": 0.8}) for _ in range(2)] == [[], [("stop", "a")]]
    assert tell_scores(schedule, {"a": 0.6}, trained=False) == [("go", "a")]


def test_stop_and_go_goes_on_with_all_when_nobody_improves() -> None:
    schedule = dynamic("stop_and_go", run_of("a", "b"), patience=1)
    tell_scores(schedule, {"a": 0.8, "b": 0.3})
    assert tell_scores(schedule, {"a": 0.8, "b": 0.3}) == [("stop", "a"), ("stop", "b")]
    assert all(dict(step.rows) == {"a": 8, "b": 8} for step in [schedule.next() for _ in range(8)])
    assert tell_scores(schedule, {"a": 0.8, "b": 0.2}, trained=False) == [("go", "b")]
    assert sum("a" in schedule.next().rows for _ in range(8)) == 2


def test_stop_and_go_does_not_pause_a_task_before_it_has_started() -> None:
    run = run_of("first", "second", "other", needs={"second": ["first"]}, gates={"first": {"epochs": 8}})
    schedule = dynamic("stop_and_go", run)
    curves = {"first": Curve(2000), "second": Curve(2000), "other": Curve(3000)}
    lesson = teach(schedule, curves, 160, every=5)
    started = lesson.events("gate", "first")[0]
    assert started > 5 * 10
    assert lesson.events("stop", "second") == []
    assert all("second" in step.rows for step in lesson.steps[started:])


def test_stop_and_go_counts_only_evaluations_of_what_was_trained() -> None:
    schedule = dynamic("stop_and_go", run_of("a", "b"), patience=1)
    assert tell_scores(schedule, {"a": 0.9}, trained=False) == []
    assert [tell_scores(schedule, {"a": score}) for score in (0.3, 0.4)] == [[], []]
    assert [tell_scores(schedule, {"a": 0.4}, trained=False) for _ in range(3)] == [[]] * 3
    assert tell_scores(schedule, {"a": 0.4}) == [("stop", "a")]


def test_stop_and_go_goes_on_with_all_that_may_train_when_none_of_them_improves() -> None:
    run = run_of("a", "b", "waits", needs={"waits": ["a"]}, gates={"a": {"epochs": 50}})
    schedule = dynamic("stop_and_go", run, patience=1)
    assert len([tell_scores(schedule, {"a": 0.5, "b": 0.5}) for _ in range(2)][1]) == 2
    assert all(dict(schedule.next().rows) == {"a": 8, "b": 8} for _ in range(8))


def test_stop_and_go_takes_scores_below_the_baseline() -> None:
    schedule = dynamic("stop_and_go", run_of("a", "b"), patience=2)
    told = [tell_scores(schedule, {"a": score}) for score in (-0.8, -0.5, -0.5, -0.5, -0.51, -0.4)]
    assert told == [[], [], [], [("stop", "a")], [("go", "a")], []]


def test_stop_and_go_reaches_a_slow_target_sooner_than_uniform_and_keeps_what_was_learned() -> None:
    """The quick task is forgotten where it does not train; the slow one needs the rows."""
    run, targets = run_of("quick", "slow"), {"quick": 0.95, "slow": 0.8}

    def curves() -> dict[str, Curve]:
        return {"quick": Curve(60, forgets=0.02), "slow": Curve(6000)}

    plain = reach(PARALLEL[0].build(run), targets, curves())
    steered = reach(dynamic("stop_and_go", run), targets, curves())
    assert steered < 0.75 * plain
