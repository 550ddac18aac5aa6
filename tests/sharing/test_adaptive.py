"""The adaptive policy: what is split, when, and on which numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grams import LAYERS, Gram, copies, decisions, gram, watch, without
from polytask.errors import ConfigError
from polytask.sharing import Adaptive, Plan, Sharing
from polytask.sharing.adaptive import AdaptiveOptions, Similarity
from polytask.sharing.plan import global_plan, independent_plan


@st.composite
def streams(draw: st.DrawFn, tasks: int = 3, layers: int = 3) -> list[Gram]:
    """Measurements of gradients without a pattern, of which some lack a task; conflicts come often."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    lasting = random.normal(size=(layers, tasks, 4))
    found: list[Gram] = []
    for _ in range(draw(st.integers(1, 16))):
        gradients = lasting + draw(st.sampled_from([0.0, 0.3, 1.0])) * random.normal(size=lasting.shape)
        one = gradients @ gradients.transpose(0, 2, 1)
        names = "abcdefgh"[:tasks]
        found.append(without(one, names, draw(st.sampled_from(["", "", "", *names]))))
    return found


# Where and when a part is split


@pytest.mark.parametrize("level", [1, 3, 6])
@pytest.mark.parametrize("patience", [1, 2, 5])
def test_a_lasting_conflict_is_split_at_the_layer_where_it_begins_once_patience_is_over(
    level: int, patience: int
) -> None:
    plan = global_plan("abc", LAYERS)
    policy = watch(plan, patience=patience)
    found = decisions(policy, [gram("abc", "ab", "c", level=level)] * 12)
    assert len(found) == 1
    number, decision = found[0]
    assert patience <= number <= patience + 1  # a single measurement says nothing of its own error
    assert (decision.action, decision.level) == ("split", level)
    assert set(decision.groups) == {frozenset("ab"), frozenset("c")}
    assert decision.plan == policy.plan == plan.split(level, "c")


def test_nothing_changes_before_enough_was_measured() -> None:
    for measurements in (4, 9):
        policy = watch(global_plan("abc", LAYERS), min_measurements=measurements)
        assert decisions(policy, [gram("abc", "ab", "c")] * 12)[0][0] == measurements


def test_patience_counts_from_where_the_conflict_begins() -> None:
    policy = watch(global_plan("abc", LAYERS), patience=3, smoothing=0.1)
    agreeing, odd = gram("abc", "abc"), gram("abc", "ab", "c")
    assert decisions(policy, [agreeing] * 8 + [odd] * 6)[0][0] == 8 + 3


def test_a_conflict_that_does_not_last_is_never_split() -> None:
    policy = watch(global_plan("abc", LAYERS), patience=3, smoothing=0.1)
    assert not decisions(policy, ([gram("abc", "ab", "c")] * 2 + [gram("abc", "abc")]) * 10)
    assert policy.plan == global_plan("abc", LAYERS)


@settings(max_examples=30)
@given(st.integers(2, 6), st.integers(0, 2**32), st.booleans())
def test_tasks_that_agree_are_never_split(count: int, seed: int, defaults: bool) -> None:
    random = np.random.default_rng(seed)
    tasks = "abcdef"[:count]
    options = {} if not defaults else {"confidence": 1.5, "patience": 3, "min_measurements": 10, "smoothing": 0.9}
    policy = watch(global_plan(tasks, 3), **options)
    for _ in range(20):
        common = random.normal(size=(3, 1, 8))
        noise = random.normal(size=(3, count, 8))
        # Less than 45 degrees from what they have in common, so that every two agree.
        bound = 0.7 * np.linalg.norm(common, axis=2, keepdims=True) / np.linalg.norm(noise, axis=2, keepdims=True)
        gradients = (common + noise * bound) * random.uniform(0.1, 10, size=(3, count, 1))
        assert policy.observe(gradients @ gradients.transpose(0, 2, 1)) is None
    assert policy.plan == global_plan(tasks, 3)


@given(st.data())
def test_the_group_that_separates_the_conflict_best_is_chosen(data: st.DataObject) -> None:
    tasks = "abcdefgh"[: data.draw(st.integers(2, 8), "count")]
    camp = "".join(
        data.draw(st.lists(st.sampled_from(tasks), unique=True, min_size=1, max_size=len(tasks) - 1), "camp")
    )
    level = data.draw(st.integers(1, LAYERS), "level")
    policy = watch(global_plan(tasks, LAYERS), patience=1)
    found = decisions(policy, [gram(tasks, camp, level=level)] * 6)
    assert [decision.plan for _, decision in found] == [global_plan(tasks, LAYERS).split(level, camp)]


