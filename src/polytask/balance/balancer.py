"""The balancer: how the losses of a step become one update of the shared parameters.

Heads, and parts of a single task, always get that task's own gradient; a balancer weights the tasks against each other
in the parameters that several of them share.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polytask.errors import ConfigError, TrainingError
from polytask.inputs import describe
from polytask.options import Options

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Floats: TypeAlias = NDArray[np.float64]
# What a method reads: nothing, the tasks' losses, the inner products of their gradients, or the gradients themselves.
Shape: TypeAlias = Literal["nothing", "losses", "gram", "gradients"]
# Whether a method's weights are on the scale of the sum, on that of the mean, or give only a direction.
Scale: TypeAlias = Literal["own", "mean", "direction"]


@dataclass(frozen=True)
class Statistic:
    """Measurements of a step, for the n tasks that it trained.

    Attributes:
        losses: mean losses times the tasks' own weights, of shape (n,).
        gram: inner products of the gradients of these losses, of shape (n, n); empty if the method does not need it.
        rows: number of the step's rows with a label of each task, of shape (n,); equal if the method does not need it.
        tasks: indices of these tasks among all tasks of the run.
        weights: the tasks' own weights, by which losses and gradients are already multiplied.
        errors: for each task, its summed errors by class, and their counts; empty if the method does not need them.
    """

    losses: Floats
    gram: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    rows: Floats = field(default_factory=lambda: np.zeros(0))
    tasks: tuple[int, ...] = ()
    weights: Floats = field(default_factory=lambda: np.zeros(0))
    errors: tuple[tuple[Floats, Floats], ...] = ()


class Weighting(ABC):
    """Computes a weight for each task from the measurements of a step."""

    # Whether it needs the losses of the same rows again, after the update.
    wants_after: ClassVar[bool] = False

    @abstractmethod
    def weigh(self, statistic: Statistic) -> Floats:
        """Return the tasks' weights in the update of shared parameters."""

    def after(self, losses: Floats) -> None:
        """Process the losses of the step's rows after the update."""
        del losses

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        del state


class Aggregator(ABC):
    """Combines the tasks' gradients into one, element by element."""

    @abstractmethod
    def aggregate(self, gradients: Tensor) -> Tensor:
        """Return the gradient of the shared parameters: shape (tasks, parameters) -> (parameters,).

        If the encoder is sharded (`train.fsdp`), these are the parameters of this process's shards.
        """


# Eigenvalues of the gradients' cosines below this count as 0.
_ROUNDING = 1e-5


class BalanceOptions(Options, ABC):
    """A method and its options: a row of the table of balancers.

    Attributes:
        shape: what the method reads.
        every_task: whether it keeps a state of all tasks, so that a step has to train them all.
        reads_rows: whether it reads the number of each task's rows in the step.
        reads_errors: whether it reads the tasks' errors by class.
        draws_elements: whether it draws a random number for each element of the gradients.
        scale: scale of its weights: those of a mean are multiplied by the number of tasks, and those that give only a
            direction are scaled to sum to it, as the weights of the sum do.
    """

    shape: ClassVar[Shape]
    every_task: ClassVar[bool] = False
    reads_rows: ClassVar[bool] = False
    reads_errors: ClassVar[bool] = False
    draws_elements: ClassVar[bool] = False
    scale: ClassVar[Scale] = "own"

    method: str = ""

    @abstractmethod
    def build(self, tasks: tuple[str, ...]) -> Weighting | Aggregator:
        """Build the method for these tasks."""

    def check(self, tasks: tuple[str, ...]) -> None:
        """Raise ConfigError if the options do not fit the tasks."""
        del tasks

    @property
    def top_only(self) -> bool:
        """Whether only the gradients of the highest shared layer are read."""
        return False

    @property
    def interval(self) -> int:
        """Number of updates between two comparisons of the tasks' gradients."""
        return 1

    @property
    def rounds_gradients(self) -> bool:
        """Whether the tasks' gradients are rounded to bfloat16 while they are stored."""
        return False


class ComparingOptions(BalanceOptions):
    """A method that computes gradients task by task, and so stores one per task."""

    gradient_precision: Literal["auto", "bf16"] = Field(
        default="auto",
        description="precision of the tasks' gradients until they are combined: auto: bfloat16 if that is exact "
        "(training in bf16, in one piece), otherwise float32; bf16 rounds them",
    )

    @property
    def rounds_gradients(self) -> bool:
        return self.gradient_precision == "bf16"


