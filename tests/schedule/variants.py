"""Every schedule under every set of options, runs of every shape, and what training tells them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polytask.schedule import SCHEDULES, Schedule, Step, Workload
from polytask.schedule.proportions import PROPORTIONS, MixingParams
from polytask.tasks.gate import GateOptions
from polytask.terms import Stratum
from polytask.testing import EVALUATE_EVERY, evaluation, loss, play, score

__all__ = ["EVALUATE_EVERY", "evaluation", "loss", "play", "score"]


@dataclass(frozen=True)
class Variant:
    """A schedule with options; `numbers` stands for proportions that give each task of the run a number."""

    strategy: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        return "-".join([self.strategy, *(str(value) for value in self.options.values())])

    def values(self, workload: Workload) -> dict[str, Any]:
        """Return the options as a configuration gives them for a run."""
        values = {"strategy": self.strategy, **self.options}
        if values.get("proportions") == "numbers":
            values["proportions"] = {task: 0.5 + place for place, task in enumerate(workload.sizes)}
        if values.get("policy") == "dev_gap":
            values.setdefault("targets", dict.fromkeys(workload.sizes, 0.8))
        return values

    def build(self, workload: Workload) -> Any:
        """Return a new schedule for a run."""
        return SCHEDULES[self.strategy].model_validate(self.values(workload)).build(workload)  # type: ignore[arg-type]


def promised(variant: Variant, run: Workload, progress: float = 0.0) -> dict[str, float]:
    """Return the shares that a variant's proportions promise at a point of the run."""
    values = variant.values(run)
    way = values["proportions"]
    if isinstance(way, dict):
        return way
    if way == "auto":
        unequal = max(run.sizes.values()) > 2 * min(run.sizes.values())
        way = "temperature" if unequal and not any(run.needs.values()) else "proportional"
    return PROPORTIONS[way](
        run.sizes, MixingParams(values.get("temperature", 2.0), values.get("cap", 10_000), progress)
    )


PARALLEL = [
    Variant("parallel", {"proportions": "uniform"}),
    Variant("parallel", {"proportions": "proportional"}),
    Variant("parallel", {"proportions": "temperature", "temperature": 3.0}),
    Variant("parallel", {"proportions": "annealed"}),
    Variant("parallel", {"proportions": "capped", "cap": 25}),
    Variant("parallel", {"proportions": "numbers"}),
    Variant("parallel", {"proportions": "auto"}),
]
DYNAMIC = [
    Variant("dynamic", {"policy": "training_error", "proportions": "uniform"}),
    Variant("dynamic", {"policy": "training_error", "proportions": "proportional", "error_power": 2.0}),
    Variant("dynamic", {"policy": "loss_rate", "proportions": "uniform", "window": 3, "softmax_temperature": 0.1}),
    Variant("dynamic", {"policy": "dev_gap", "proportions": "temperature"}),
    Variant("dynamic", {"policy": "bandit", "proportions": "numbers", "window": 2}),
    Variant("dynamic", {"policy": "stop_and_go", "proportions": "annealed", "patience": 1}),
    Variant("dynamic", {"policy": "stop_and_go", "proportions": "uniform", "refresh": 5}),
]
SEQUENTIAL = [
    Variant("sequential"),
    Variant("sequential", {"replay": 0.3}),
    Variant("sequential", {"replay": 0.1, "freeze": 2, "restart": False}),
]
VARIANTS = [*PARALLEL, *DYNAMIC, *SEQUENTIAL]


def nested(sizes: Mapping[str, int]) -> tuple[Stratum, ...]:
    """Return the strata of a source in which the rows of a small task are rows of every greater one too."""
    steps = [0, *sorted(set(sizes.values()))]
    found = [
        Stratum(tuple(task for task in sizes if sizes[task] > low), high - low)
        for low, high in itertools.pairwise(steps)
    ]
    return tuple(found)


def with_gaps(*sources: Mapping[str, int], batch_size: int, **rest: Any) -> Workload:
    """Describe a run on sources with empty cells: for each set of tasks, the rows that carry just these labels."""
    tasks = dict.fromkeys(task for source in sources for together in source for task in together)
    strata = tuple(tuple(Stratum(tuple(found), rows) for found, rows in source.items()) for source in sources)
    sizes = {task: sum(one.rows for found in strata for one in found if task in one.tasks) for task in tasks}
    return Workload(sizes, strata, batch_size, metrics=dict.fromkeys(tasks, "f1"), **rest)


def workload(
    sizes: Mapping[str, int],
    batch_size: int,
    *,
    together: Sequence[Sequence[str]] = (),
    needs: Mapping[str, Sequence[str]] | None = None,
    gates: Mapping[str, Mapping[str, Any]] | None = None,
    epochs: float = 3.0,
    metric: str = "f1",
) -> Workload:
    """Describe a run; tasks read rows of their own but for those that are `together`: a small one lacks some rows."""
    grouped = {task: tuple(group) for group in together for task in group}
    groups = dict.fromkeys(grouped.get(task, (task,)) for task in sizes)
    return Workload(
        sizes,
        tuple(nested({task: sizes[task] for task in group}) for group in groups),
        batch_size,
        epochs,
        dict.fromkeys(sizes, metric),
        needs or {},
        {task: GateOptions.model_validate(gate) for task, gate in (gates or {}).items()},
    )


FREE = {
    "one task": workload({"a": 7}, 4),
    "one row": workload({"a": 500, "b": 1}, 8),
    "one row a step": workload({"a": 30, "b": 20, "c": 1}, 1),
    "twins": workload({"a": 40, "b": 40, "c": 90}, 6, together=["ab"]),
    "mixed": workload({"a": 100, "b": 37, "c": 60, "d": 9}, 5, together=["abc"]),
    "many": workload({f"t{n}": 1 + n**3 for n in range(7)}, 16),
    "apart in one file": with_gaps({"a": 100, "b": 100}, batch_size=10),
    "half empty": with_gaps({"a": 30, "b": 29, "c": 31, "ab": 30, "ac": 28, "bc": 1, "abc": 30}, batch_size=8),
    "gaps in two files": with_gaps({"ab": 12, "a": 50}, {"c": 9, "cd": 40, "cde": 3}, {"f": 20}, batch_size=7),
}
CHAIN = {"b": ["a"], "c": ["b"]}
NEEDY = {
    "chain": workload({"a": 40, "b": 12, "c": 30}, 5, needs=CHAIN),
    "chain of twins": workload({"a": 24, "b": 24, "c": 24}, 4, together=["abc"], needs=CHAIN),
    "chain of single rows": workload({"a": 1, "b": 1, "c": 1}, 1, needs=CHAIN, epochs=12),
    "diamond": workload({"top": 9, "left": 30, "right": 20, "last": 25}, 6, epochs=4, needs={
        "left": ["top"], "right": ["top"], "last": ["left", "right"]}),
    "gated": workload({"d": 15, "c": 10, "b": 14, "a": 20}, 4, epochs=8,
        needs={"b": ["a"], "c": ["a", "b"], "d": ["c"]},
        gates={"a": {"score": {"f1": 0.6}, "limit": 1}, "b": {"plateau": 2, "limit": 1.5}, "c": {"epochs": 0.7}}),
    "chain with gaps": with_gaps({"a": 20, "ab": 9, "abc": 12, "c": 7}, batch_size=5, needs=CHAIN),
}  # fmt: skip
WORKLOADS = {**FREE, **NEEDY}


def steps(schedule: Schedule, count: int) -> Iterator[Step]:
    """As `play`, without the changes."""
    return (step for step, _ in play(schedule, count))