def test_a_conflict_between_two_tasks_of_a_branch_divides_that_branch_only() -> None:
    plan = global_plan("abcd", LAYERS).split(2, "cd")
    policy = watch(plan)
    # What parts already may be at odds; nothing is left to split there.
    found = decisions(policy, [gram("abcd", "ab", "c", "d", level=4)] * 8)
    assert [decision.plan for _, decision in found] == [plan.split(4, "c")]


def test_layers_that_are_divided_already_do_not_speak_for_a_split_below_them() -> None:
    plan = global_plan("abc", LAYERS).split(4, "c")
    policy = watch(plan)
    found = decisions(policy, [gram("abc", "ab", "c", level=3)] * 6)
    assert [decision.plan for _, decision in found] == [plan.split(3, "c")]
    assert found[0][1].similarity == pytest.approx([-0.5])


def test_several_conflicts_are_split_one_after_another_and_each_waits_anew() -> None:
    patience = 4
    begun = global_plan("abcd", LAYERS).split(2, "cd")
    for start in (global_plan("abcd", LAYERS), begun):
        policy = watch(start, patience=patience)
        found = decisions(policy, [gram("abcd", "a", "b", "c", "d", level=3)] * 30)
        assert [later - sooner for (sooner, _), (later, _) in pairwise(found)] == [patience] * (len(found) - 1)
        assert {decision.level for _, decision in found} == {3}
        assert policy.plan.levels[3:] == independent_plan("abcd", LAYERS).levels[3:]
        assert policy.plan.levels[:3] == start.levels[:3]


# The budget


@given(st.integers(1, LAYERS), st.integers(0, LAYERS + 2))
def test_a_split_that_does_not_fit_the_budget_is_replaced_by_the_best_that_fits(level: int, spare: int) -> None:
    plan = global_plan("abc", LAYERS)
    policy = watch(plan, spare=spare)
    found = decisions(policy, [gram("abc", "ab", "c", level=level)] * 8)
    if spare == 0:
        assert not found
    else:
        fits = max(level, LAYERS + 1 - spare)
        assert [decision.plan for _, decision in found] == [plan.split(fits, "c")]
        assert found[0][1].parameters == copies(policy.plan) <= copies(plan) + spare


def test_a_starting_plan_over_the_budget_is_a_mistake() -> None:
    options = AdaptiveOptions.model_validate({"strategy": "adaptive", "max_parameters": 2})
    with pytest.raises(ConfigError) as caught:
        options.policy(Sharing(independent_plan("abc", LAYERS)), copies, LAYERS + 1, 1.0)
    assert str(caught.value) == (
        "sharing.max_parameters: found 2, but the starting plan has 3.00 times the parameters of a model that shares "
        "everything; allow at least that, or start from a smaller plan"
    )
    fits = AdaptiveOptions.model_validate({"strategy": "adaptive", "max_parameters": 3})
    assert fits.policy(Sharing(independent_plan("abc", LAYERS)), copies, LAYERS + 1, 1.0) is not None


# Laws of every stream


@settings(max_examples=40)
@given(streams(), st.integers(0, 6))
def test_every_decision_keeps_the_tree_the_budget_and_all_below_its_layer(stream: list[Gram], spare: int) -> None:
    before = global_plan("abc", 3)
    most = copies(before) + spare
    policy = watch(before, spare=spare, patience=1)
    for number, one in enumerate(stream, start=1):
        decision = policy.observe(one)
        if decision is not None:
            assert decision.plan == before.split(decision.level, decision.groups[0])
            assert decision.parameters == copies(decision.plan) <= most
            assert decision.measurements == number
            assert len(decision.similarity) >= 1
            assert sum(decision.similarity) < 0
            before = decision.plan
        assert policy.plan == before


@settings(max_examples=40)
@given(streams(), st.sampled_from(["patience", "min_measurements", "confidence", "threshold", "spare"]))
def test_asking_for_more_never_decides_sooner(stream: list[Gram], what: str) -> None:
    steps = {
        "patience": [1, 2, 4], "min_measurements": [1, 3, 8], "confidence": [0.0, 0.5, 2.0],
        "threshold": [0.3, 0.0, -0.3], "spare": [9, 2, 0],
    }[what]  # fmt: skip
    first: list[float] = []
    for value in steps:
        found = decisions(watch(global_plan("abc", 3), **{"patience": 1, what: value}), stream)
        first.append(found[0][0] if found else float("inf"))
    assert first == sorted(first)


