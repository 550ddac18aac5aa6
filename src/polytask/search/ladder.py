"""The ladder: steps that lift a task which the best joint model leaves below the floor, cheapest first.

Every step except the branch keeps the predictions of all other tasks bit for bit, since their weights are frozen. The
last one, the graft, gives the task the predictions of its single model.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from polytask.artifact.description import model_folder, read_description
from polytask.artifact.folder import load_bundle, save_bundle
from polytask.artifact.pruning import pruned
from polytask.comparison.arms import single_config
from polytask.comparison.budget import Budget, planned
from polytask.config import Config, validate, values_of
from polytask.data.cache import key_of
from polytask.errors import ConfigError, Interrupted, PolytaskError, TrainingError
from polytask.extension import Mode, assemble_extension, extend
from polytask.model.parameters import count_parameters

StepName = Literal["lora", "own_third", "own_half", "branch", "graft"]
# Length of a branch's training, as a fraction of a joint training.
BRANCH_SHARE = 0.5
RANK = 8


@dataclass(frozen=True)
class Standing:
    """A task compared with its single model, on dev rows.

    Attributes:
        delta: mean difference; None if undefined.
        low, high: ends of its 95 % interval.
        above: probability, over the rows, that it lies above the floor.
    """

    delta: float | None
    low: float | None
    high: float | None
    above: float


@dataclass(frozen=True)
class LadderStep:
    """A step of the ladder that was taken, tried, or skipped.

    Attributes:
        model: folder of the model after the step, with all tasks except the grafted ones; None if there is none.
        size, passes: size and passes of the model to ship after it, relative to one shared encoder.
        cost: cost in trainings of the configuration.
        lifts: whether it brings the task above the floor, and no other task below it.
        why: why it was not tried; empty if it was.
    """

    task: str
    name: StepName
    model: Path | None
    standing: Standing | None
    size: float
    passes: float
    cost: float = 0.0
    lifts: bool = False
    why: str = ""


@dataclass(frozen=True)
class ModelLimits:
    """Limits on the cost of the shipped model."""

    size: float
    passes: float
    certainty: float

    def refuse(self, size: float, passes: float) -> str:
        """Return the limits that a model exceeds, with the values that would allow it; empty if none."""
        exceeded: list[str] = []
        if size > self.size + 1e-9:
            exceeded.append(f"--max-size {_up(size)}")
        if passes > self.passes + 1e-9:
            exceeded.append(f"--max-passes {_up(passes)}")
        return f"it would need {' and '.join(exceeded)}" if exceeded else ""


def _up(value: float) -> str:
    return f"{-(-value * 100 // 1) / 100:g}"


@dataclass
class Ladder:
    """Lifts tasks one by one.

    Attributes:
        config: the winner's configuration, without test rows.
        budget: budget of the configuration, which determines a task's own training.
        layers: number of encoder layers.
        folder: folder for the models of the steps.
        singles: folder of each task's single model run.
        sizes: sizes of the single models, relative to one shared encoder.
        shared: number of parameters of a model that shares everything.
        frozen_words: size of the word embeddings if they are frozen, and thus common to all trunks; otherwise 0.
        rows: rows that pass the encoder in a training of the configuration.
        standing_of: takes a task and the folder of a run, and compares it with the single model.
        left: remaining budget.
    """

    config: Config
    budget: Budget
    layers: int
    folder: Path
    singles: Mapping[str, Path]
    sizes: Mapping[str, float]
    shared: int
    frozen_words: float
    rows: int
    limits: ModelLimits
    standing_of: Callable[[str, Path], Standing]
    left: float
    say: Callable[[str], None]

    def lift(self, task: str, base: Path, grafted: Sequence[str]) -> Iterator[LadderStep]:
        """Try steps for a task until one lifts it.

        Args:
            task: name of the task.
            base: folder of the model so far, with all tasks except the grafted ones.
            grafted: names of the grafted tasks.

        Yields the steps; either the last one lifts the task, or none does.
        """
        tasks = list(read_description(model_folder(base)).tasks)
        others = [name for name in tasks if name != task]
        graft = self._cost_of_grafts(grafted)
        try:
            trunk = self._without(task, base, others) if others else None
        except ConfigError as error:
            size, passes = self._cost_of(base, graft)
            yield LadderStep(task, "graft", None, None, size, passes, why=str(error))
            return
        for name, mode, config in self._steps(task, others) if trunk is not None else ():
            assert trunk is not None
            step = self._try(task, name, mode, config, trunk, graft, others)
            yield step
            if step.lifts:
                return
        yield self._graft(task, trunk, [*grafted, task])

    def _steps(self, task: str, others: Sequence[str]) -> Iterator[tuple[StepName, Mode, Config]]:
        layers = self.layers
        third, half = layers - max(1, layers // 3), layers // 2
        alone = self._alone(task)
        yield "lora", "frozen", self._extension(alone, others, shared_layers=half, kind="lora", rank=RANK)
        yield "own_third", "frozen", self._extension(alone, others, shared_layers=third, kind="copy")
        if half != third:
            yield "own_half", "frozen", self._extension(alone, others, shared_layers=half, kind="copy")
        values = values_of(self.config)
        train = {key: value for key, value in values.get("train", {}).items() if key != "teachers"}
        train["epochs"] = self.config.train.epochs * BRANCH_SHARE
        if "max_steps" in train:
            train["max_steps"] = max(1, round(train["max_steps"] * BRANCH_SHARE))
        base_values = {key: value for key, value in values.items() if key != "sharing"}
        yield (
            "branch",
            "joint",
            self._extension({**base_values, "train": train}, others, shared_layers=third, kind="copy"),
        )

    def _alone(self, task: str) -> dict[str, Any]:
        values = values_of(single_config(self.config, task, self.budget.alone(task)))
        return {key: value for key, value in values.items() if key != "sharing"}

    def _extension(self, values: Mapping[str, Any], others: Sequence[str], **extend: Any) -> Config:  # noqa: ANN401
        return validate({**values, "extend": {"follow": others[0], **extend}})

    def _try(
        self,
        task: str,
        name: StepName,
        mode: Mode,
        config: Config,
        trunk: Path,
        graft: tuple[float, float],
        others: Sequence[str],
    ) -> LadderStep:
        """Train one step if the budget and the limits allow it."""
        try:
            assembly = assemble_extension(trunk, config, mode=mode)
        except ConfigError as error:
            why = "an earlier step added low-rank parts, and all parts of a model must be of the same kind"
            kinds = str(error).startswith("extend.kind")
            return LadderStep(task, name, None, None, 0.0, 0.0, why=why if kinds else str(error))
        plan = planned(assembly)
        cost = plan.steps * plan.batch_size / self.rows
        size = count_parameters(assembly.model).total / self.shared + graft[0]
        passes = assembly.model.passes() + graft[1]
        del assembly
        why = self.limits.refuse(size, passes)
        if not why and cost > self.left + 1e-9:
            why = f"it costs {cost:.2f} trainings, and {max(0.0, self.left):.2f} of the budget remain"
        tried = LadderStep(task, name, None, None, size, passes, cost, why=why)
        if why:
            return replace(tried, cost=0.0)
        self.left -= cost
        place = self.folder / f"{task}-{name}-{key_of(read_description(trunk).digest, config.to_json())[:12]}"
        self.say(f"{task}: {name.replace('_', ' ')}, {cost:.2f} trainings")
        try:
            if not (place / "model").is_dir():
                extend(trunk, config, place, mode=mode, resume=place.is_dir())
        except Interrupted:
            raise
        except TrainingError as error:
            return replace(tried, why=str(error))
        standing = self.standing_of(task, place)
        met = standing.above >= self.limits.certainty
        if mode == "joint":  # the other tasks have been trained too
            met = met and all(self.standing_of(other, place).above >= self.limits.certainty for other in others)
        return replace(tried, model=place / "model", standing=standing, lifts=met)

    def _graft(self, task: str, trunk: Path | None, grafted: Sequence[str]) -> LadderStep:
        """Add the single model of a task as a separate trunk."""
        size, passes = self._cost_of(trunk, self._cost_of_grafts(grafted))
        why = self.limits.refuse(size, passes)
        exact = Standing(0.0, 0.0, 0.0, 1.0)
        return LadderStep(task, "graft", trunk, None if why else exact, size, passes, lifts=not why, why=why)

    def _cost_of_grafts(self, grafted: Sequence[str]) -> tuple[float, float]:
        """Return the size and passes that single models add to a model."""
        return sum(self.sizes[task] - self.frozen_words for task in grafted), float(len(grafted))

    def _cost_of(self, base: Path | None, graft: tuple[float, float]) -> tuple[float, float]:
        if base is None:  # the first single model contains the word embeddings
            return graft[0] + self.frozen_words, graft[1]
        model = load_bundle(model_folder(base)).model
        return count_parameters(model).total / self.shared + graft[0], model.passes() + graft[1]

    def _without(self, task: str, base: Path, others: Sequence[str]) -> Path:
        """Return the folder of the model without a task."""
        source = model_folder(base)
        key = key_of(read_description(source).digest, list(others))[:12]
        place = self.folder / f"without-{task}-{key}"
        try:
            read_description(place)
        except PolytaskError:
            shutil.rmtree(place, ignore_errors=True)
            save_bundle(place, pruned(load_bundle(source), others))
        return place
