"""Shares become whole rows that always add up and never drift by more than one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.schedule.proportions import PROPORTIONS, Apportioner

SIZES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 10**6), min_size=1)
SHARES = st.lists(st.floats(1e-4, 1), min_size=1, max_size=8)
LAWS = settings(max_examples=50, deadline=None)


def names(shares: list[float]) -> dict[str, float]:
    return {f"t{number}": share for number, share in enumerate(shares)}


def test_proportions_are_those_of_the_options() -> None:
    assert list(PROPORTIONS) == ["uniform", "proportional", "temperature"]


@LAWS
@given(SIZES, st.floats(0.5, 10))
def test_proportions_follow_their_formula(sizes: dict[str, int], temperature: float) -> None:
    assert len(set(PROPORTIONS["uniform"](sizes, temperature).values())) == 1
    assert PROPORTIONS["proportional"](sizes, temperature) == sizes
    tempered = PROPORTIONS["temperature"](sizes, temperature)
    assert tempered == pytest.approx({task: size ** (1 / temperature) for task, size in sizes.items()})
    assert all(share > 0 for name in PROPORTIONS for share in PROPORTIONS[name](sizes, temperature).values())


@LAWS
@given(SIZES)
def test_temperature_goes_from_proportional_to_uniform(sizes: dict[str, int]) -> None:
    assert PROPORTIONS["temperature"](sizes, 1.0) == pytest.approx(sizes)
    assert list(PROPORTIONS["temperature"](sizes, 1e9).values()) == pytest.approx([1.0] * len(sizes), rel=1e-6)


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
@given(SHARES, st.integers(0, 30))
def test_credits_are_the_whole_state(found: list[float], steps: int) -> None:
    shares = names(found)
    first, second = Apportioner(tuple(shares)), Apportioner(tuple(shares))
    for _ in range(steps):
        first.split(3, shares)
    second.credits = np.array(json.loads(json.dumps(first.credits.tolist())))
    assert [first.split(3, shares) for _ in range(10)] == [second.split(3, shares) for _ in range(10)]
