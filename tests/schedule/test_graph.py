"""The graph of needs: waves are topological, and what is wrong is named."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.errors import ConfigError
from polytask.schedule import waves


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Tasks that need tasks before them in a hidden order."""
    names = draw(st.permutations([f"t{number}" for number in range(draw(st.integers(1, 7)))]))
    needs = {
        name: draw(st.lists(st.sampled_from(names[:at]), max_size=3)) if at else [] for at, name in enumerate(names)
    }
    return {name: needs[name] for name in draw(st.permutations(names))}


@settings(max_examples=50, deadline=None)
@given(graphs())
def test_waves_are_topological_and_as_early_as_can_be(needs: dict[str, list[str]]) -> None:
    found = waves(needs)
    wave_of = {task: number for number, wave in enumerate(found) for task in wave}
    assert sorted(task for wave in found for task in wave) == sorted(needs)
    for task, needed in needs.items():
        assert wave_of[task] == max((wave_of[name] + 1 for name in needed), default=0)
    order = list(needs)
    assert all(wave == sorted(wave, key=order.index) for wave in found)


@settings(max_examples=50, deadline=None)
@given(graphs(), st.data())
def test_a_cycle_is_named(needs: dict[str, list[str]], data: st.DataObject) -> None:
    """Closing any chain of needs makes an error that shows a chain of needs coming back to its start."""
    task = data.draw(st.sampled_from(list(needs)))
    bottom = task
    while needs[bottom]:
        bottom = needs[bottom][0]
    closed = {**needs, bottom: [task]}
    with pytest.raises(ConfigError) as caught:
        waves(closed)
    shown = re.search(r"needs form a cycle: (.+) \(each task needs the next one\); leave out one", str(caught.value))
    assert shown
    cycle = shown[1].split(" -> ")
    assert cycle[0] == cycle[-1]
    assert all(after in closed[before] for before, after in itertools.pairwise(cycle))


def test_a_task_that_needs_itself_is_a_cycle() -> None:
    with pytest.raises(ConfigError, match="a -> a"):
        waves({"a": ["a"], "b": []})


def test_unknown_needs_name_the_nearest_task() -> None:
    with pytest.raises(
        ConfigError, match=r"^tasks\.slots\.needs: found 'intend'; accepted: .*did you mean 'intent'\?$"
    ):
        waves({"intent": [], "slots": ["intend"]})
