"""Heads on trial: what tasks that share a head would have of heads of their own, learned beside the model.

They read what the shared head reads, detached, so the model and its random numbers know nothing of them.
`sharing/head_evidence.py` says how they are judged; a head that proved itself becomes the model's.
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

# Of the heads' learning rate: the forecasts of a faster head, over the few rows of a step, are sure of too much.
SLOWNESS = 1 / 3


@dataclass
class _Trial:
    """A head and what trains it."""

    head: Head
    optimizer: torch.optim.Adam

    @classmethod
    def of(cls, head: Head, rate: float) -> _Trial:
        own = copy.deepcopy(head).eval().requires_grad_()
        return cls(own, torch.optim.Adam(own.parameters(), lr=rate))


@dataclass(frozen=True)
class _Seen:
    """What a head reads of some rows of a task: rows (or words) x width, their targets, and what each weighs."""

    pooled: Tensor
    targets: Tensor
    rows: int
    weights: Tensor | None = None


class HeadTrials:
    """Heads for the sides of every cut, and for both together.

    Args:
        rate: peak learning rate of the model's heads.
    """

    def __init__(self, model: MultiTaskModel, tasks: Mapping[str, Task], world: World, rate: float) -> None:
        self._model = model
        self._tasks = tasks
        self._world = world
        self._rate = rate * SLOWNESS
        self._cuts: list[HeadCut] = []
        self._trials: dict[Part, _Trial] = {}
        self._seen: dict[str, list[_Seen]] = {}

    def follow(self, cuts: Sequence[HeadCut]) -> None:
        """Try these cuts from now on: heads that are on trial already go on, new ones begin as the model's are."""
        self._cuts = list(cuts)
        wanted = dict.fromkeys(part for one, other in cuts for part in (one, other, one | other))
        order = sorted(wanted, key=sorted)
        self._trials = {
            part: self._trials.get(part) or _Trial.of(self._model.head(min(part)), self._rate) for part in order
        }
        watched = frozenset(task for part in order for task in part)
        self._model.keep_pooled(watched)
        self._seen = {task: [] for task in self._model.plan.tasks if task in watched}

    @property
    def under_way(self) -> bool:
        """Whether any heads are on trial."""
        return bool(self._cuts)

    def see(self, batch: Batch) -> None:
        """Take in what the model's heads have read of a batch that it has just passed."""
        for task, pooled in self._model.take_pooled().items():
            self._seen[task].append(_Seen(pooled, batch.targets[task], batch.count(task), batch.row_weights.get(task)))

    def step(self, new: Collection[str]) -> dict[HeadCut, float]:
        """Forecast a step's rows, learn from them, and return by cut how much better two heads foretold than one.

        Args:
            new: tasks whose rows were not seen before. Others' are no evidence: a head of few rows soon knows them by
                heart. Once no task has new rows the trial is over.
        """
        if not any(task in new for task in self._seen):
            self.follow([])
            return {}
        rows, denominators = self._counts()
        means = self._learn(denominators)
        self._seen = {task: [] for task in self._seen}
        self._model.take_pooled()  # of passes that were not for learning
        gains: dict[HeadCut, float] = {}
        for one, other in self._cuts:
            sides = [(part, task) for part in (one, other) for task in part if task in new and denominators[task] > 0]
            gains[one, other] = sum(
                rows[task] * (means[one | other, task] - means[part, task]) for part, task in sorted(sides, key=_order)
            )
        return gains

    def _counts(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return each task's rows and its loss's denominator, over all processes."""
        local = [
            [
                float(sum(one.rows for one in found)),
                float(sum(self._tasks[task].weighed_denominator(one.targets, one.weights) for one in found)),
            ]
            for task, found in self._seen.items()
        ]
        told = self._world.all_reduce_sum([value for pair in local for value in pair])
        return dict(zip(self._seen, told[::2], strict=True)), dict(zip(self._seen, told[1::2], strict=True))

    def _learn(self, denominators: Mapping[str, float]) -> dict[tuple[Part, str], float]:
        """Return the mean loss of each task under each head, from before the update that follows."""
        sums: dict[tuple[Part, str], float] = {}
        with torch.enable_grad():
            for part, trial in self._trials.items():
                trial.optimizer.zero_grad(set_to_none=False)
                for task in (task for task in self._seen if task in part and denominators[task] > 0):
                    loss = self._loss(trial.head, task) / denominators[task]
                    sums[part, task] = float(loss.detach())
                    if loss.requires_grad:
                        loss.backward()
        told = self._world.all_reduce_sum(list(sums.values()))
        self._exchange()
        for part, trial in self._trials.items():
            if any(denominators[task] > 0 for task in part):
                trial.optimizer.step()
        return dict(zip(sums, told, strict=True))

    def _loss(self, head: Head, task: str) -> Tensor:
        own = self._tasks[task]
        pairs = [(head.for_loss(head.answer(one.pooled)), one) for one in self._seen[task]]
        found = [own.weighed_loss(outputs, one.targets, one.weights) for outputs, one in pairs]
        return torch.stack(found).sum() if found else torch.zeros(())

    def _exchange(self) -> None:
        """Add the gradients up over all processes, in one exchange."""
        parameters = [one for trial in self._trials.values() for one in trial.head.parameters()]
        for one in parameters:
            if one.grad is None:
                one.grad = torch.zeros_like(one)
        if self._world.size > 1:
            gradients = [one.grad for one in parameters if one.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            self._world.all_reduce_sum_in_place(flat)
            for gradient, summed in zip(gradients, flat.split([one.numel() for one in gradients]), strict=True):
                gradient.copy_(summed.view_as(gradient))

    def hand_over(self, parts: Iterable[Part], optimizer: torch.optim.Optimizer) -> None:
        """Make heads on trial the model's, with the state of what trained them where that is the optimizer's own."""
        for part in parts:
            trial = self._trials[part]
            own = self._model.head(min(part))
            own.load_state_dict(trial.head.state_dict())
            for parameter, tried in zip(own.parameters(), trial.head.parameters(), strict=True):
                state = trial.optimizer.state.get(tried)
                if state and isinstance(optimizer, torch.optim.Adam):
                    optimizer.state[parameter] = {
                        name: value.clone().to(parameter.device) for name, value in state.items()
                    }

    # resume

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and state, by name."""
        found: dict[str, Tensor] = {}
        for number, trial in enumerate(self._trials.values()):
            for name, parameter in trial.head.named_parameters():
                found[f"trial/{number}/{name}/weight"] = parameter.detach()
                for quantity, value in trial.optimizer.state.get(parameter, {}).items():
                    found[f"trial/{number}/{name}/{quantity}"] = value
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` returned; the cuts are those of then, or none where the trial was over."""
        if not any(key.startswith("trial/") for key in tensors):
            self.follow([])
        for number, trial in enumerate(self._trials.values()):
            for name, parameter in trial.head.named_parameters():
                start = f"trial/{number}/{name}/"
                found = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
                with torch.no_grad():
                    parameter.copy_(found.pop("weight"))
                if found:
                    trial.optimizer.state[parameter] = {
                        quantity: value.clone().to(parameter.device if value.ndim else "cpu")
                        for quantity, value in found.items()
                    }


def _order(side: tuple[Part, str]) -> str:
    return side[1]
