"""The sharing plan: a tree in which every task stands once a level; and what every strategy makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.sharing import SHARING, Mixing, PartKind, Plan, Sharing
from polytask.sharing.plan import Partition, encoder_size, global_plan, independent_plan

TASKS = ("sentiment", "topic", "ner", "pos")
# The fewest options that each strategy asks for.
LEAST: dict[str, dict[str, Any]] = {
    "global": {},
    "independent": {},
    "partial": {"shared_layers": 0},
    "adaptive": {},
    "from_affinity": {"file": "affinity.json"},
    "mmoe": {},
    "ple": {},
    "cross_stitch": {},
}


def parts(*groups: str) -> Partition:
    """Return a partition of tasks named by single letters."""
    return tuple(frozenset(group) for group in groups)


@st.composite
def plans(draw: st.DrawFn, least: int = 1) -> Plan:
    """Trees that split parts in two at random, level by level, of tasks in any order."""
    tasks = tuple(draw(st.permutations(TASKS))[: draw(st.integers(least, len(TASKS)))])
    levels: list[Partition] = [(frozenset(tasks),)]
    for _ in range(draw(st.integers(0, 6))):
        level: list[frozenset[str]] = []
        for part in levels[-1]:
            taken = frozenset(draw(st.lists(st.sampled_from(sorted(part)), unique=True)))
            level.extend(piece for piece in (taken, part - taken) if piece)
        levels.append(tuple(level))
    return Plan(tasks, tuple(levels[draw(st.integers(0, len(levels) - 1)) :]))


@st.composite
def splits(draw: st.DrawFn) -> tuple[Plan, int, frozenset[str]]:
    """A plan, a level, and some but not all tasks of one part of it."""
    plan = draw(plans(2).filter(lambda plan: any(len(part) > 1 for part in plan.levels[0])))
    level = draw(st.sampled_from([n for n, found in enumerate(plan.levels) if any(len(part) > 1 for part in found)]))
    part = sorted(draw(st.sampled_from([part for part in plan.levels[level] if len(part) > 1])))
    group = draw(st.lists(st.sampled_from(part), unique=True, min_size=1, max_size=len(part) - 1))
    return plan, level, frozenset(group)


def together(plan: Plan) -> set[tuple[int, str, str]]:
    """List at which levels which tasks share weights: all that a plan says."""
    return {
        (number, one, other)
        for number, level in enumerate(plan.levels)
        for part in level
        for one, other in combinations(sorted(part), 2)
    }


# Every strategy


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str, int, int], Sharing]:
    """Return what builds a strategy with the least options, for so many layers and tasks."""

    def make(strategy: str, layers: int, count: int) -> Sharing:
        tasks = list(TASKS[:count])
        options = {"strategy": strategy, **LEAST[strategy]}
        if "file" in options:
            matrix = [[0.0 if i == j else 1.0 - 2.0 * ((i + j) % 2) for j in range(count)] for i in range(count)]
            options["file"] = str(tmp_path / options["file"])
            Path(options["file"]).write_text(json.dumps({"tasks": tasks, "affinity": matrix}))
        return SHARING[strategy].model_validate(options).build(tasks, layers)

    return make


def test_the_table_holds_every_strategy_under_its_own_name() -> None:
    assert len(SHARING) == len(LEAST) == 8
    for name, options in SHARING.items():
        assert get_args(options.model_fields["strategy"].annotation) == (name,)
        assert options.__doc__


@pytest.mark.parametrize("strategy", SHARING)
@pytest.mark.parametrize("layers", [1, 2, 6, 12])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_strategy_shares_among_all_tasks_at_any_depth(
    made: Callable[[str, int, int], Sharing], strategy: str, layers: int, count: int
) -> None:
    sharing = made(strategy, layers, count)
    assert sharing.plan.tasks == TASKS[:count]
    assert sharing.plan.layers == (layers if sharing.mixing is None else sharing.mixing.from_layer - 1) <= layers
    assert sharing.heads == ()
    assert [sharing.head_of(task) for task in sharing.plan.tasks] == list(sharing.plan.tasks)
    copy = Sharing.from_json(json.loads(json.dumps(sharing.to_json())))
    assert copy == sharing
    assert copy.picture() == sharing.picture()
    assert all(task in sharing.picture() for task in TASKS[:count])
    following = sharing.following(sharing.plan)
    assert following == sharing


def test_the_round_trip_through_json_keeps_what_is_not_a_default() -> None:
    sharing = Sharing(
        independent_plan(TASKS, 2),
        PartKind("lora", rank=4, alpha=8.0, targets=("query", "value"), frozen=True),
        None,
        (("sentiment", "topic"),),
    )
    mixed = replace(sharing, kind=PartKind(), mixing=Mixing("cross_stitch", 3, {"own_weight": 0.8, "rate": 10.0}))
    for one in (sharing, mixed):
        assert Sharing.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_the_picture_says_kind_mixing_and_shared_heads() -> None:
    plan = global_plan(TASKS[:2], 2)
    assert "lora" not in Sharing(plan, PartKind("lora")).picture()  # nothing is divided, so there are no parts
    divided = Sharing(plan.split(2, ["topic"]), PartKind("lora"), None, (("sentiment", "topic"),))
    assert divided.picture() == (
        "parts of a layer: lora\n"
        "layer 2  [sentiment] [topic]\n"
        "layer 1  [sentiment,  topic]\n"
        "one head for sentiment, topic"
    )  # fmt: skip
    mixed = Sharing(plan, mixing=Mixing("mmoe", 3, {"experts": 4})).picture()
    assert mixed.splitlines()[0] == "mmoe from layer 3 (experts 4)"


def test_tasks_that_share_a_head_stand_under_the_first_of_them() -> None:
    sharing = Sharing(global_plan(TASKS, 1), heads=(("topic", "pos"),))
    assert [sharing.head_of(task) for task in TASKS] == ["sentiment", "topic", "ner", "topic"]


# Laws of the plan


def test_global_shares_all_and_independent_nothing() -> None:
    assert global_plan(TASKS, 3).trunks == (frozenset(TASKS),)
    assert independent_plan(TASKS, 3).trunks == tuple(frozenset([task]) for task in TASKS)
    assert not together(independent_plan(TASKS, 3))
    assert len(together(global_plan(TASKS, 3))) == 4 * 6


@given(plans())
def test_json_round_trip(plan: Plan) -> None:
    copy = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert copy == plan
    assert hash(copy) == hash(plan)
    assert copy.picture() == plan.picture()


@given(plans(), st.randoms(use_true_random=False))
def test_the_order_in_which_parts_are_given_does_not_matter(plan: Plan, random: Any) -> None:
    shuffled = [random.sample(level, len(level)) for level in plan.levels]
    copy = Plan(plan.tasks, tuple(tuple(level) for level in shuffled))
    assert copy == plan
    assert hash(copy) == hash(plan)
    assert copy.to_json() == plan.to_json()


@given(splits())
def test_a_split_parts_a_group_from_its_companions_at_its_level_and_above_and_nothing_else(
    case: tuple[Plan, int, frozenset[str]],
) -> None:
    plan, level, group = case
    after = plan.split(level, group)
    assert after.tasks == plan.tasks
    assert after.levels[:level] == plan.levels[:level]
    companions = next(part for part in plan.levels[level] if group < part) - group
    parted = {
        (number, one, other)
        for number, one, other in together(plan)
        if number >= level and len({one, other} & group) == 1 == len({one, other} & companions)
    }
    assert parted
    assert together(after) == together(plan) - parted


@given(splits())
def test_merging_undoes_a_split_level_by_level_from_the_lowest(case: tuple[Plan, int, frozenset[str]]) -> None:
    plan, level, group = case
    after = plan.split(level, group)
    companions = next(part for part in plan.levels[level] if group < part) - group
    lowest = after.merge(level, companions, group)
    assert lowest.levels[level] == plan.levels[level]
    assert lowest.levels[:level] + lowest.levels[level + 1 :] == after.levels[:level] + after.levels[level + 1 :]
    for number in range(level, len(plan.levels)):
        for part in plan.levels[number]:
            if part & group and part - group:
                after = after.merge(number, part & group, part - group)
    assert after == plan


@given(plans(), st.data())
def test_the_plan_of_some_tasks_keeps_their_order_and_what_they_share(plan: Plan, data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.sampled_from(sorted(plan.tasks)), unique=True, min_size=1))
    inner = plan.within(kept)
    assert inner.tasks == tuple(task for task in plan.tasks if task in kept)
    assert inner.layers == plan.layers
    assert together(inner) == {found for found in together(plan) if {found[1], found[2]} <= set(kept)}
    assert plan.within(plan.tasks) == plan


@given(plans())
def test_every_task_finds_its_part_at_every_level(plan: Plan) -> None:
    for level in range(plan.layers + 1):
        for task in plan.tasks:
            assert task in plan.part(level, task)
            assert plan.part(level, task) in plan.levels[level]


@given(plans())
def test_the_size_of_an_encoder_adds_up_all_parts_of_all_levels(plan: Plan) -> None:
    sizes = [7, 11, 13, 17, 19, 23, 29]
    expected = sum(sizes[number] for number, level in enumerate(plan.levels) for _ in level)
    assert encoder_size(plan, lambda level, count: sizes[level] * count) == expected
    # Parts may also share: one layer and a small adapter for each part beyond the first.
    small = encoder_size(plan, lambda level, count: sizes[level] + count - 1)
    assert small == sum(sizes[: plan.layers + 1]) + sum(len(level) - 1 for level in plan.levels)


# What is no split, no merge, no plan


@pytest.mark.parametrize("group", ["", "abc", "d", "ad", "x", "abcd"])
def test_only_some_tasks_of_one_part_split(group: str) -> None:
    plan = Plan(tuple("abcd"), (parts("abcd"), parts("abc", "d")))
    with pytest.raises(ValueError, match=r"^layer 1: \[.*\] is not a proper subset of one part, so there is nothing"):
        plan.split(1, group)


@pytest.mark.parametrize(
    ("level", "one", "other", "message"),
    [
        (1, "a", "b", r"^layer 1: \['a'\] is not one of two parts"),
        (1, "ab", "x", r"^layer 1: \['x'\] is not one of two parts"),
        (1, "ab", "ab", r"^layer 1: \['a', 'b'\] is not one of two parts"),
        (0, "ab", "c", r"^the embeddings: \['a', 'b'\] is not one of two parts"),
        (2, "a", "c", r"^layer 2: \['a', 'c'\] share weights above a layer that separates them"),
    ],
)
def test_only_two_parts_that_stand_on_one_part_are_joined(level: int, one: str, other: str, message: str) -> None:
    plan = Plan(tuple("abc"), (parts("abc"), parts("ab", "c"), parts("a", "b", "c")))
    with pytest.raises(ValueError, match=message):
        plan.merge(level, one, other)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((parts("a", "b"), parts("ab")), r"^layer 1: \['a', 'b'\] share weights above a layer that separates them"),
        ((parts("ab", "c"), parts("a", "bc")), "separated tasks cannot be joined again"),
        (
            (parts("ab"),),
            r"^the embeddings: the parts hold \['a', 'b'\]; each of \['a', 'b', 'c'\] has to be in one part",
        ),
        ((parts("abc"), parts("ab", "bc")), r"^layer 1: the parts hold \['a', 'b', 'b', 'c'\]"),
        ((parts("abcd"),), r"^the embeddings: the parts hold \['a', 'b', 'c', 'd'\]"),
        ((parts("abc", ""),), "^the embeddings: a part without tasks"),
        ((parts("abc"), ()), r"^layer 1: the parts hold \[\]"),
    ],
)
def test_what_is_not_a_tree_of_all_tasks_is_refused(levels: tuple[Partition, ...], message: str) -> None:
    tasks = tuple("abc") if any("c" in part for part in levels[0]) or len(levels) == 1 else tuple("ab")
    with pytest.raises(ValueError, match=message):
        Plan(tasks, levels)


def test_a_task_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="each of"):
        Plan(("a", "a"), (parts("a"),))


# The picture


def test_the_picture_draws_branches_from_the_top() -> None:
    plan = global_plan(["sentiment", "topic", "entities"], 6).split(4, ["entities"]).split(5, ["topic"])
    assert plan.picture() == (
        "layer 5-6  [sentiment] [topic] [entities]\n"
        "layer 4    [sentiment,  topic] [entities]\n"
        "layer 1-3  [sentiment,  topic,  entities]"
    )  # fmt: skip


def test_embeddings_have_a_line_of_their_own_only_where_they_differ_from_layer_1() -> None:
    plan = Plan(tuple("ab"), (parts("ab"), parts("a", "b")))
    assert plan.picture() == "layer 1     [a] [b]\nembeddings  [a,  b]"
    assert global_plan("ab", 0).picture() == "embeddings  [a, b]"
    assert global_plan("ab", 1).picture() == "layer 1  [a, b]"


def test_tasks_move_beside_their_companions_in_the_picture() -> None:
    plan = Plan(tuple("abcd"), (parts("abcd"), parts("ac", "bd")))
    assert plan.picture().splitlines()[0] == "layer 1     [a, c] [b, d]"


@given(plans())
def test_the_picture_shows_every_task_in_every_line_and_every_layer_once(plan: Plan) -> None:
    lines = plan.picture().splitlines()
    layers: list[int] = []
    for line in reversed(lines):
        name = line.partition("[")[0].split()
        first, _, last = name[1].partition("-") if name[0] == "layer" else ("0", "", "")
        layers.extend(range(int(first), int(last or first) + 1))
    assert layers in (list(range(plan.layers + 1)), list(range(1, plan.layers + 1)))
    assert (0 in layers) == (plan.layers == 0 or plan.levels[0] != plan.levels[1])


@given(plans())
def test_every_part_stands_together_in_the_picture(plan: Plan) -> None:
    lines = plan.picture().splitlines()
    drawn = [
        tuple(frozenset(part.replace(",", " ").split()) for part in line.partition("[")[2][:-1].split("] ["))
        for line in lines
    ]
    distinct = [level for number, level in enumerate(plan.levels) if not number or level != plan.levels[number - 1]]
    assert [set(level) for level in drawn] == [set(level) for level in reversed(distinct)]
    named = [line.partition("[")[2].translate(str.maketrans("[],", "   ")).split() for line in lines]
    assert all(sorted(names) == sorted(plan.tasks) for names in named)
    assert all(names == named[0] for names in named)  # a task keeps its column
    assert len({len(line) for line in lines}) == 1
