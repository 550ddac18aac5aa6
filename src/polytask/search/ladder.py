"""The ladder: steps that lift tasks which the best joint model leaves below the floor, one after another.

A step gives a task its own parts, which start as what it used before. Every step except the branch keeps the
predictions of all other tasks bit for bit, since their weights are frozen. So the steps of several tasks can be
combined; `polytask.search.combination` chooses among them and the single models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from polytask.artifact.description import model_folder, read_description
from polytask.comparison.arms import single_config
from polytask.comparison.budget import Budget, planned
from polytask.config import Config, validate, values_of
from polytask.crew import interrupted
from polytask.data.cache import key_of
from polytask.errors import ConfigError, Interrupted, TrainingError
from polytask.extension import Mode, assemble_extension, extend
from polytask.model.parameters import count_parameters
from polytask.search.options import AutoOptions
from polytask.search.plans import with_rates

StepName = Literal["lora", "own_third", "own_half", "branch", "graft"]
# Length of a branch's training, as a fraction of a joint training.
BRANCH_SHARE = 0.5
RANK = 8
# Steps that train a single task. Own layers lift more than low-rank parts, and fewer of them take fewer passes
# (docs/auto.md); low-rank parts are smaller.
_OF_ONE_TASK: tuple[StepName, ...] = ("own_third", "own_half", "lora")


@dataclass(frozen=True)
class Standing:
    """A task compared with its single model, on dev rows.

    Attributes:
        delta: mean difference; None if undefined.
        low, high: ends of its 95 % interval.
        above: probability, over the rows, that it lies above the floor.
        comparable: whether the single model's score is defined; if not, the task cannot be judged.
    """

    delta: float | None
    low: float | None
    high: float | None
    above: float
    comparable: bool = True


@dataclass(frozen=True)
class LadderStep:
    """A step of the ladder that was tried, or skipped.

    Attributes:
        run: folder of its run; None if there is none.
        standing: comparison of the task with its single model; None if it was not tried.
        size, passes: size and passes of the model with it, relative to one shared encoder.
        cost: cost in trainings of the configuration.
        lifts: whether it brings the task above the floor, and no other task below it.
        kept_for: tasks that the shipped model takes from it because it trained them; a branch may be kept for other
            tasks than the one that it was meant to lift.
        why: why it was not tried; empty if it was.
        needs: the limits that forbid it, as options that would allow it; empty if none does.
        unpaid: whether only the budget forbids it.
        others: for a branch, the comparison of each other task with its single model.
    """

    task: str
    name: StepName
    run: Path | None
    standing: Standing | None
    size: float
    passes: float
    cost: float = 0.0
    lifts: bool = False
    kept_for: tuple[str, ...] = ()
    why: str = ""
    needs: str = ""
    unpaid: bool = False
    others: Mapping[str, Standing] = field(default_factory=dict[str, Standing])

    @property
    def taken(self) -> bool:
        """Whether the shipped model has it for its task."""
        return self.task in self.kept_for

    @property
    def trained_further(self) -> tuple[str, ...]:
        """The tasks besides its own that the shipped model takes from it."""
        return tuple(task for task in self.kept_for if task != self.task)

    @property
    def kind(self) -> str:
        """Kind of the task's own parts; all parts of a trunk are of the same kind."""
        return "lora" if self.name == "lora" else "copy"


@dataclass(frozen=True)
class ModelLimits:
    """Limits on the cost of the shipped model."""

    size: float
    passes: float
    certainty: float

    def refuse(self, size: float, passes: float) -> str:
        """Return the limits that a model exceeds, as options that would allow it; empty if none.

        Both are compared as they are shown, with two decimals, so heads alone exceed no limit.
        """
        exceeded: list[str] = []
        if round(size, 2) > self.size + 1e-9:
            exceeded.append(f"--max-size {size:.2f}")
        if round(passes, 2) > self.passes + 1e-9:
            exceeded.append(f"--max-passes {passes:.2f}")
        return " and ".join(exceeded)


def limits_of(options: AutoOptions) -> ModelLimits:
    """Return the limits that the options of a search set."""
    return ModelLimits(options.max_size, options.max_passes, options.certainty)


def worst_first(standings: Mapping[str, Standing], certainty: float) -> list[str]:
    """Return the tasks that are not above the floor with this certainty, the worst first.

    Those that cannot be judged are not among them.
    """

    def gain(task: str) -> float:
        delta = standings[task].delta
        return -math.inf if delta is None else delta

    return sorted((task for task, now in standings.items() if now.comparable and now.above < certainty), key=gain)