class GramOptions(ComparingOptions):
    """A method that compares the tasks' gradients by their inner products."""

    shape: ClassVar[Shape] = "gram"

    measure: Literal["all", "top"] = Field(
        default="all",
        description="shared layers whose gradients are compared: all, or only the highest one, which keeps "
        "one layer's gradient per task in memory",
    )

    every: int = Field(
        default=1,
        ge=1,
        description="updates between two comparisons of the gradients; the weights stay the same in between",
    )

    @property
    def top_only(self) -> bool:
        return self.measure == "top"

    @property
    def interval(self) -> int:
        return self.every


class Balancer:
    """Applies a method in a run.

    Args:
        weights: weights of the tasks' losses, applied before those of the method.
        seed: seed of methods that draw random numbers.
    """

    def __init__(self, options: BalanceOptions, weights: Mapping[str, float], seed: int) -> None:
        self.options = options
        self.weights = weights
        self._tasks = tuple(weights)
        self._core = options.build(self._tasks)
        self._seed = seed
        self._step = 0
        self._weighed = False
        self._held: dict[str, float] = {}

    @property
    def shape(self) -> Shape:
        """What the method reads."""
        return self.options.shape

    @property
    def reads_gradients(self) -> bool:
        """Whether it compares the tasks' gradients."""
        return self.shape in ("gram", "gradients")

    @property
    def wants_after(self) -> bool:
        """Whether it needs the losses of the same rows again, after the update."""
        return isinstance(self._core, Weighting) and self._core.wants_after

    def weigh(
        self,
        losses: Mapping[str, float],
        gram: Floats | None = None,
        rows: Mapping[str, float] | None = None,
        errors: Mapping[str, tuple[Floats, Floats]] | None = None,
    ) -> dict[str, float]:
        """Return the weight of each task in the update of the shared parameters.

        Tasks without a gradient get 1. All tasks get 1 if a number is not finite, if one task trains alone, or if the
        method needs every task and the step lacks one.

        Args:
            losses: mean losses of the tasks that the step trained.
            gram: inner products of these tasks' gradients, in this order.
            rows: number of each task's rows in the step; by default equal.
            errors: summed errors of each task by class, and their counts.
        """
        self._step += 1
        self._weighed = False
        plain = dict.fromkeys(losses, 1.0)
        own = np.array([self.weights[name] for name in losses])
        values = np.array(list(losses.values())) * own
        indices = [number for number in range(len(losses)) if gram is None or gram[number, number] > 0]
        names = list(losses)
        finite = np.isfinite(values).all() and (gram is None or np.isfinite(gram).all())
        if not finite or len(indices) < self._least:
            return plain
        counts = np.array([1.0 if rows is None else rows[name] for name in losses])
        settled = np.zeros((0, 0)) if gram is None else _settled(gram[np.ix_(indices, indices)])
        assert isinstance(self._core, Weighting)
        with _drawing(self._seed, self._step):
            known = tuple(self._tasks.index(names[index]) for index in indices)
            class_errors = () if errors is None else tuple(errors[names[index]] for index in indices)
            statistic = Statistic(values[indices], settled, counts[indices], known, own[indices], class_errors)
            weights = self._checked(self._core.weigh(statistic), len(indices))
        self._weighed = True
        return plain | dict(zip((names[index] for index in indices), self._scaled(weights), strict=True))

    def measures_at(self, step: int) -> bool:
        """Whether the tasks' gradients are compared in a step; other steps keep the last weights."""
        return self.reads_gradients and step % self.options.interval == 0

    def hold(self, weights: Mapping[str, float]) -> None:
        """Keep the weights of a step, the same on all processes, for the steps until the next comparison."""
        if self._weighed:
            self._held |= weights

    def held(self, tasks: Iterable[str]) -> dict[str, float]:
        """Return each task's weight in the last step that weighted it; 1 before."""
        return {task: self._held.get(task, 1.0) for task in tasks}

    @property
    def _least(self) -> int:
        """Minimum number of tasks in a step."""
        return len(self._tasks) if self.options.every_task else 2

    def _checked(self, weights: Any, count: int) -> Floats:  # noqa: ANN401
        """Return a method's weights as an array. Raises TrainingError unless there is a usable number for each task."""
        array = np.array(np.nan)
        with suppress(TypeError, ValueError):
            array = np.asarray(weights, np.float64)
        if array.shape == (count,) and np.isfinite(array).all() and (self.options.scale != "direction" or array.sum()):
            return array
        shown = ", ".join(f"{weight:g}" for weight in array[:10]) if array.ndim == 1 else describe(weights)
        direction = ", whose sum is not 0" if self.options.scale == "direction" else ""
        raise TrainingError(
            f"balance.method: {self.options.method}: weigh returned {shown or 'nothing'}; expected {count} finite "
            f"numbers, one for each task of the step{direction}"
        )

    def _scaled(self, weights: Floats) -> list[float]:
        if self.options.scale == "own":
            return weights.tolist()
        return (weights * len(weights) / (1.0 if self.options.scale == "mean" else weights.sum())).tolist()

    def aggregate(self, gradients: Tensor) -> Tensor:
        """Return the gradient of parameters that some tasks share: shape (tasks, parameters) -> (parameters,).

        It is the sum if `weigh` would return 1 for all tasks.
        """
        self._step += 1
        if len(gradients) < self._least or not bool(gradients.isfinite().all()):
            return gradients.sum(0)
        assert isinstance(self._core, Aggregator)
        with _drawing(self._seed, self._step, gradients.device):
            gradient: Any = self._core.aggregate(gradients)
        shape, expected = getattr(gradient, "shape", None), gradients.shape[1:]
        if shape != expected:
            shown = describe(gradient) if shape is None else f"a value of shape {tuple(shape)}"
            raise TrainingError(
                f"balance.method: {self.options.method}: aggregate returned {shown}; expected a tensor of shape "
                f"{tuple(expected)}"
            )
        return gradient * len(gradients) if self.options.scale == "mean" else gradient

    def after(self, losses: Mapping[str, float]) -> None:
        """Process the losses of the step's rows after the update, if the step was weighted."""
        values = np.array([losses[name] * self.weights[name] for name in losses])
        if isinstance(self._core, Weighting) and self._weighed and np.isfinite(values).all():
            self._core.after(values)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        core = self._core.state_dict() if isinstance(self._core, Weighting) else {}
        return {"step": self._step, "held": dict(self._held), "core": core}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self._step = state["step"]
        self._held = dict(state["held"])
        if isinstance(self._core, Weighting):
            self._core.load_state_dict(state["core"])


