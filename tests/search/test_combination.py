"""The choice among steps: compared with all combinations, and what it prefers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.search.combination import Base, Combination, Combiner, Cost
from polytask.search.ladder import LadderStep, ModelLimits, Standing, StepName

FLOOR = 0.005
SINGLE = Cost(1.0, 1.0)


def at(points: float) -> Standing:
    delta = points / 100
    return Standing(delta, delta - 0.01, delta + 0.01, 1.0 if delta >= -FLOOR else 0.0)


def step(task: str, name: StepName, points: float, size: float, passes: float) -> LadderStep:
    now = at(points)
    return LadderStep(task, name, Path(f"{task}-{name}"), now, 1 + size, 1 + passes, lifts=now.above == 1.0)


def lora(task: str, points: float) -> LadderStep:
    return step(task, "lora", points, 0.01, 0.5)


def third(task: str, points: float) -> LadderStep:
    return step(task, "own_third", points, 0.16, 0.34)


def base_of(points: Mapping[str, float], *steps: LadderStep) -> Base:
    tried = {task: [one for one in steps if one.task == task] for task in points}
    return Base(Path("base"), Cost(1.0, 1.0), {task: at(one) for task, one in points.items()},
                dict.fromkeys(points, Cost()), tried)  # fmt: skip


def combiner(size: float, passes: float, tasks: int) -> Combiner:
    limits = ModelLimits(size, passes, 0.5)
    singles = {f"t{number}": SINGLE for number in range(tasks)} | dict.fromkeys("abcd", SINGLE)
    return Combiner(limits, singles, Cost(float(tasks), float(tasks)), FLOOR)


def best(base: Base, size: float = 2.0, passes: float = 2.0) -> Combination:
    return next(combiner(size, passes, len(base.standings)).best_first([base]))


def test_the_worst_task_does_not_use_up_what_others_need() -> None:
    base = base_of({"a": -2.3, "b": -3.0, "c": -2.0, "d": 1.0}, third("a", -0.6), third("b", 0.0), third("c", -0.4))
    found = best(base, passes=2.1)
    assert {task: one.name for task, one in found.taken.items()} == dict.fromkeys("abc", "own_third")
    assert found.grafted == ()
    assert found.losses == {"a": pytest.approx(0.001)}


def test_a_task_far_below_gets_its_own_model_if_another_loses_less_by_staying() -> None:
    base = base_of({"a": -5.0, "b": -0.6, "c": 0.0}, lora("a", -4.0), lora("b", 0.0))
    found = best(base)
    assert found.grafted == ("a",)
    assert found.taken == {}
    # With room for both, both are lifted.
    assert best(base, size=2.1, passes=2.5).key[:3] == (0.0, 0.0, 0)


def test_of_two_tasks_both_may_get_their_own_models() -> None:
    base = base_of({"a": -5.0, "b": -3.0})
    found = best(base)
    assert set(found.grafted) == {"a", "b"}
    assert found.cost == Cost(2.0, 2.0)


def test_parts_of_two_kinds_are_not_combined() -> None:
    base = base_of({"a": -2.0, "b": -1.5, "c": 0.0}, lora("a", 0.0), third("a", 0.5), third("b", 0.0))
    found = best(base)
    assert {task: one.name for task, one in found.taken.items()} == {"a": "own_third", "b": "own_third"}


def test_a_step_that_is_worse_is_not_kept() -> None:
    found = best(base_of({"a": -2.0, "b": 0.0}, lora("a", -2.5)), size=1.5)
    assert found.taken == {}
    assert found.standings["a"] == at(-2.0)


def test_of_two_that_are_nearly_as_large_the_better_one_is_taken() -> None:
    base = base_of({"a": -2.0, "b": 1.0}, step("a", "own_third", 0.0, 0.99, 1.0), step("a", "own_half", 2.0, 1.01, 1.0))
    assert best(base, size=3, passes=3).taken["a"].name == "own_half"


def test_the_one_with_fewer_passes_is_taken() -> None:
    found = best(base_of({"a": -2.0, "b": 0.0}, lora("a", 0.0), third("a", 1.0)))
    assert found.taken["a"].name == "own_third"  # fewer passes


def test_what_a_forbidden_model_would_need_is_foretold() -> None:
    base = base_of({"a": -5.0, "b": -4.9, "c": 0.0}, third("a", -1.0), third("b", 0.0))
    found = best(base, size=1.9)
    assert set(found.taken) == {"a", "b"}
    needed = combiner(1.9, 2.0, 3).with_graft(found, "a")
    assert (needed.cost.size, needed.cost.passes) == (pytest.approx(2.16), pytest.approx(2.34))


def everything(base: Base, limits: ModelLimits) -> Iterator[tuple[float, ...]]:
    """Yield the sort keys of all combinations within the limits."""
    below = [task for task, now in base.standings.items() if now.above < limits.certainty]
    for chosen in itertools.product(*([None, "graft", *base.steps[task]] for task in below)):
        steps = [one for one in chosen if isinstance(one, LadderStep)]
        grafts = sum(one == "graft" for one in chosen)
        if len({one.kind for one in steps}) > 1:
            continue
        size = 1.0 + sum(one.size - 1 for one in steps) + grafts
        passes = 1.0 + sum(one.passes - 1 for one in steps) + grafts
        if grafts == len(base.standings):
            size = passes = float(grafts)
        if chosen != (None,) * len(below) and (size > limits.size + 1e-9 or passes > limits.passes + 1e-9):
            continue
        losses: list[float] = []
        gain = sum(now.delta or 0.0 for task, now in base.standings.items() if task not in below)
        for task, one in zip(below, chosen, strict=True):
            now = base.standings[task] if one is None else one.standing if isinstance(one, LadderStep) else None
            gain += 0.0 if now is None else now.delta or 0.0
            if now is not None and now.above < limits.certainty:
                assert now.delta is not None
                losses.append(max(0.0, -FLOOR - now.delta))
        worst, total = round(max(losses, default=0.0), 9), round(sum(losses), 9)
        yield worst, total, len(losses), round(passes, 9), round(size, 1), round(-gain, 9), round(size, 9)


@settings(max_examples=60, deadline=None)
@given(
    points=st.lists(st.sampled_from([-4.0, -2.0, -1.0, -0.6, 0.0, 1.0]), min_size=2, max_size=4),
    steps=st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from([-3.0, -0.9, -0.55, 0.0, 2.0]))),
    size=st.sampled_from([1.0, 1.2, 1.4, 2.0, 2.2, 3.0]),
    passes=st.sampled_from([1.0, 1.5, 2.0, 2.5, 4.0]),
)
def test_the_choice_is_that_of_trying_all(
    points: list[float], steps: list[tuple[int, bool, float]], size: float, passes: float
) -> None:
    tried = {
        (number, low): (lora if low else third)(f"t{number}", gain)
        for number, low, gain in steps
        if number < len(points)
    }
    base = base_of({f"t{number}": one for number, one in enumerate(points)}, *tried.values())
    limits = ModelLimits(size, passes, 0.5)
    assert best(base, size, passes).key == min(everything(base, limits))
