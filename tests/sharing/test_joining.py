"""The adaptive policy joins copies: which, and when."""

from __future__ import annotations

from typing import Any

import pytest

from grams import Gram, copies, gram, watch, without
from polytask.sharing import Adaptive, Decision, Plan
from polytask.sharing.plan import global_plan, independent_plan


def divided() -> Plan:
    return global_plan("abc", 3).split(2, "c")


def join(policy: Adaptive, count: int, found: Gram, distance: float) -> list[tuple[int, Decision]]:
    """Show a policy the same measurement again and again, copies being so far apart."""
    seen: list[tuple[int, Decision]] = []
    for number in range(1, count + 1):
        decision = policy.observe(
            found, dict.fromkeys(policy.mergeable(), distance) if policy.wants_distances else None
        )
        if decision is not None:
            seen.append((number, decision))
    return seen


MERGE: dict[str, Any] = {"merge": True, "merge_similarity": 0.1, "merge_distance": 0.02}


def test_copies_that_stay_close_and_agree_are_joined_from_the_lowest_layer_up() -> None:
    patience = 3
    policy = watch(divided(), patience=patience, **MERGE)
    found = join(policy, 12, gram("abc", "abc", layers=3), 0.01)
    assert [number for number, _ in found] == [patience, 2 * patience]
    assert [(decision.action, decision.level) for _, decision in found] == [("merge", 2), ("merge", 3)]
    assert found[0][1].plan == divided().merge(2, "ab", "c")
    assert found[0][1].parameters == copies(found[0][1].plan)
    assert found[0][1].similarity == pytest.approx([0.5])
    assert policy.plan == global_plan("abc", 3)


@pytest.mark.parametrize(
    ("options", "cosine", "distance"),
    [
        ({}, 0.5, 0.001),  # nobody asked for it
        ({**MERGE, "merge": False}, 0.5, 0.001),
        (MERGE, 0.5, 0.03),  # too far apart
        (MERGE, 0.05, 0.001),  # too little agreement
    ],
)
def test_copies_are_joined_only_when_asked_for_and_close_and_agreeing(
    options: dict[str, Any], cosine: float, distance: float
) -> None:
    policy = watch(divided(), patience=1, **options)
    assert policy.wants_distances == options.get("merge", False)
    assert not join(policy, 10, gram("abc", "abc", layers=3, cosine=cosine), distance)
    assert policy.plan == divided()


def test_closeness_that_does_not_last_joins_nothing() -> None:
    policy = watch(divided(), patience=3, **MERGE)
    for _ in range(4):
        assert not join(policy, 2, gram("abc", "abc", layers=3), 0.01)
        assert not join(policy, 1, gram("abc", "abc", layers=3), 0.5)


def test_measurements_without_a_task_do_not_count_for_joining_it() -> None:
    policy = watch(divided(), patience=3, **MERGE)
    whole = gram("abc", "abc", layers=3)
    assert not join(policy, 2, whole, 0.01)
    assert not join(policy, 8, without(whole, "abc", "c"), 0.01)
    assert [number for number, _ in join(policy, 1, whole, 0.01)] == [1]


def test_copies_that_stand_on_different_parts_cannot_be_joined() -> None:
    plan = divided().split(3, "a")
    cuts = watch(plan, **MERGE).mergeable()
    assert set(cuts) == {(2, frozenset("ab"), frozenset("c")), (3, frozenset("a"), frozenset("b"))}
    assert not watch(independent_plan("abc", 3)).mergeable()  # they share not even the embeddings
