"""Trial heads: how much tasks that share a head would gain from separate heads, trained alongside the model.

They read the detached inputs of the shared head, so they affect neither the model nor its random numbers.
`sharing/head_evidence.py` describes how they are judged; a head that is better becomes part of the model.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polytask.data.batch import Batch
from polytask.model.heads import Head
from polytask.model.multitask import MultiTaskModel
from polytask.sharing.head_evidence import HeadCut
from polytask.sharing.plan import Part
from polytask.tasks import Task
from polytask.training.distribution import World

# Factor of the heads' learning rate: a faster head is overconfident on the few rows of a step.
RATE_FACTOR = 1 / 3


@dataclass
class _Trial:
    """A head and its optimizer."""

    head: Head
    optimizer: torch.optim.Adam

    @classmethod
    def of(cls, head: Head, rate: float) -> _Trial:
        own = copy.deepcopy(head).eval().requires_grad_()
        return cls(own, torch.optim.Adam(own.parameters(), lr=rate))


@dataclass(frozen=True)
class _HeadInputs:
    """A head's inputs for some rows of a task, of shape (rows or words, width), with targets and row weights."""

    pooled: Tensor
    targets: Tensor
    rows: int
    weights: Tensor | None = None


class HeadTrials:
    """Trial heads for the two sides of every cut, and for both sides together.

    Args:
        rate: peak learning rate of the model's heads.
    """

    def __init__(self, model: MultiTaskModel, tasks: Mapping[str, Task], world: World, rate: float) -> None:
        self._model = model
        self._tasks = tasks
        self._world = world
        self._rate = rate * RATE_FACTOR
        self._cuts: list[HeadCut] = []
        self._trials: dict[Part, _Trial] = {}
        self._inputs: dict[str, list[_HeadInputs]] = {}

    def follow(self, cuts: Sequence[HeadCut]) -> None:
        """Try these cuts from now on: existing trial heads continue, new ones start as copies of the model's."""
        self._cuts = list(cuts)
        wanted = dict.fromkeys(part for left, right in cuts for part in (left, right, left | right))
        order = sorted(wanted, key=sorted)
        self._trials = {
            part: self._trials.get(part) or _Trial.of(self._model.head(min(part)), self._rate) for part in order
        }
        watched = frozenset(task for part in order for task in part)
        self._model.keep_pooled(watched)
        self._inputs = {task: [] for task in self._model.plan.tasks if task in watched}

    @property
    def under_way(self) -> bool:
        """Whether any heads are on trial."""
        return bool(self._cuts)

    def see(self, batch: Batch) -> None:
        """Collect the inputs of the model's heads after the forward pass of a batch."""
        for task, pooled in self._model.take_pooled().items():
            weights = batch.row_weights.get(task)
            self._inputs[task].append(_HeadInputs(pooled, batch.targets[task], batch.count(task), weights))

    def step(self, new: Collection[str]) -> dict[HeadCut, float]:
        """Predict a step's rows, then learn from them, and return by cut how much lower the loss of two heads is.

        Args:
            new: tasks whose rows have not been seen before. Those of other tasks are no evidence, since a head soon
                memorises few rows. Once no task has new rows, the trial is over.
        """
        if not any(task in new for task in self._inputs):
            self.follow([])
            return {}
        rows, denominators = self._counts()
        means = self._learn(denominators)
        self._inputs = {task: [] for task in self._inputs}
        self._model.take_pooled()  # discard those of passes without a backward pass
        gains: dict[HeadCut, float] = {}
        for left, right in self._cuts:
            sides = [(part, task) for part in (left, right) for task in part if task in new and denominators[task] > 0]
            gains[left, right] = sum(
                rows[task] * (means[left | right, task] - means[part, task]) for part, task in sorted(sides, key=_order)
            )
        return gains

    def _counts(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return each task's number of rows and the denominator of its loss, over all processes."""
        local: list[float] = []
        for task, batches in self._inputs.items():
            own = self._tasks[task]
            local.append(float(sum(batch.rows for batch in batches)))
            local.append(float(sum(own.weighed_denominator(batch.targets, batch.weights) for batch in batches)))
        sums = self._world.all_reduce_sum(local)
        return dict(zip(self._inputs, sums[::2], strict=True)), dict(zip(self._inputs, sums[1::2], strict=True))

    def _learn(self, denominators: Mapping[str, float]) -> dict[tuple[Part, str], float]:
        """Update the heads, and return the mean loss of each task under each head before the update."""
        sums: dict[tuple[Part, str], float] = {}
        with torch.enable_grad():
            for part, trial in self._trials.items():
                trial.optimizer.zero_grad(set_to_none=False)
                for task in (task for task in self._inputs if task in part and denominators[task] > 0):
                    loss = self._loss(trial.head, task) / denominators[task]
                    sums[part, task] = float(loss.detach())
                    if loss.requires_grad:
                        loss.backward()
        summed = self._world.all_reduce_sum(list(sums.values()))
        self._exchange()
        for part, trial in self._trials.items():
            if any(denominators[task] > 0 for task in part):
                trial.optimizer.step()
        return dict(zip(sums, summed, strict=True))

    def _loss(self, head: Head, task: str) -> Tensor:
        own = self._tasks[task]
        losses = [
            own.weighed_loss(head.for_loss(head.answer(batch.pooled)), batch.targets, batch.weights)
            for batch in self._inputs[task]
        ]
        return torch.stack(losses).sum() if losses else torch.zeros(())

    def _exchange(self) -> None:
        """Sum the gradients over all processes, in one exchange."""
        parameters = [parameter for trial in self._trials.values() for parameter in trial.head.parameters()]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self._world.size > 1:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            self._world.all_reduce_sum_in_place(flat)
            for gradient, summed in zip(
                gradients, flat.split([parameter.numel() for parameter in gradients]), strict=True
            ):
                gradient.copy_(summed.view_as(gradient))

    def hand_over(self, parts: Iterable[Part], optimizer: torch.optim.Optimizer) -> None:
        """Copy trial heads into the model, with their optimizer state if the model is trained with Adam too."""
        for part in parts:
            trial = self._trials[part]
            own = self._model.head(min(part))
            own.load_state_dict(trial.head.state_dict())
            for parameter, trained in zip(own.parameters(), trial.head.parameters(), strict=True):
                state = trial.optimizer.state.get(trained)
                if state and isinstance(optimizer, torch.optim.Adam):
                    optimizer.state[parameter] = {
                        name: value.clone().to(parameter.device) for name, value in state.items()
                    }

    # resume

    def tensors(self) -> dict[str, Tensor]:
        """Return the heads' weights and optimizer states by name."""
        tensors: dict[str, Tensor] = {}
        for number, trial in enumerate(self._trials.values()):
            for name, parameter in trial.head.named_parameters():
                tensors[f"trial/{number}/{name}/weight"] = parameter.detach()
                for quantity, value in trial.optimizer.state.get(parameter, {}).items():
                    tensors[f"trial/{number}/{name}/{quantity}"] = value
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `tensors` returned, for the same cuts; without any such tensors the trial is over."""
        if not any(key.startswith("trial/") for key in tensors):
            self.follow([])
        for number, trial in enumerate(self._trials.values()):
            for name, parameter in trial.head.named_parameters():
                start = f"trial/{number}/{name}/"
                values = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
                with torch.no_grad():
                    parameter.copy_(values.pop("weight"))
                if values:
                    trial.optimizer.state[parameter] = {
                        quantity: value.clone().to(parameter.device if value.ndim else "cpu")
                        for quantity, value in values.items()
                    }


def _order(side: tuple[Part, str]) -> str:
    return side[1]
