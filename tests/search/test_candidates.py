"""Candidates are configurations that can be trained, each once, the configuration's own first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.config import Config, validate
from polytask.search.candidates import candidates, supported
from polytask.search.rating import advantage, rate

SIZES = {"a": 2000, "b": 500, "c": 1900}


def config(**sections: Any) -> Config:
    data = {"train": [{"text": "x", "label": "y"}], "dev": 0.5}
    tasks = {name: {"type": "classification", "data": data, "label": "label"} for name in SIZES}
    return validate({"encoder": "e", "tasks": tasks, **sections}, base=Path())


def names(found: Config, **options: Any) -> list[str]:
    return [one.name for one in candidates(found, 6, SIZES, **options)]


def test_without_options_the_plain_ways_come_first() -> None:
    assert names(config()) == [
        "global", "partial_4", "partial_3", "by_size", "global_sum", "global_aligned_mtl", "global_uniform",
    ]  # fmt: skip


def test_what_the_configuration_says_is_the_first_candidate() -> None:
    assert names(config(sharing={"strategy": "partial", "shared_layers": 2}))[:2] == ["config", "global"]
    # The same by another name is one candidate.
    assert names(config(sharing={"strategy": "global"}))[:2] == ["config", "partial_4"]


def test_measured_groups_are_a_candidate_where_they_divide_some() -> None:
    assert "groups" in names(config(), groups=[["a", "b"], ["c"]])
    assert "groups" not in names(config(), groups=[["a", "b", "c"]])
    assert "groups" not in names(config(), groups=[["a"], ["b"], ["c"]])


def test_tasks_that_share_a_head_are_tried_with_heads_of_their_own() -> None:
    shared = config(sharing={"strategy": "global", "share_heads": [["a", "b", "c"]]})
    found = {one.name: one.config(shared, {}).sharing for one in candidates(shared, 6, SIZES, [["a", "b"], ["c"]])}
    assert list(found)[:3] == ["config", "own_heads", "partial_4"]
    assert found["own_heads"].share_heads == ()
    assert found["partial_4"].share_heads == (("a", "b", "c"),)
    # Groups share no head with one another.
    assert found["groups"].share_heads == (("a", "b"),)
    assert "own_heads" not in names(config())


def test_every_candidate_is_a_valid_configuration_with_its_changes() -> None:
    base = config(sharing={"strategy": "partial", "shared_layers": 2}, train={"seed": 3})
    for one in candidates(base, 6, SIZES, [["a", "b"], ["c"]]):
        made = one.config(base, {"epochs": 0.25})
        assert made.train.epochs == 0.25
        assert made.train.seed == 3
        assert list(made.tasks) == list(SIZES)
        for section, options in one.changes.items():
            for key, value in options.items():
                found = getattr(getattr(made, section), key)
                assert found == value or key == "branches"


def test_equal_sizes_support_nobody() -> None:
    assert supported({"a": 100, "b": 90}) == [["a"], ["b"]]


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=6))
def test_every_task_stands_in_one_group(rows: list[int]) -> None:
    sizes = {f"t{number}": count for number, count in enumerate(rows)}
    groups = supported(sizes)
    assert sorted(task for group in groups for task in group) == sorted(sizes)


METRICS = {"a": "f1", "b": "mae"}


def test_a_loss_within_the_floor_is_none_and_the_mean_decides() -> None:
    singles = {"a": 0.5, "b": 1.0}
    safe = rate({"a": 0.496, "b": 0.9}, singles, METRICS, 0.5)
    gains = rate({"a": 0.6, "b": 1.1}, singles, METRICS, 0.5)
    assert safe.worst == pytest.approx(-0.004)
    assert gains.worst == pytest.approx(-0.1)  # a greater error is worse
    assert safe.key > gains.key
    better = rate({"a": 0.496, "b": 0.8}, singles, METRICS, 0.5)
    assert better.key > safe.key


def test_what_was_not_learned_counts_as_nothing() -> None:
    assert advantage(None, 0.4, "f1") == pytest.approx(-0.4)
    assert advantage(None, 0.4, "mae") == float("-inf")
    assert advantage(0.4, None, "mae") == float("inf")
    assert advantage(None, None, "mae") == 0
