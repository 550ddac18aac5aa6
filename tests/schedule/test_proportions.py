"""Shares become whole rows that always add up and never drift by more than one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from variants import Variant, workload

from polytask.errors import ConfigError
from polytask.schedule import ParallelOptions
from polytask.schedule.proportions import PROPORTIONS, Apportioner, MixingParams

SIZES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 10**6), min_size=1)
SHARES = st.lists(st.floats(1e-4, 1), min_size=1, max_size=8)
LAWS = settings(max_examples=50, deadline=None)


def names(shares: list[float]) -> dict[str, float]:
    return {f"t{number}": share for number, share in enumerate(shares)}


def relative(shares: Mapping[str, float]) -> dict[str, float]:
    return {task: share / sum(shares.values()) for task, share in shares.items()}


def test_proportions_are_those_of_the_options() -> None:
    assert len(PROPORTIONS) == 5


@LAWS
@given(SIZES, st.floats(0.5, 10), st.integers(1, 10**6), st.floats(0, 1))
def test_proportions_follow_their_formula(sizes: dict[str, int], temperature: float, cap: int, progress: float) -> None:
    params = MixingParams(temperature, cap, progress)
    assert len(set(PROPORTIONS["uniform"](sizes, params).values())) == 1
    assert PROPORTIONS["proportional"](sizes, params) == sizes
    assert relative(PROPORTIONS["temperature"](sizes, params)) == pytest.approx(
        relative({task: size ** (1 / temperature) for task, size in sizes.items()})
    )
    assert PROPORTIONS["annealed"](sizes, params) == {
        task: pytest.approx(size ** (1 - 0.8 * progress)) for task, size in sizes.items()
    }
    assert PROPORTIONS["capped"](sizes, params) == {task: min(size, cap) for task, size in sizes.items()}
    assert all(share > 0 for name in PROPORTIONS for share in PROPORTIONS[name](sizes, params).values())


@LAWS
@given(SIZES)
def test_temperature_goes_from_proportional_to_uniform(sizes: dict[str, int]) -> None:
    most = max(sizes.values())
    proportional = {task: size / most for task, size in sizes.items()}
    assert PROPORTIONS["temperature"](sizes, MixingParams(1.0)) == pytest.approx(proportional)
    assert list(PROPORTIONS["temperature"](sizes, MixingParams(1e9)).values()) == pytest.approx(
        [1.0] * len(sizes), rel=1e-6
    )


@LAWS
@given(SIZES)
def test_a_temperature_near_0_leaves_all_to_the_greatest_without_overflow(sizes: dict[str, int]) -> None:
    shares = PROPORTIONS["temperature"](sizes, MixingParams(1e-6))
    assert {task for task, share in shares.items() if share > 0.5} == {
        task for task, size in sizes.items() if size == max(sizes.values())
    }
    assert sum(Apportioner(tuple(sizes)).split(9, shares).values()) == 9


@LAWS
@given(SIZES)
def test_annealed_goes_from_proportional_to_the_fifth_root(sizes: dict[str, int]) -> None:
    assert PROPORTIONS["annealed"](sizes, MixingParams(progress=0.0)) == sizes
    assert PROPORTIONS["annealed"](sizes, MixingParams(progress=1.0)) == pytest.approx(
        {task: size**0.2 for task, size in sizes.items()}
    )


@LAWS
@given(SIZES)
def test_capped_goes_from_uniform_to_proportional(sizes: dict[str, int]) -> None:
    assert set(PROPORTIONS["capped"](sizes, MixingParams(cap=1)).values()) == {1.0}
    assert PROPORTIONS["capped"](sizes, MixingParams(cap=max(sizes.values()))) == sizes


@LAWS
@given(SHARES, st.integers(1, 9))
def test_running_totals_stay_within_one_of_the_exact_share(found: list[float], rows: int) -> None:
    shares = names(found)
    apportioner, totals = Apportioner(tuple(shares)), dict.fromkeys(shares, 0)
    for step in range(1, 40):
        given_rows = apportioner.split(rows, shares)
        assert sum(given_rows.values()) == rows
        assert min(given_rows.values()) >= 0
        for name, count in given_rows.items():
            totals[name] += count
            assert abs(totals[name] - step * rows * shares[name] / sum(found)) < 1


@LAWS
@given(SHARES, st.data())
def test_shares_may_change_and_pause(found: list[float], data: st.DataObject) -> None:
    shares = names(found)
    apportioner = Apportioner(tuple(shares))
    for _ in range(20):
        awake = data.draw(st.lists(st.sampled_from(list(shares)), min_size=1, unique=True))
        counts = apportioner.split(5, {name: shares[name] for name in awake})
        assert sum(counts.values()) == 5
        assert all(count == 0 for name, count in counts.items() if name not in awake)


@LAWS
@given(SHARES, st.lists(st.integers(0, 2**8), min_size=1, max_size=60))
def test_running_totals_do_not_drift_when_shares_change(found: list[float], awake: list[int]) -> None:
    """Whatever pauses and comes back, a name is at most two rows from the sum of its shares."""
    shares = names(found)
    apportioner, exact, totals = Apportioner(tuple(shares)), dict.fromkeys(shares, 0.0), dict.fromkeys(shares, 0)
    for mask in awake:
        now = {name: share for place, (name, share) in enumerate(shares.items()) if mask >> place & 1} or shares
        for name, count in apportioner.split(3, now).items():
            totals[name] += count
            exact[name] += 3 * now.get(name, 0.0) / sum(now.values())
            assert abs(totals[name] - exact[name]) < 2


@LAWS
@given(SHARES, st.integers(0, 30))
def test_credits_are_the_whole_state(found: list[float], steps: int) -> None:
    shares = names(found)
    first, second = Apportioner(tuple(shares)), Apportioner(tuple(shares))
    for _ in range(steps):
        first.split(3, shares)
    second.credits = json.loads(json.dumps(first.credits))
    assert [first.split(3, shares) for _ in range(10)] == [second.split(3, shares) for _ in range(10)]


@pytest.mark.parametrize(
    ("options", "place", "told"),
    [
        ({"proportions": {"a": 1, "b": -0.5}}, "proportions", "found -0.5 for 'b'; a share has to be 0 or greater"),
        (
            {"proportions": {"a": 0, "b": 0}},
            "proportions",
            "found shares that sum to 0; at least one task has",
        ),
        ({"proportions": {}}, "proportions", "found shares that sum to 0; at least one task has"),
        ({"proportions": {"a": float("inf")}}, "proportions", "finite number"),
        ({"proportions": "propotional"}, "proportions", "'uniform', 'proportional', 'temperature'"),
        ({"temperature": 0}, "temperature", "greater than 0"),
        ({"temperature": -2}, "temperature", "greater than 0"),
        ({"cap": 0}, "cap", "greater than or equal to 1"),
    ],
)
def test_impossible_options_are_refused_with_their_place(options: dict[str, Any], place: str, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ParallelOptions.model_validate({"strategy": "parallel", **options})
    found = caught.value.errors()
    assert {error["loc"][0] for error in found} == {place}
    assert any(told in error["msg"] for error in found)


@pytest.mark.parametrize("strategy", ["parallel", "dynamic"])
@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        (
            {"intent": 1, "slot": 1},
            "schedule.proportions: found 'slot'; accepted: intent, slots; did you mean 'slots'?",
        ),
        ({"slots": 1}, "schedule.proportions: found nothing for 'intent'; expected one for every task"),
    ],
)
def test_given_numbers_name_every_task_and_no_other(strategy: str, numbers: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Variant(strategy, {"proportions": numbers}).build(workload({"intent": 5, "slots": 5}, 2))
    assert str(caught.value) == told
