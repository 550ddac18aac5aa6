"""The sharing plan: a tree in which every task stands once a level."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.sharing import SHARING, Plan, SharingOptions
from polytask.sharing.plan import Partition, global_plan, independent_plan

TASKS = ("sentiment", "topic", "ner", "pos")


def parts(*groups: str) -> Partition:
    """Return a partition of tasks named by single letters."""
    return tuple(frozenset(group) for group in groups)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Trees that split parts in two at random, level by level."""
    tasks = tuple(TASKS[: draw(st.integers(1, len(TASKS)))])
    levels: list[Partition] = [(frozenset(tasks),)]
    for _ in range(draw(st.integers(0, 5))):
        level: list[frozenset[str]] = []
        for part in levels[-1]:
            taken = frozenset(draw(st.lists(st.sampled_from(sorted(part)), unique=True)))
            level.extend(piece for piece in (taken, part - taken) if piece)
        levels.append(tuple(level))
    return Plan(tasks, tuple(levels[draw(st.integers(0, len(levels) - 1)) :]))


def test_every_strategy_makes_a_valid_plan_of_the_asked_depth() -> None:
    assert len(SHARING) == 2
    assert set(get_args(SharingOptions.model_fields["strategy"].annotation)) == set(SHARING)
    for strategy, layers, count in ((name, depth, n) for name in SHARING for depth in (0, 1, 6) for n in (1, 4)):
        plan = SHARING[strategy](TASKS[:count], layers)
        assert plan.tasks == TASKS[:count]
        assert len(plan.levels) == layers + 1
        assert Plan.from_json(plan.to_json()) == plan


def test_global_shares_all_and_independent_nothing() -> None:
    assert global_plan(TASKS, 3).trunks == (frozenset(TASKS),)
    assert independent_plan(TASKS, 3).trunks == tuple(frozenset([task]) for task in TASKS)


@settings(max_examples=50, deadline=None)
@given(plans())
def test_json_round_trip(plan: Plan) -> None:
    copy = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert copy == plan
    assert hash(copy) == hash(plan)
    assert copy.picture() == plan.picture()


@settings(max_examples=50, deadline=None)
@given(plans())
def test_picture_shows_every_task_in_every_line_and_every_layer_once(plan: Plan) -> None:
    lines = plan.picture().splitlines()
    assert all(
        sorted(line.split("[", 1)[1].replace("[", " ").replace("]", " ").split()) == sorted(plan.tasks)
        for line in lines
    )
    assert lines[-1].startswith("embeddings")
    layers: list[int] = []
    for line in reversed(lines[:-1]):
        first, _, last = line.split()[1].partition("-")
        layers.extend(range(int(first), int(last or first) + 1))
    assert layers == list(range(1, len(plan.levels)))


def test_picture_draws_branches_from_the_top() -> None:
    plan = Plan(tuple("abc"), (parts("abc"), parts("abc"), parts("abc"), parts("ab", "c"), parts("a", "b", "c")))
    assert plan.picture() == (
        "layer 4     [a] [b] [c]\n"
        "layer 3     [a  b] [c]\n"
        "layer 1-2   [a  b  c]\n"
        "embeddings  [a  b  c]"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((parts("a", "b"), parts("ab")), r"^layer 1: \['a', 'b'\] share weights above a layer that separates them"),
        ((parts("ab", "c"), parts("a", "bc")), "tasks that part do not meet again"),
        ((parts("ab"),), r"^the embeddings: the parts hold \['a', 'b'\]; each of \['a', 'b', 'c'\] stands in one part"),
        ((parts("abc"), parts("ab", "bc")), r"^layer 1: the parts hold \['a', 'b', 'b', 'c'\]"),
        ((parts("abcd"),), r"^the embeddings: the parts hold \['a', 'b', 'c', 'd'\]"),
        ((parts("abc", ""),), "^the embeddings: a part without tasks"),
        ((parts("abc"), ()), r"^layer 1: the parts hold \[\]"),
    ],
)
def test_what_is_not_a_tree_of_all_tasks_is_refused(levels: tuple[Partition, ...], message: str) -> None:
    levels = tuple(tuple(part & set("abcd") for part in level) for level in levels)
    tasks = tuple("abc") if any("c" in part for part in levels[0]) or len(levels) == 1 else tuple("ab")
    with pytest.raises(ValueError, match=message):
        Plan(tasks, levels)


def test_a_task_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="each of"):
        Plan(("a", "a"), (parts("a"),))
