"""Composes the model to ship from the best joint model, the steps of the ladder, and the single models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from polytask.artifact.bundle import Bundle
from polytask.artifact.composition import join
from polytask.artifact.description import model_folder
from polytask.artifact.folder import load_bundle
from polytask.artifact.pruning import pruned
from polytask.errors import ConfigError
from polytask.model.parameters import count_parameters
from polytask.search.combination import EXACT, Base, Combination, Combiner, Cost
from polytask.search.ladder import Ladder, LadderStep, Standing, worst_first


@dataclass(frozen=True)
class ModelPart:
    """A model that some of the shipped tasks come from.

    Attributes:
        folder: folder of its run.
        tasks: names of the tasks that are taken from it.
    """

    folder: Path
    tasks: tuple[str, ...]

    def load(self) -> Bundle:
        """Return the model with only these tasks and those that they read."""
        bundle = load_bundle(model_folder(self.folder))
        tasks = list(self.tasks)
        for task in tasks:  # grows, since what is read may read others
            tasks += [other for other in bundle.tasks[task].options.reads if other not in tasks]
        return bundle if set(tasks) == set(bundle.tasks) else pruned(bundle, tasks)


def composed_of(parts: Sequence[ModelPart]) -> Bundle:
    """Return one model with the tasks of all parts.

    Tasks that are read, which are frozen while others get layers of their own, have equal weights in all parts.
    """
    bundles = [part.load() for part in parts]
    return join(bundles) if len(bundles) > 1 else bundles[0]


@dataclass(frozen=True)
class Lift:
    """Chooses among the steps that a ladder has tried.

    Attributes:
        singles: run of each task's single model.
        costs: what the single model of each task adds to a model, and the cost of all of them without a joint one.
        floor: allowed loss of a task in the unit of its metric.
    """

    ladder: Ladder
    singles: Mapping[str, Path]
    costs: tuple[Mapping[str, Cost], Cost]
    floor: float

    @cached_property
    def _combiner(self) -> Combiner:
        each, apart = self.costs
        return Combiner(self.ladder.limits, each, apart, self.floor)

    def choose(self, standings: Mapping[str, Standing], steps: Sequence[LadderStep]) -> Combination:
        """Return the best combination whose model is within the limits.

        Args:
            standings: comparison of each task of the winner with its single model.
            steps: steps that were tried.
        """
        bases = [self._base(self.ladder.base, standings, steps)]
        for step in steps:
            if step.name == "branch" and step.run is not None and step.standing is not None:
                bases.append(self._base(step.run, {**step.others, step.task: step.standing}))
        best: Combination | None = None
        for combination in self._combiner.best_first(bases):
            if best is not None and combination.key >= best.key:
                break
            found = self._measured(combination)
            if found is not None and (best is None or found.key < best.key):
                best = found
        assert best is not None, "the joint model as it is always is a combination"
        return best

    def _measured(self, combination: Combination) -> Combination | None:
        """Return a combination with the cost of its model; None if that is beyond the limits."""
        if not combination.taken and not combination.grafted:
            return combination
        cost = self._cost(composed_of(self.parts(combination)))
        return None if self.ladder.limits.refuse(cost.size, cost.passes) else replace(combination, cost=cost)

    def parts(self, combination: Combination) -> list[ModelPart]:
        """Return the models that a combination is composed of."""
        taken, gone = combination.taken, {*combination.taken, *combination.grafted}
        rest = tuple(task for task in combination.base.standings if task not in gone)
        # The first step's model also provides the other tasks, whose weights are those of the base.
        parts = [ModelPart(step.run, (task,)) for task, step in taken.items() if step.run is not None]
        if parts:
            parts[0] = replace(parts[0], tasks=(*rest, *parts[0].tasks))
        elif rest:
            parts = [ModelPart(combination.base.folder, rest)]
        return [*parts, *(ModelPart(self.singles[task], (task,)) for task in combination.grafted)]

    def told(self, chosen: Combination, steps: Sequence[LadderStep]) -> list[LadderStep]:
        """Return the steps, marked with what became of them, and the single models that were taken or forbidden."""
        return [*(replace(step, kept_for=self._kept_for(step, chosen)) for step in steps), *self._grafts(chosen)]

    def _kept_for(self, step: LadderStep, chosen: Combination) -> tuple[str, ...]:
        """Return the tasks that a combination takes from a step."""
        if step.run is not None and step.run == chosen.base.folder:  # a branch, which trained all tasks
            return tuple(task for task in chosen.base.standings if task not in chosen.grafted)
        return (step.task,) if step is chosen.taken.get(step.task) else ()

    def _grafts(self, chosen: Combination) -> Iterator[LadderStep]:
        now = chosen.cost
        for task in chosen.grafted:
            yield LadderStep(task, "graft", None, EXACT, now.size, now.passes, lifts=True, kept_for=(task,))
        for task in chosen.losses:
            needed = self._combiner.with_graft(chosen, task).cost
            needs = self.ladder.limits.refuse(needed.size, needed.passes)
            why = f"it would need {needs}" if needs else "no better combination with it was found"
            if task not in chosen.base.own:
                why, needs = "another task reads its predictions", ""
            yield LadderStep(task, "graft", None, None, needed.size, needed.passes, why=why, needs=needs)

    def _base(self, folder: Path, standings: Mapping[str, Standing], steps: Sequence[LadderStep] = ()) -> Base:
        bundle = load_bundle(model_folder(folder))
        cost, own = self._cost(bundle), dict[str, Cost]()
        for task in worst_first(standings, self.ladder.limits.certainty):
            others = [name for name in bundle.tasks if name != task]
            try:
                own[task] = cost - self._cost(pruned(bundle, others)) if others else cost
            except ConfigError:  # another task reads this one
                continue
        tried = {task: [step for step in steps if step.task == task and step.name != "branch"] for task in standings}
        return Base(folder, cost, standings, own, tried)

    def _cost(self, bundle: Bundle) -> Cost:
        return Cost(count_parameters(bundle.model).total / self.ladder.shared, bundle.model.passes())