@dataclass
class Ladder:
    """Tries steps for the tasks below the floor.

    Attributes:
        config: the winner's configuration, without test rows and at the learning rates that `factor` multiplies.
        rates, factor: learning rates as in `SearchInputs`, and the multiple of them that the winner was trained with.
        budget: budget of the configuration, which determines a task's own training.
        layers: number of encoder layers.
        folder: folder for the models of the steps.
        base: folder of the winner's run.
        size, passes: of the winner, relative to one shared encoder.
        shared: number of parameters of a model that shares everything.
        rows: rows that pass the encoder in a training of the configuration.
        standing_of: takes a task and the folder of a run, and compares it with the single model.
        left: remaining budget.
    """

    config: Config
    rates: Mapping[str, tuple[float, float]]
    factor: float
    budget: Budget
    layers: int
    folder: Path
    base: Path
    size: float
    passes: float
    shared: int
    rows: int
    limits: ModelLimits
    standing_of: Callable[[str, Path], Standing]
    left: float
    say: Callable[[str], None]

    def climb(self, standings: Mapping[str, Standing]) -> Iterator[LadderStep]:
        """Try steps for each task below the floor until one lifts it: the first step for every task, then the next.

        If the steps that lift do not fit together, because the limits forbid it or because some are low-rank parts and
        others layers, low-rank parts are also tried for the tasks that own layers lift.

        Args:
            standings: comparison of each task of the winner with its single model.
        """
        waiting = worst_first(standings, self.limits.certainty)
        lifted: dict[str, LadderStep] = {}
        for name in _OF_ONE_TASK:
            for task in [task for task in waiting if task not in lifted]:
                yield from self._step(task, name, standings, lifted)
        if not self._fit_together(lifted.values()):
            for task in [task for task, step in lifted.items() if step.kind == "copy"]:
                yield from self._step(task, "lora", standings, lifted)
        for task in [task for task in waiting if task not in lifted]:
            yield from self._step(task, "branch", standings, lifted)

    def _fit_together(self, steps: Collection[LadderStep]) -> bool:
        size = self.size + sum(step.size - self.size for step in steps)
        passes = self.passes + sum(step.passes - self.passes for step in steps)
        return len({step.kind for step in steps}) <= 1 and not self.limits.refuse(size, passes)

    def _step(
        self, task: str, name: StepName, standings: Mapping[str, Standing], lifted: dict[str, LadderStep]
    ) -> Iterator[LadderStep]:
        """Yield a step, if there is one of this name for the task, and add it to `lifted` if it lifts the task."""
        third, half = self.layers - max(1, self.layers // 3), self.layers // 2
        if name == "own_half" and half == third:
            return
        layers: dict[StepName, int] = {"lora": half, "own_third": third, "own_half": half, "branch": third}
        kind = {"kind": "lora", "rank": RANK} if name == "lora" else {"kind": "copy"}
        values = self._everything() if name == "branch" else self._alone(task)
        config = validate({**values, "extend": {"own": [task], "shared_layers": layers[name], **kind}})
        config = with_rates(config, self.rates["" if name == "branch" else task], self.factor)
        step = self._try(task, name, config, {other: now for other, now in standings.items() if other != task})
        if step.lifts:
            lifted[task] = step
        yield step

    def _everything(self) -> dict[str, Any]:
        """Return the configuration of a branch: all tasks, for a part of a joint training."""
        values = values_of(self.config)
        train = {key: value for key, value in values.get("train", {}).items() if key != "teachers"}
        train["epochs"] = self.config.train.epochs * BRANCH_SHARE
        if "max_steps" in train:
            train["max_steps"] = max(1, round(train["max_steps"] * BRANCH_SHARE))
        return {**{key: value for key, value in values.items() if key != "sharing"}, "train": train}

    def _alone(self, task: str) -> dict[str, Any]:
        """Return the configuration of a task alone, which goes on reading the tasks that it reads."""
        values = values_of(single_config(self.config, task, self.budget.alone(task)))
        joint = values_of(self.config)["tasks"][task]
        reads = {key: joint[key] for key in ("needs", "reads", "detach_reads") if key in joint}
        values["tasks"][task].update(reads)
        return {key: value for key, value in values.items() if key != "sharing"}

    def _try(self, task: str, name: StepName, config: Config, others: Mapping[str, Standing]) -> LadderStep:
        """Train one step if the budget and the limits allow it."""
        mode: Mode = "joint" if name == "branch" else "frozen"
        source = model_folder(self.base)
        readers = [other for other, options in self.config.tasks.items() if task in options.reads]
        if readers and mode == "frozen":
            read = "reads" if len(readers) == 1 else "read"
            why = f"the answers of {', '.join(readers)}, which {read} its predictions, would change"
            return LadderStep(task, name, None, None, 0.0, 0.0, why=why)
        try:
            assembly = assemble_extension(source, config, mode=mode)
        except ConfigError as error:
            why = "the joint model has parts of another kind, and all parts of a model must be of the same kind"
            kinds = str(error).startswith("extend.kind")
            return LadderStep(task, name, None, None, 0.0, 0.0, why=why if kinds else str(error))
        plan = planned(assembly)
        cost = plan.steps * plan.batch_size / self.rows
        size, passes = count_parameters(assembly.model).total / self.shared, assembly.model.passes()
        del assembly
        tried = LadderStep(task, name, None, None, size, passes)
        needs = self.limits.refuse(size, passes)
        if needs:
            return replace(tried, needs=needs, why=f"it would need {needs}")
        if cost > self.left + 1e-9:
            why = f"it costs {cost:.2f} trainings, and {max(0.0, self.left):.2f} of the budget remain"
            return replace(tried, unpaid=True, why=why)
        tried = replace(tried, cost=cost)
        self.left -= cost
        place = self.folder / f"{task}-{name}-{key_of(read_description(source).digest, config.to_json())[:12]}"
        self.say(f"{task}: {name.replace('_', ' ')}, {cost:.2f} trainings")
        try:
            if not (place / "model").is_dir():
                extend(source, config, place, mode=mode, resume=place.is_dir())
        except Interrupted as error:
            raise interrupted(place.name, error) from None
        except TrainingError as error:
            return replace(tried, why=str(error))
        now = self.standing_of(task, place)
        changed = {other: self.standing_of(other, place) for other in others} if mode == "joint" else {}
        certainty = self.limits.certainty
        kept = all(one.above >= min(certainty, others[other].above) for other, one in changed.items())
        return replace(tried, run=place, standing=now, others=changed, lifts=kept and now.above >= certainty)