@settings(max_examples=40)
@given(streams(), st.data())
def test_a_saved_policy_goes_on_as_if_it_had_never_stopped(stream: list[Gram], data: st.DataObject) -> None:
    near = {cut: 0.001 for cut in watch(global_plan("abc", 3)).mergeable()}
    options: dict[str, Any] = {"patience": data.draw(st.integers(1, 3)), "merge": True, "confidence": 0.5, "spare": 3}

    def follow(policy: Adaptive, found: Sequence[Gram]) -> list[Any]:
        seen: list[Any] = []
        for one in found:
            near.update(dict.fromkeys(policy.mergeable(), 0.001))
            decision = policy.observe(one, near)
            seen.append(None if decision is None else (decision.action, decision.to_json()))
        return seen

    stop = data.draw(st.integers(0, len(stream)))
    whole = watch(global_plan("abc", 3), **options)
    expected = follow(whole, stream)
    first = watch(global_plan("abc", 3), **options)
    begun = follow(first, stream[:stop])
    second = watch(global_plan("abc", 3), **options)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.plan == first.plan
    assert begun + follow(second, stream[stop:]) == expected
    assert second.state_dict() == whole.state_dict()


@settings(max_examples=20)
@given(streams(tasks=4))
def test_the_length_of_a_tasks_gradient_does_not_matter(stream: list[Gram]) -> None:
    lengths = np.array([1.0, 4.0, 0.25, 2.0])  # powers of two: exact
    scaled = [one * np.outer(lengths, lengths) for one in stream]
    one, other = (watch(global_plan("abcd", 3), patience=1, confidence=1.0) for _ in range(2))
    assert [(n, d.plan) for n, d in decisions(one, stream)] == [(n, d.plan) for n, d in decisions(other, scaled)]


# Tasks without labels


def test_a_measurement_without_anything_changes_nothing() -> None:
    policy = watch(global_plan("abc", LAYERS), patience=1)
    nothing = np.full((LAYERS, 3, 3), np.nan)
    assert not decisions(policy, [nothing] * 4)
    assert decisions(policy, [gram("abc", "ab", "c")] * 3)[0][1].plan == global_plan("abc", LAYERS).split(1, "c")
    assert not decisions(policy, [nothing] * 4)


def test_a_task_that_was_never_measured_is_never_split_off() -> None:
    policy = watch(global_plan("abc", LAYERS), patience=1)
    assert not decisions(policy, [without(gram("abc", "a", "b", "c"), "abc", "c")] * 8)


def test_measurements_without_a_task_do_not_count_for_its_conflicts() -> None:
    odd = gram("abc", "ab", "c")
    absent = without(odd, "abc", "c")
    policy = watch(global_plan("abc", LAYERS), patience=4)
    # A rare task: what is measured without it neither adds to its conflicts nor ends them.
    stream = [odd, absent, absent, absent] * 5
    number, decision = decisions(policy, stream)[0]
    seen = sum(1 for one in stream[:number] if not np.isnan(one).any())
    assert 4 <= seen <= 5
    assert decision.plan == global_plan("abc", LAYERS).split(1, "c")
    assert not np.isnan(stream[number - 1]).any()


def test_a_task_without_a_gradient_is_not_split_off() -> None:
    still = gram("abc", "ab", "c")
    still[:, 2, :] = still[:, :, 2] = 0.0
    assert not decisions(watch(global_plan("abc", LAYERS), patience=1), [still] * 6)


# What is told, and how much it costs


def test_a_decision_is_written_with_its_numbers_and_its_plan() -> None:
    policy = watch(global_plan("abc", LAYERS))
    number, decision = decisions(policy, [gram("abc", "ab", "c", level=4)] * 6)[0]
    written = json.loads(json.dumps(decision.to_json()))
    assert written["layer"] == 4
    assert sorted(written["groups"]) == [["a", "b"], ["c"]]
    assert written["similarity"] == pytest.approx([-0.5] * 3, abs=1e-4)
    assert written["measurements"] == number
    assert written["parameters"] == LAYERS + 1 + 3
    assert Plan.from_json(written["plan"]) == decision.plan


def test_measurements_are_made_at_every_interval() -> None:
    policy = watch(global_plan("ab", 1), interval=7)
    assert [step for step in range(30) if policy.measures_at(step)] == [0, 7, 14, 21, 28]


@pytest.mark.parametrize("apart", ["d", "dg"])
def test_ten_tasks_are_divided_without_a_look_at_every_way(apart: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, layers, measurements = "abcdefghij", 12, 12
    looks: list[int] = []
    between = Similarity.between

    def counted(similarity: Similarity, *groups: Any) -> Any:
        looks.append(1)
        return between(similarity, *groups)

    monkeypatch.setattr(Similarity, "between", counted)
    policy = watch(global_plan(tasks, layers), spare=100)
    rest = "".join(task for task in tasks if task not in apart)
    found = decisions(policy, [gram(tasks, rest, apart, level=7, layers=layers)] * measurements)
    assert [decision.plan for _, decision in found] == [global_plan(tasks, layers).split(7, apart)]
    ways = layers * (2 ** (len(tasks) - 1) - 1)  # to divide one layer in two
    assert 0 < len(looks) < measurements * ways / 4
