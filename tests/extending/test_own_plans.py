"""The plan of a user's own sharing strategy is checked against the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import polytask
from polytask.errors import ConfigError
from polytask.sharing import SHARING
from polytask.sharing.plan import Plan
from polytask.sharing.sharing import TreeOptions

Job = Callable[..., dict[str, Any]]
PLANS: dict[str, tuple[Callable[[tuple[str, ...], int], Any], str]] = {
    "unknown": (
        lambda tasks, layers: Plan(tasks, (*[(frozenset(tasks),)] * layers, (frozenset({"toppic"}), frozenset(tasks)))),
        "is no tree of the tasks: layer 2: the parts hold .*'toppic'.*has to be in one part",
    ),
    "joined": (
        lambda tasks, layers: Plan(
            tasks, (tuple(frozenset({task}) for task in tasks), *[(frozenset(tasks),)] * layers)
        ),
        "is no tree of the tasks: .*separated tasks cannot be joined again",
    ),
    "fewer": (
        lambda tasks, layers: Plan(tasks[:2], ((frozenset(tasks[:2]),),) * (layers + 1)),
        "has the tasks sentiment, topic; expected those of the run: sentiment, topic, entities",
    ),
    "lower": (
        lambda tasks, layers: Plan(tasks, ((frozenset(tasks),),) * layers),
        "has 1 layers; the encoder has 2, so 3 levels are expected",
    ),
    "none": (lambda tasks, layers: None, "is None; expected a Plan"),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_that_does_not_fit_the_run_is_told_with_its_strategy(name: str, job: Job) -> None:
    make, told = PLANS[name]

    class OwnOptions(TreeOptions):
        def plan(self, tasks: Any, layers: int) -> Any:
            return make(tuple(tasks), layers)

    SHARING.register("own", OwnOptions)
    try:
        with pytest.raises(ConfigError, match=f"sharing.strategy: .*'own'.*{told}"):
            polytask.check({**job(rows=24), "sharing": {"strategy": "own"}})
    finally:
        SHARING.remove("own")