def _settled(gram: Floats) -> Floats:
    """Make gradients exactly linearly dependent if they are so up to float32 rounding.

    Methods that invert the matrix would otherwise divide by rounding errors.
    """
    lengths = np.sqrt(gram.diagonal())
    values, vectors = np.linalg.eigh(gram / np.outer(lengths, lengths))
    if values[0] >= _ROUNDING:
        return gram
    values = np.where(values < _ROUNDING, 0.0, values)
    return (vectors * values) @ vectors.T * np.outer(lengths, lengths)


@contextmanager
def _drawing(seed: int, step: int, device: torch.device | None = None) -> Generator[None]:
    """Seed the random generators by seed and step only, and restore them after the block."""
    import torch

    number = (seed * 1_000_003 + step) % 2**63
    drawn_on = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=drawn_on):
        # Not torch.manual_seed: it sets the generators of all GPUs, from which dropout draws.
        torch.default_generator.manual_seed(number)
        for gpu in drawn_on:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(number)
        yield


def require_balanceable(
    options: BalanceOptions, tasks: Sequence[str], *, together: int, sharing: Collection[str]
) -> None:
    """Raise ConfigError if a method has no effect with the schedule and the sharing of a run.

    Args:
        together: maximum number of tasks that train in one step.
        sharing: tasks that train any parameters together with other tasks.
    """
    options.check(tuple(tasks))
    if options.shape == "nothing":
        return
    place = f"balance.method: {options.method} balances tasks against each other"
    if len(tasks) < 2:
        raise ConfigError(f"{place}, and the only task is {tasks[0]!r}; use balance.method=sum")
    if together < 2:
        raise ConfigError(
            f"{place}, and this schedule trains one task per step; use schedule.strategy=parallel, or "
            "balance.method=sum"
        )
    if options.every_task and together < len(tasks):
        raise ConfigError(
            f"balance.method: {options.method} needs all {len(tasks)} tasks in a step, and this schedule trains at "
            f"most {together} together; use schedule.strategy=parallel, a larger train.batch_size, or "
            "balance.method=sum"
        )
    if not sharing:
        raise ConfigError(
            f"{place} in the parameters they share, and they share none that are trained; choose another "
            "sharing.strategy, or balance.method=sum"
        )
    alone = [task for task in tasks if task not in sharing]
    if options.every_task and alone:
        raise ConfigError(
            f"balance.method: {options.method} balances all tasks in the parameters they share, and "
            f"{', '.join(alone)} {'shares' if len(alone) == 1 else 'share'} none that are trained; choose another "
            "sharing.strategy, or balance.method=sum"
        )
