"""Partial sharing: three forms that agree where they say the same, and mistakes that name their place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.config import validate
from polytask.errors import ConfigError
from polytask.sharing import SHARING, Plan
from polytask.sharing.plan import Partition, global_plan, independent_plan

TASKS = ("sentiment", "topic", "entities", "intent")
LAYERS = 6
TRUNK = [[*TASKS]]
OWN = [[task] for task in TASKS]
PAIRS = [["sentiment", "topic"], ["entities", "intent"]]


def parts(*groups: str) -> Partition:
    """Return a partition of tasks named by single letters."""
    return tuple(frozenset(group) for group in groups)


def plan_of(tasks: Sequence[str] = TASKS, depth: int = LAYERS, **options: Any) -> Plan:
    return SHARING["partial"].model_validate({"strategy": "partial", **options}).build(list(tasks), depth).plan


def complaint(sharing: dict[str, Any], layers: int = LAYERS) -> str:
    """Return what is said of a mistake that shows once the encoder is known."""
    options = SHARING[sharing["strategy"]].model_validate(sharing)
    with pytest.raises(ConfigError) as caught:
        options.build(list(TASKS), layers)
    message = str(caught.value)
    assert "\n" not in message
    return message


def complaint_of_the_check(sharing: dict[str, Any]) -> str:
    """Return what is said of a mistake that shows without the encoder."""
    rows = {"train": [{"text": "a", "label": None}]}
    with pytest.raises(ConfigError) as caught:
        validate({"encoder": "e", "tasks": {"a": {"type": "classification", "data": rows}}, "sharing": sharing})
    message = str(caught.value)
    assert "\n" not in message
    return message


# The three forms


@pytest.mark.parametrize("shared", range(LAYERS + 1))
def test_shared_layers_say_the_same_as_branches_and_as_a_table(shared: int) -> None:
    plan = plan_of(shared_layers=shared)
    assert plan.trunks == (frozenset(TASKS),)
    assert [len(level) for level in plan.levels[1:]] == [1] * shared + [4] * (LAYERS - shared)
    if shared < LAYERS:
        assert plan == plan_of(branches=[{"from_layer": shared + 1, "groups": OWN}])
    table = {f"1-{shared}": TRUNK} if shared else {}
    assert plan == plan_of(layers=table | ({f"{shared + 1}-{LAYERS}": OWN} if shared < LAYERS else {}))
    assert (plan == global_plan(TASKS, LAYERS)) == (shared == LAYERS)


def test_stacked_branches_may_stand_in_any_order() -> None:
    low = {"from_layer": 3, "groups": PAIRS}
    high = {"from_layer": 5, "groups": [["intent"], ["entities"], ["topic", "sentiment"]]}
    plan = plan_of(branches=[low, high])
    assert plan == plan_of(branches=[high, low])
    assert plan == plan_of(layers={"5-6": high["groups"], "3-4": low["groups"], "embeddings": TRUNK, "1-2": TRUNK})
    assert plan.picture() == (
        "layer 5-6  [sentiment, topic] [entities] [intent]\n"
        "layer 3-4  [sentiment, topic] [entities,  intent]\n"
        "layer 1-2  [sentiment, topic,  entities,  intent]"
    )  # fmt: skip


def test_a_table_may_divide_the_embeddings() -> None:
    plan = plan_of(layers={"embeddings": PAIRS, "1-5": PAIRS, "6": OWN})
    assert plan.trunks == tuple(frozenset(group) for group in PAIRS)
    assert plan_of(layers={"embeddings": OWN, f"1-{LAYERS}": OWN}) == independent_plan(TASKS, LAYERS)


@st.composite
def trees(draw: st.DrawFn) -> Plan:
    """Trees over shared embeddings, of at least one layer."""
    plan = global_plan("abcd", draw(st.integers(1, 5)))
    for _ in range(draw(st.integers(0, 4))):
        level = draw(st.integers(1, plan.layers))
        part = sorted(draw(st.sampled_from(plan.levels[level])))
        if len(part) > 1:
            group = draw(st.lists(st.sampled_from(part), unique=True, min_size=1, max_size=len(part) - 1))
            plan = plan.split(level, group)
    return plan


@given(trees(), st.randoms(use_true_random=False))
def test_branches_and_tables_can_say_every_tree_over_shared_embeddings(plan: Plan, random: Any) -> None:
    groups = [[sorted(part) for part in level] for level in plan.levels]
    branches = [{"from_layer": n, "groups": groups[n]} for n in range(1, plan.layers + 1) if groups[n] != groups[n - 1]]
    random.shuffle(branches)
    table = {str(number): groups[number] for number in random.sample(range(1, plan.layers + 1), plan.layers)}
    if branches:
        assert plan_of("abcd", plan.layers, branches=branches) == plan
    assert plan_of("abcd", plan.layers, layers=table) == plan


# Mistakes that show once the encoder and the tasks are known


def branch(layer: int, groups: Any) -> dict[str, Any]:
    return {
        "strategy": "partial",
        "branches": [{"from_layer": 2, "groups": PAIRS}, {"from_layer": layer, "groups": groups}],
    }


def table(**lines: Any) -> dict[str, Any]:
    return {
        "strategy": "partial",
        "layers": {key.strip("_").replace("_", "-"): groups for key, groups in lines.items()},
    }


OTHER_PAIRS = [["sentiment", "entities"], ["topic", "intent"]]
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "branches that are no tree": (
        branch(4, OTHER_PAIRS),
        "sharing.branches[1].groups: entities, sentiment share weights above a layer that separates them; separated "
        "tasks cannot be joined again",
    ),
    "a table that is no tree": (
        table(embeddings=PAIRS, _1_4=PAIRS, _5_6=TRUNK),
        "sharing.layers: layer 5: entities, intent, sentiment, topic share weights above a layer that separates them*",
    ),
    "an unknown task": (
        branch(4, [["sentiment"], ["topik", "entities", "intent"]]),
        "sharing.branches[1].groups: found the task 'topik'; accepted: entities, intent, sentiment, topic; did you "
        "mean 'topic'?",
    ),
    "an unknown task in a table": (
        table(_1_6=[["sentiment", "topic", "entity", "intent"]]),
        "sharing.layers.1-6: found the task 'entity'; accepted: entities, intent, sentiment, topic; did you mean "
        "'entities'?",
    ),
    "a layer above the encoder": (
        branch(7, OWN),
        "sharing.branches[1].from_layer: found layer 7; the encoder has 6 layers, accepted: 1 to 6",
    ),
    "a layer above the encoder in a table": (
        table(_1_7=TRUNK),
        "sharing.layers.1-7: found layer 7; the encoder has 6 layers, accepted: 1 to 6",
    ),
    "layer 0": (
        table(_0=TRUNK, _1_6=TRUNK),
        "sharing.layers.0: found layer 0; the encoder has 6 layers, accepted: 1 to 6",
    ),
    "more shared layers than there are": (
        {"strategy": "partial", "shared_layers": 7},
        "sharing.shared_layers: found layer 7; the encoder has 6 layers, accepted: 0 to 6",
    ),
    "a task left out": (
        branch(4, [["sentiment"], ["topic"]]),
        "sharing.branches[1].groups: entities, intent missing; every task has to be in one group",
    ),
    "no groups": (
        table(_1_6=[]),
        "sharing.layers.1-6: sentiment, topic, entities, intent missing; every task has to be in one group",
    ),
    "a task twice": (
        branch(4, [["sentiment", "topic"], ["topic", "entities", "intent"]]),
        "sharing.branches[1].groups: 'topic' is listed twice; a task has to be in one group",
    ),
    "a task twice in one group": (
        table(_1_6=[["sentiment", "sentiment", "topic", "entities", "intent"]]),
        "sharing.layers.1-6: 'sentiment' is listed twice; a task has to be in one group",
    ),
    "an empty group": (
        branch(4, [*PAIRS, []]),
        "sharing.branches[1].groups: found an empty group; leave it out",
    ),
    "two branches at one layer": (
        branch(2, OWN),
        "sharing.branches[1].from_layer: layer 2 is already split by sharing.branches[0]",
    ),
    "a layer without a line": (
        table(_1_2=TRUNK, _5=OWN),
        "sharing.layers: layers without an entry: 3, 4, 6; the encoder has 6 layers",
    ),
    "a layer twice": (
        table(_1_4=TRUNK, _4_6=OWN),
        "sharing.layers.4-6: layer 4 is listed twice",
    ),
    "a bad key": (
        table(top=OWN),
        "sharing.layers.top: found 'top'; expected a layer (4), a range (1-4), or embeddings",
    ),
    "a negative layer": (
        {"strategy": "partial", "layers": {"-1": OWN}},
        "sharing.layers.-1: found '-1'; expected a layer (4), a range (1-4), or embeddings",
    ),
    "a reversed range": (
        table(_4_1=TRUNK),
        "sharing.layers.4-1: the range ends before it begins",
    ),
    "a mistake in the starting plan": (
        {"strategy": "adaptive", "start": branch(7, OWN)},
        "sharing.start.branches[1].from_layer: found layer 7; the encoder has 6 layers, accepted: 1 to 6",
    ),
    "a head of an unknown task": (
        {"strategy": "global", "share_heads": [["sentiment", "topik"]]},
        "sharing.share_heads[0]: found the task 'topik'; accepted: entities, intent, sentiment, topic; did you mean "
        "'topic'?",
    ),
    "a task with two heads": (
        {"strategy": "mmoe", "share_heads": [["sentiment", "topic"], ["intent", "topic"]]},
        "sharing.share_heads[1]: 'topic' is listed twice; a task has one head",
    ),
    "a head for the same task twice": (
        {"strategy": "independent", "share_heads": [["topic", "topic"]]},
        "sharing.share_heads[0]: 'topic' is listed twice; a task has one head",
    ),
    "a head for one task": (
        {"strategy": "adaptive", "share_heads": [["sentiment", "topic"], ["intent"]]},
        "sharing.share_heads[1]: found 1 task; expected two or more tasks that share a head",
    ),
    "a head for nobody": (
        {"strategy": "partial", "shared_layers": 1, "share_heads": [[]]},
        "sharing.share_heads[0]: found 0 task*",
    ),
    "a mixture above the encoder": (
        {"strategy": "ple", "from_layer": 7},
        "sharing.from_layer: found layer 7; the encoder has 6 layers, accepted: 1 to 6",
    ),
    "a mixture of nothing": (
        {"strategy": "ple", "shared_experts": 0, "task_experts": 0},
        "sharing: found no shared_experts and no task_experts; a gate needs at least one expert",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_in_what_is_shared_names_place_and_mend(name: str) -> None:
    sharing, message = REFUSED[name]
    assert re.fullmatch(re.escape(message).replace(r"\*", ".*"), complaint(sharing))


def test_the_number_of_layers_is_the_encoders_own() -> None:
    assert "the encoder has 2 layers, accepted: 1 to 2" in complaint(branch(4, OWN), layers=2)
    assert "layers without an entry: 7, 8; the encoder has 8 layers" in complaint(table(_1_6=TRUNK), layers=8)


# Mistakes that show without the encoder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "found none; expected one of shared_layers, branches, layers"),
        ({"shared_layers": None}, "found none; expected one of shared_layers, branches, layers"),
        (
            {"shared_layers": 1, "branches": [{"from_layer": 2, "groups": [["a"]]}]},
            "found shared_layers and branches; expected one of shared_layers, branches, layers",
        ),
        ({"shared_layers": 0, "layers": {"1": [["a"]]}}, "found shared_layers and layers; expected one of *"),
    ],
)
def test_exactly_one_form_is_given(options: dict[str, Any], message: str) -> None:
    found = complaint_of_the_check({"strategy": "partial", **options})
    assert found.startswith("config: sharing: " + message.rstrip("*"))


# Every option that a kind reads, and those that read it.
READERS = {
    "rank": (4, "lora and adapter"),
    "alpha": (8.0, "lora"),
    "targets": (["query"], "lora and adapter"),
    "base": ("frozen", "lora and adapter"),
    "strength": (0.5, "soft"),
}


@pytest.mark.parametrize("option", READERS)
@pytest.mark.parametrize("kind", [None, "copy", "soft", "lora", "adapter"])
def test_options_that_the_kind_does_not_read_are_refused(option: str, kind: str | None) -> None:
    value, readers = READERS[option]
    sharing = {"strategy": "independent", option: value, **({} if kind is None else {"kind": kind})}
    if kind in readers.split(" and "):
        SHARING["independent"].model_validate(sharing)
    else:
        expected = f"found {option!r} with kind {kind or 'copy'!r}; only {readers} use it"
        assert complaint_of_the_check(sharing) == f"config: sharing: {expected}"


def test_kind_and_heads_of_an_adaptive_run_do_not_stand_in_its_starting_plan() -> None:
    for option in ({"kind": "lora"}, {"share_heads": [["a", "b"]]}):
        start = {"strategy": "independent", **option}
        found = complaint_of_the_check({"strategy": "adaptive", "start": start})
        assert found.startswith(f"config: sharing.start: found {next(iter(option))!r} in the starting plan; put it")
    found = complaint_of_the_check({"strategy": "adaptive", "kind": "lora", "base": "frozen"})
    assert found == "config: sharing: found base 'frozen'; a layer that is not trained has no gradient to measure"


# What the parts' weights are


def test_additions_leave_the_embeddings_shared() -> None:
    for kind in ("lora", "adapter"):
        sharing = SHARING["independent"].model_validate({"strategy": "independent", "kind": kind}).build("ab", 2)
        assert sharing.plan.levels == (parts("ab"), parts("a", "b"), parts("a", "b"))
        assert sharing.kind.shares_layer
    assert SHARING["independent"].model_validate({"strategy": "independent"}).build("ab", 2).plan.trunks == parts(
        "a", "b"
    )


def test_options_of_the_kind_reach_the_parts() -> None:
    options = {"strategy": "partial", "shared_layers": 1, "kind": "lora", "rank": 4, "alpha": 2, "targets": ["query"]}
    kind = SHARING["partial"].model_validate({**options, "base": "frozen"}).build("ab", 2).kind
    assert (kind.name, kind.rank, kind.alpha, kind.targets, kind.frozen) == ("lora", 4, 2.0, ("query",), True)
    soft = SHARING["partial"].model_validate(
        {"strategy": "partial", "shared_layers": 1, "kind": "soft", "strength": 0.5}
    )
    assert soft.build("ab", 2).kind.strength == 0.5
