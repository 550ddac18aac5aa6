"""The choice among steps of the ladder: the combination within the limits that leaves the worst task best.

Steps that keep the shared weights can be combined freely (`polytask.artifact.composition`). One that lifts a single
task may use up what several others need, so all of them are chosen together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from pathlib import Path

from polytask.search.ladder import LadderStep, ModelLimits, Standing, worst_first

# Number of partial combinations that are followed at the same time.
_FOLLOWED = 200
EXACT = Standing(0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Cost:
    """Cost of a model, or of a part of it, relative to one shared encoder."""

    size: float = 0.0
    passes: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.size + other.size, self.passes + other.passes)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.size - other.size, self.passes - other.passes)


@dataclass(frozen=True)
class Base:
    """A joint model with all tasks, which steps and single models are added to.

    Attributes:
        folder: its run.
        standings: comparison of each task with its single model.
        own: cost of what a task has alone, and what is saved if its single model replaces it; a task that others read
            is missing.
        steps: steps that were tried on its frozen weights, by task.
    """

    folder: Path
    cost: Cost
    standings: Mapping[str, Standing]
    own: Mapping[str, Cost]
    steps: Mapping[str, Sequence[LadderStep]] = field(default_factory=dict[str, Sequence[LadderStep]])


@dataclass(frozen=True)
class Combination:
    """What becomes of each task.

    Attributes:
        taken: steps that were trained, by task.
        grafted: tasks that are answered by their single models.
        cost: cost of the model, or an upper bound of it.
        losses: by how much each of the other tasks is below the floor, in the unit of its metric; without those that
            are certainly above it.
    """

    base: Base
    cost: Cost
    taken: Mapping[str, LadderStep] = field(default_factory=dict[str, LadderStep])
    grafted: tuple[str, ...] = ()
    losses: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def key(self) -> tuple[float, float, int, float, float, float, float]:
        """Sort key, the best first: the worst loss, all losses, the tasks that are not lifted, passes, size, gain.

        Sizes are compared to a tenth of an encoder, then the gain over all tasks, then the exact size.
        """
        losses = self.losses.values()
        worst, total = max(losses, default=0.0), sum(losses)
        gain = sum(now.delta or 0.0 for now in self.standings.values())
        size = self.cost.size
        passes = round(self.cost.passes, 9)
        return round(worst, 9), round(total, 9), len(losses), passes, round(size, 1), round(-gain, 9), round(size, 9)

    @property
    def standings(self) -> dict[str, Standing]:
        """Comparison of each task with its single model."""
        lifted = {task: step.standing for task, step in self.taken.items() if step.standing is not None}
        return {**self.base.standings, **lifted, **dict.fromkeys(self.grafted, EXACT)}


@dataclass(frozen=True)
class Combiner:
    """Finds combinations.

    Attributes:
        singles: cost of adding the single model of a task to a model.
        apart: cost of the single models of all tasks without a joint one.
        floor: allowed loss of a task in the unit of its metric.
    """

    limits: ModelLimits
    singles: Mapping[str, Cost]
    apart: Cost
    floor: float

    def best_first(self, bases: Sequence[Base]) -> Iterator[Combination]:
        """Yield combinations within the limits, the best first; what a base is without any step is always one."""
        found = [combination for base in bases for combination in self._on(base)]
        yield from sorted(found, key=lambda combination: combination.key)

    def with_graft(self, combination: Combination, task: str) -> Combination:
        """Return the combination with the single model of one more task, whatever the limits."""
        base, step = combination.base, combination.taken.get(task)
        saved = base.own.get(task, Cost()) if step is None else _added(base, step) + base.own.get(task, Cost())
        grafted = (*combination.grafted, task)
        whole = len(grafted) == len(base.standings)
        return replace(
            combination,
            cost=self.apart if whole else combination.cost - saved + self.singles[task],
            taken={name: one for name, one in combination.taken.items() if name != task},
            grafted=grafted,
            losses={name: loss for name, loss in combination.losses.items() if name != task},
        )

    def _on(self, base: Base) -> list[Combination]:
        below = worst_first(base.standings, self.limits.certainty)
        start = Combination(base, base.cost, losses={task: self._loss(base.standings[task]) for task in below})
        found = [start]
        for task in below:
            longer = [other for one in found for other in self._with(one, task)]
            found = nsmallest(_FOLLOWED, (one for one in longer if self._fits(one)), key=lambda one: one.key)
            if start not in found:
                found.append(start)
        if len(below) == len(base.standings):
            every = replace(start, cost=self.apart, grafted=tuple(below), losses={})
            found += [every] if self._fits(every) else []
        return found

    def _with(self, one: Combination, task: str) -> Iterator[Combination]:
        """Yield a combination with everything that may become of one more task."""
        yield one
        for step in one.base.steps.get(task, ()):
            if step.run is None or step.standing is None or not _is_better(step, one.base.standings[task]):
                continue
            if any(other.kind != step.kind for other in one.taken.values()):
                continue  # all parts of a trunk are of the same kind
            losses = {name: loss for name, loss in one.losses.items() if name != task}
            if not step.lifts:
                losses[task] = self._loss(step.standing)
            taken = {**one.taken, task: step}
            yield replace(one, cost=one.cost + _added(one.base, step), taken=taken, losses=losses)
        if task in one.base.own and len(one.grafted) + 1 < len(one.base.standings):
            yield self.with_graft(one, task)

    def _fits(self, one: Combination) -> bool:
        return not self.limits.refuse(one.cost.size, one.cost.passes) or not (one.taken or one.grafted)

    def _loss(self, standing: Standing) -> float:
        return math.inf if standing.delta is None else max(0.0, -self.floor - standing.delta)


def _added(base: Base, step: LadderStep) -> Cost:
    return Cost(step.size, step.passes) - base.cost


def _is_better(step: LadderStep, now: Standing) -> bool:
    if step.standing is None or step.standing.delta is None:
        return False
    return step.lifts or now.delta is None or step.standing.delta > now.delta
