"""Where new tasks stand in the plan of a trained model."""

from __future__ import annotations

from typing import Any

import pytest

from polytask.errors import ConfigError
from polytask.sharing import SHARING, Sharing
from polytask.sharing.growth import ExtendOptions, grow


def sharing(**values: Any) -> Sharing:
    return SHARING[values["strategy"]].model_validate(values).build(["a", "b", "c"], 4)


def grown(old: Sharing, *new: str, **options: Any) -> list[str]:
    """Draw the plan, without commas and what aligns the drawing."""
    picture = grow(old, new, ExtendOptions.model_validate(options)).plan.picture()
    return [" ".join(line.replace(",", " ").split()) for line in picture.splitlines()]


TREE = sharing(
    strategy="partial",
    branches=[{"from_layer": 2, "groups": [["a", "b"], ["c"]]}, {"from_layer": 4, "groups": [["a"], ["b"], ["c"]]}],
)


def test_by_default_new_tasks_have_heads_only() -> None:
    assert grown(sharing(strategy="global"), "d") == ["layer 1-4 [a b c d]"]
    assert grown(TREE, "d", follow="b") == [
        "layer 4 [a] [b d] [c]",
        "layer 2-3 [a b d] [c]",
        "layer 1 [a b d c]",
    ]


def test_own_layers_begin_above_the_shared_ones_and_new_tasks_share_them() -> None:
    assert grown(sharing(strategy="global"), "d", "e", shared_layers=3) == [
        "layer 4 [a b c] [d e]",
        "layer 1-3 [a b c d e]",
    ]
    assert grown(TREE, "d", follow="c", shared_layers=2) == [
        "layer 4 [a] [b] [c] [d]",
        "layer 3 [a b] [c] [d]",
        "layer 2 [a b] [c d]",
        "layer 1 [a b c d]",
    ]


def test_old_tasks_keep_their_plan_and_parts_their_order() -> None:
    for options in ({}, {"shared_layers": 0}, {"shared_layers": 3}, {"shared_layers": 4}):
        for task in "abc":
            growth = grow(TREE, ["d"], ExtendOptions.model_validate({"follow": task, **options}))
            for plan in (growth.joined.plan, growth.plan):
                assert plan.within("abc") == TREE.plan
            for level, before in zip(growth.joined.plan.levels, TREE.plan.levels, strict=True):
                assert [part - {"d"} for part in level] == list(before)
    assert growth.joined.heads == TREE.heads


def test_the_kind_is_chosen_where_the_model_has_no_parts_yet() -> None:
    options = ExtendOptions.model_validate({"shared_layers": 1, "kind": "lora", "rank": 3, "targets": ["query"]})
    kind = grow(sharing(strategy="global"), ["d"], options).joined.kind
    assert (kind.name, kind.rank, kind.targets) == ("lora", 3, ("query",))
    with pytest.raises(ConfigError, match=r"extend.kind: found lora, but the parts of the model's layers have copy"):
        grow(TREE, ["d"], options.model_copy(update={"follow": "a"}))
    low = sharing(strategy="partial", shared_layers=1, kind="lora", rank=4)
    same = ExtendOptions.model_validate({"shared_layers": 1, "kind": "lora", "rank": 4, "follow": "a"})
    assert grow(low, ["d"], same).joined.kind == low.kind
    with pytest.raises(ConfigError, match=r"extend.rank: found 5, .* have 4; .* leave rank out"):
        grow(low, ["d"], same.model_copy(update={"rank": 5}))
