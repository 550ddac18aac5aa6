"""Gates: what opens them, that nobody starts before, and that everybody starts in the end."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from curves import Curve, teach
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from variants import CHAIN, DYNAMIC, NEEDY, PARALLEL, VARIANTS, Variant, evaluation, loss, play, steps, workload

from polytask.errors import ConfigError
from polytask.schedule import Feedback, Schedule, Workload, require_reachable
from polytask.schedule.gate import Gate
from polytask.tasks import TASKS
from polytask.tasks.gate import GateOptions

every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)
KINDS: list[dict[str, Any]] = [
    {"epochs": 0.5},
    {"epochs": 2, "limit": 1},
    {"score": {"f1": 0.4}},
    {"score": {"f1": 2.0}, "limit": 0.4},
    {"plateau": 1},
    {"plateau": 3, "epochs": 1.5},
]


def gate(size: int = 10, limit: float = 100.0, **options: Any) -> Gate:
    return Gate(GateOptions.model_validate(options), size, limit)


def evaluate(found: Gate, *scores: float | None, metric: str = "f1") -> list[bool]:
    """Train and evaluate once for each score; say when the gate opened."""
    opened: list[bool] = []
    for value in scores:
        found.count(1)
        opened.append(found.evaluated({metric: value}, 0.0 if value is None else value) is not None)
    return opened


def parallel(run: Workload) -> Schedule:
    return PARALLEL[0].build(run)


# what opens a gate


@given(st.integers(1, 300), st.integers(1, 40), st.floats(0.01, 5))
def test_an_epochs_gate_opens_with_the_row_that_fills_them(size: int, rows: int, epochs: float) -> None:
    found = gate(size, epochs=epochs)
    steps_needed = math.ceil(epochs * size / rows - 1e-9)
    opened = [found.count(rows) is not None for _ in range(steps_needed + 2)]
    assert opened == [step == steps_needed for step in range(1, steps_needed + 3)]


def test_a_score_gate_opens_at_its_score() -> None:
    assert evaluate(gate(score={"f1": 0.8}), 0.5, 0.79, 0.8, 0.9) == [False, False, True, False]


def test_a_score_gate_of_a_metric_where_less_is_better_opens_below() -> None:
    assert evaluate(gate(score={"mae": 0.3}), 0.9, 0.31, 0.3, 0.1, metric="mae") == [False, False, True, False]


def test_any_of_several_scores_opens() -> None:
    found = gate(score={"f1": 0.9, "accuracy": 0.8})
    found.count(1)
    assert found.evaluated({"f1": 0.1, "accuracy": 0.7}, 0.1) is None
    found.count(1)
    assert found.evaluated({"f1": 0.1, "accuracy": 0.85}, 0.1) == "accuracy 0.8500 on dev"


def test_an_undefined_or_missing_score_opens_no_score_gate() -> None:
    assert evaluate(gate(score={"f1": -5.0}), None, None) == [False, False]
    found = gate(score={"f1": -5.0})
    found.count(1)
    assert found.evaluated({}, 0.0) is None


@given(st.integers(1, 4), st.lists(st.integers(-3, 3), max_size=12))
def test_a_plateau_gate_opens_after_so_many_evaluations_in_a_row_without_a_better_one(
    plateau: int, scores: list[int]
) -> None:
    expected, best, since = [], None, 0
    for value in scores:
        # 0 is the majority baseline's score: of a task that has not begun to learn.
        best, since = (value, 0) if best is None or value > best else (best, since + (best != 0))
        expected.append(since == plateau and True not in expected)
    assert evaluate(gate(plateau=plateau), *(value / 10 for value in scores)) == expected


@pytest.mark.parametrize("options", [{"plateau": 1}, {"score": {"f1": 0.5}}])
def test_evaluations_in_which_the_task_did_not_train_do_not_count(options: dict[str, Any]) -> None:
    found = gate(**options)
    assert [found.evaluated({"f1": 0.9}, 0.9) for _ in range(5)] == [None] * 5
    found.count(1)
    assert (found.evaluated({"f1": 0.9}, 0.9) is not None) == ("score" in options)
    assert [found.evaluated({"f1": 0.2}, 0.2) for _ in range(5)] == [None] * 5


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "found no condition; expected score, plateau or epochs"),
        ({"limit": 3}, "found no condition; expected score, plateau or epochs"),
        ({"score": {}}, "at least 1 item"),
        ({"epochs": 0}, "greater than 0"),
        ({"plateau": 0}, "greater than or equal to 1"),
        ({"epochs": 1, "on_limit": "wait"}, "'continue' or 'stop'"),
        ({"epochs": 1, "patience": 2}, "Extra inputs are not permitted"),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        GateOptions.model_validate(options)


@pytest.mark.parametrize(
    ("kind", "metric", "told"),
    [
        ("classification", "mae", "found the metric 'mae' in score; accepted: .*macro_f1"),
        ("regression", "mea", "found the metric 'mea' in score; accepted: .*did you mean 'mae'"),
    ],
)
def test_a_gate_asks_for_metrics_of_its_task_type(kind: str, metric: str, told: str) -> None:
    with pytest.raises(ValidationError, match=told) as caught:
        TASKS[kind].Options.model_validate({"type": kind, "gate": {"score": {metric: 0.5}}})
    assert caught.value.errors()[0]["loc"] == ("gate",)
    for known in TASKS[kind].Options.metrics:
        TASKS[kind].Options.model_validate({"type": kind, "gate": {"score": {known: 0.5}}})


@pytest.mark.parametrize(
    ("kind", "metric", "wanted", "told"),
    [
        ("classification", "accuracy", 90, "accuracy is at most 1; 90 points are 0.9"),
        ("classification", "accuracy", 900, "accuracy is at most 1$"),
        ("regression", "mae", -1, "mae is at least 0$"),
    ],
)
def test_a_gate_that_no_score_opens_is_refused(kind: str, metric: str, wanted: float, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TASKS[kind].Options.model_validate({"type": kind, "gate": {"score": {metric: wanted}}})
    assert re.search(told, caught.value.errors()[0]["msg"])
    TASKS["regression"].Options.model_validate({"type": "regression", "gate": {"score": {"mae": 4, "pearson": 1}}})


# nobody starts early


def assert_nobody_starts_early(schedule: Schedule, count: int) -> None:
    """Which gates are open is told by the events."""
    opened: set[str] = set()
    for step, changes in play(schedule, count):
        for task in step.rows:
            assert opened.issuperset(schedule.workload.needs.get(task, ())), (step, opened)
        opened.update(change.values["task"] for change in changes if change.event == "gate")


@every_variant
@pytest.mark.parametrize("run", NEEDY.values(), ids=NEEDY)
def test_no_row_of_a_task_is_drawn_before_every_gate_that_it_needs_is_open(variant: Variant, run: Workload) -> None:
    assert_nobody_starts_early(variant.build(run), 120)


@st.composite
def needy_runs(draw: st.DrawFn) -> Workload:
    tasks = [f"t{number}" for number in range(draw(st.integers(2, 4)))]
    needs = {
        task: draw(st.lists(st.sampled_from(tasks[:place]), unique=True)) for place, task in enumerate(tasks[1:], 1)
    }
    gates = {task: draw(st.sampled_from(KINDS)) for task in tasks if draw(st.booleans())}
    sizes = {task: draw(st.integers(1, 30)) for task in draw(st.permutations(tasks))}
    together = [tasks] if draw(st.booleans()) else []
    return workload(sizes, draw(st.integers(1, 7)), together=together, needs=needs, gates=gates)


@every_variant
@settings(max_examples=6)
@given(run=needy_runs())
def test_no_graph_and_no_gate_lets_a_task_start_early(variant: Variant, run: Workload) -> None:
    assert_nobody_starts_early(variant.build(run), 60)


@every_variant
def test_each_gate_opens_once_and_says_why(variant: Variant) -> None:
    schedule = variant.build(NEEDY["gated"])
    found = [change for _, changes in play(schedule, 10**4) for change in changes if change.event == "gate"]
    assert len({change.values["task"] for change in found}) == len(found)
    reasons = {change.values["task"]: change.values["reason"] for change in found}
    assert reasons["a"].endswith("on dev") or reasons["a"] == "limit of 1 epochs"
    assert reasons["b"].startswith("no better dev score in 2") or reasons["b"] == "limit of 1.5 epochs"
    assert reasons["c"] == "0.7 epochs"


# everybody starts in the end


@every_variant
@pytest.mark.parametrize("run", NEEDY.values(), ids=NEEDY)
def test_all_tasks_train_within_the_run(variant: Variant, run: Workload) -> None:
    drawn = Counter[str]()
    for step in steps(variant.build(run), 10**6):
        drawn.update(step.rows)
    assert set(drawn) == set(run.sizes)
    require_reachable(variant.build(run))


@pytest.mark.parametrize("variant", DYNAMIC, ids=str)
@pytest.mark.parametrize("sizes", [(50, 5, 5), (5, 50, 5), (5, 5, 50)])
def test_no_feedback_keeps_a_chain_from_its_last_task(variant: Variant, sizes: tuple[int, int, int]) -> None:
    """Whoever is waited for learns everything at once and is of no interest to any policy; the chain moves on."""
    run = workload(dict(zip("abc", sizes, strict=True)), 2, needs=CHAIN)
    values = {**variant.options, "proportions": "uniform"}
    schedule = Variant("dynamic", values).build(run)
    curves = {task: Curve(tau=0.1) for task in "ab"} | {"c": Curve(tau=math.inf)}
    lesson = teach(schedule, curves, schedule.limit, every=3)
    assert lesson.drawn()["c"] > 0


@pytest.mark.parametrize("variant", DYNAMIC, ids=str)
def test_feedback_never_takes_rows_from_a_task_that_others_wait_for(variant: Variant) -> None:
    run = workload({"a": 10, "b": 10, "c": 10}, 6, needs={"c": ["a"]}, gates={"a": {"epochs": 30}}, epochs=60)
    schedule = Variant("dynamic", {**variant.options, "proportions": "uniform"}).build(run)
    lesson = teach(schedule, {"a": Curve(0.1), "b": Curve(500), "c": Curve(500)}, 110, every=3)
    opened = lesson.events("gate", "a")[0]
    assert lesson.drawn(0, opened)["a"] >= lesson.drawn(0, opened)["b"] - 1


@pytest.mark.parametrize("needs", [{"b": ["a"]}, {"c": ["b"], "b": ["a"]}, {"c": ["a", "b"]}])
@every_variant
def test_tasks_without_a_gate_are_ready_after_their_share_of_the_run(
    variant: Variant, needs: Mapping[str, Sequence[str]]
) -> None:
    run = workload({"a": 20, "b": 20, "c": 20}, 5, needs=needs, epochs=6)
    schedule = variant.build(run)
    whole = 6 if variant.strategy == "sequential" else 6 / len(run.waves)
    drawn, opened = Counter[str](), {}
    for step, changes in play(schedule, 10**4):
        drawn.update(step.rows)
        opened |= {change.values["task"]: drawn[change.values["task"]] for change in changes if change.event == "gate"}
    for task in {need for needed in needs.values() for need in needed}:
        assert whole * 20 <= opened[task] < whole * 20 + 5


@pytest.mark.parametrize("variant", [*PARALLEL, *DYNAMIC], ids=str)
def test_a_task_that_would_never_train_is_named_with_a_mend(variant: Variant) -> None:
    run = workload({"a": 20, "b": 20, "late": 20}, 5, needs={"late": ["a", "b"]}, gates={"b": {"epochs": 50}})
    with pytest.raises(ConfigError) as caught:
        require_reachable(variant.build(run))
    assert str(caught.value) == (
        "tasks.late: it would never train: in the run's 36 steps it waits for b; "
        "give these a lower gate.epochs or gate.limit, or choose other schedule.proportions"
    )


def test_a_task_without_a_share_is_named_with_a_mend() -> None:
    run = workload({"a": 20, "off": 20, "b": 20}, 5, needs={"b": ["off"]})
    schedule = Variant("parallel", {"proportions": {"a": 1, "off": 0, "b": 1}}).build(run)
    with pytest.raises(ConfigError) as caught:
        require_reachable(schedule)
    assert str(caught.value) == (
        "tasks.off: it would never train: in the run's 36 steps it draws no row; "
        "raise train.epochs, or choose other schedule.proportions"
    )


def test_tasks_without_a_share_train_while_only_they_are_ready() -> None:
    run = workload({"a": 20, "b": 20}, 5, needs={"b": ["a"]}, epochs=2)
    schedule = Variant("parallel", {"proportions": {"a": 0, "b": 1}}).build(run)
    drawn = [dict(step.rows) for step in steps(schedule, 10**4)]
    assert drawn == [{"a": 5}] * 4 + [{"b": 5}] * 12


# the limit


def limited(on_limit: str, **more: Any) -> Workload:
    hopeless = {"score": {"f1": 2.0}, "on_limit": on_limit, **more}
    return workload({"a": 20, "b": 20}, 5, needs={"b": ["a"]}, gates={"a": hopeless}, epochs=4)


@every_variant
def test_a_gate_that_is_not_reached_opens_at_its_limit(variant: Variant) -> None:
    lesson = teach(variant.build(limited("continue", limit=1.2)), {"a": Curve(50), "b": Curve(50)}, 10**4)
    assert lesson.events("gate", "a") == [5]
    assert lesson.changes[0][1].values == {"task": "a", "reason": "limit of 1.2 epochs"}
    assert lesson.drawn(0, 5) == {"a": 25}
    assert lesson.drawn(5)["b"] > 0


@every_variant
def test_a_gate_that_is_not_reached_ends_the_run_where_it_says_so(variant: Variant) -> None:
    schedule = variant.build(limited("stop", limit=1.2))
    lesson = teach(schedule, {"a": Curve(50), "b": Curve(50)}, 10**4)
    assert schedule.finished == "the gate of 'a' was not reached within its limit of 1.2 epochs"
    assert lesson.drawn() == {"a": 25}
    again = variant.build(limited("stop", limit=1.2))
    again.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    assert again.finished == schedule.finished
    require_reachable(variant.build(limited("stop", limit=1.2)))


@pytest.mark.parametrize("on_limit", ["continue", "stop"])
def test_a_gate_that_is_reached_before_its_limit_does_not_end_the_run(on_limit: str) -> None:
    run = workload({"a": 20, "b": 20}, 5, needs={"b": ["a"]}, epochs=4, gates={
        "a": {"score": {"f1": 0.1}, "limit": 1, "on_limit": on_limit}})  # fmt: skip
    schedule = parallel(run)
    lesson = teach(schedule, {"a": Curve(30), "b": Curve(30)}, schedule.limit, every=2)
    assert lesson.events("gate", "a") == [2]
    assert schedule.finished is None
    assert len(lesson.steps) == schedule.limit


def test_the_limit_is_by_default_the_runs_shared_by_its_waves_and_not_before_the_gates_epochs() -> None:
    def limits(gates: dict[str, dict[str, Any]]) -> dict[str, float]:
        run = workload({"a": 20, "b": 20}, 5, needs={"b": ["a"]}, epochs=4, gates=gates)
        return {task: found.limit for task, found in parallel(run).gates.gates.items()}

    assert limits({"a": {"plateau": 1}}) == {"a": 2, "b": 2}
    assert limits({"a": {"epochs": 1}}) == {"a": 2, "b": 2}
    assert limits({"a": {"epochs": 3}}) == {"a": 3, "b": 2}
    assert limits({"a": {"epochs": 3, "limit": 1}}) == {"a": 1, "b": 2}


def test_a_gate_counts_on_where_it_stood_when_the_run_is_resumed() -> None:
    """Just before the last evaluation of a plateau, the state holds all that the gate has seen."""
    run = workload({"a": 20, "b": 20}, 5, needs={"b": ["a"]}, gates={"a": {"plateau": 2, "limit": 9}}, epochs=20)
    first = parallel(run)
    opened = []
    for number, value in enumerate([0.5, 0.4, 0.45]):
        first.observe(Feedback(number, {"a": loss("a", number)}) if first.next().rows else evaluation(["a"], number))
        schedule = parallel(run)
        schedule.load_state_dict(json.loads(json.dumps(first.state_dict())))
        feedback = Feedback(number, {}, {"a": {"f1": value}}, {"a": value})
        opened.append(schedule.observe(feedback))
        first.observe(feedback)
    assert [[change.event for change in changes] for changes in opened] == [[], [], ["gate"]]
