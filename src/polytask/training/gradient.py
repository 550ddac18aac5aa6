"""The gradient of a step: of the tasks' mean losses as the balancer combines them, in one pass or task by task."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polytask.balance import Balancer
from polytask.balance.balancer import Floats
from polytask.balance.gram import GradientMeter, Group
from polytask.data.batch import Batch
from polytask.model.multitask import MultiTaskModel
from polytask.model.parameters import gradient_groups, own_parameters, shared_parameters, top_group
from polytask.tasks import Task
from polytask.training.distribution import World
from polytask.training.joined import ComparedRows, step_loss
from polytask.training.parameter_gradients import ParameterGradients, WordEmbeddings
from polytask.training.requests import NOTHING, PendingRequests


@dataclass(frozen=True)
class StepGradient:
    """The losses and statistics of a backward pass; the gradient itself is in `parameter.grad`.

    Attributes:
        losses: each task's mean loss over all processes.
        gram: inner products of the tasks' gradients, of shape (layers, tasks, tasks), if requested.
        weights: the tasks' weights in the update of shared parameters, if the balancer chose any.
        pending: requests that any process has received.
        errors: each task's summed training errors by class, and their counts, if requested.
    """

    losses: Mapping[str, float]
    gram: NDArray[np.float64] | None
    weights: Mapping[str, float]
    pending: PendingRequests
    errors: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict[str, tuple[Floats, Floats]])


def _ignore(batch: Batch) -> None:
    del batch


@dataclass(frozen=True)
class Differentiator:
    """Computes the gradient of a step.

    A task's mean is over all its labels in the step, on every process and in every piece: cutting a step into pieces,
    or distributing it over processes, does not change the result.

    Attributes:
        seen: called with each batch after its forward pass.
        reads_errors: whether to compute the training errors of each step.
    """

    model: MultiTaskModel
    tasks: Mapping[str, Task]
    balancer: Balancer
    world: World
    precision: Callable[[], AbstractContextManager[object]]
    seen: Callable[[Batch], object] = _ignore
    reads_errors: bool = False

    @cached_property
    def gradients(self) -> ParameterGradients:
        """The gradients of the model's parameters."""
        return ParameterGradients(self.model, self.world)

    def whole(self, wrapped: nn.Module, batches: Sequence[Batch], pending: PendingRequests = NOTHING) -> StepGradient:
        """Run one backward pass per piece, through the wrapped model.

        A balancer that reads losses needs the step in one piece; one that compares gradients uses its latest weights.

        Args:
            wrapped: the model, or a wrapper that averages its gradients over processes.
        """
        denominators, pending = self._denominators(batches, pending)
        batches = self._shown(batches)
        sums = {task: 0.0 for task in self.tasks}
        errors: dict[str, list[tuple[Tensor, Tensor]]] = {task: [] for task in self.tasks}
        weights: dict[str, float] = {}
        if self.balancer.shape == "gram":
            weights = _away_from_zero(
                self.balancer.held(task for task, denominator in denominators.items() if denominator > 0)
            )
        for number, batch in enumerate(batches, start=1):
            with self.precision(), self._sync_after(wrapped, number == len(batches)):
                words = self.gradients.look_up(batch) if self.gradients.keeps_tables else []
                outputs = wrapped(batch, {found.trunk: found.values for found in words}) if words else wrapped(batch)
                self.seen(batch)
                means = {
                    task: step_loss(self.tasks[task], task_outputs, batch) / denominators[task]
                    for task, task_outputs in outputs.items()
                    if denominators[task] > 0 and task in batch.targets
                }
                for task, mean in means.items():
                    sums[task] += float(mean.detach())
                    if self.reads_errors:
                        errors[task].append(
                            self.tasks[task].training_errors(outputs[task].detach(), batch.targets[task])
                        )
                if self.balancer.shape == "losses":
                    weights = _away_from_zero(self._weigh(self._losses(sums, denominators), batches))
                total = outputs_zero(outputs)
                for task, mean in means.items():
                    # The wrapper averages over processes; the mean above is already over all of them.
                    total = total + self._weight(task, weights) * self.world.size * mean
                total.backward()
            self.gradients.add_words([(found, found.values.grad) for found in words if found.values.grad is not None])
        if self.model.sharded:
            self.gradients.all_reduce_others(())
        self._unweigh_own(weights)
        self.gradients.add_tie()
        losses = self._losses(sums, denominators)
        return StepGradient(losses, None, weights, pending, self._errors(losses, errors))

    def by_task(
        self, batches: Sequence[Batch], pending: PendingRequests = NOTHING, *, statistic: bool = True
    ) -> StepGradient:
        """Run one forward and backward pass per task, over its own rows, and combine the gradients.

        With the balancer `sum` the gradient is the same as that of `whole`.

        Args:
            statistic: whether to return the inner products of the gradients of the unweighted mean losses.
        """
        denominators, pending = self._denominators(batches, pending)
        batches = self._shown(batches)
        sums = {task: 0.0 for task in self.tasks}
        meter = self._meter(gradient_groups(self.model))
        errors: dict[str, list[tuple[Tensor, Tensor]]] = {task: [] for task in self.tasks}
        word_gradients: list[tuple[str, WordEmbeddings, Tensor]] = []
        with self.precision():  # around all tasks, so that weights are cast once
            for task in (task for task in self.tasks if denominators[task] > 0):
                for batch in (batch for batch in batches if batch.passes(task)):
                    mean, words = self._mean(task, batch.only(task), denominators[task], errors[task])
                    differentiate = self.gradients.add_sharded if self.model.sharded else self.gradients.add
                    trained = [embeddings for embeddings in words if embeddings.values.requires_grad]
                    leaves = [embeddings.values for embeddings in trained]
                    gradients = differentiate(self.balancer.weights[task] * mean, leaves)
                    for embeddings, gradient in zip(trained, gradients, strict=True):
                        if gradient is not None:
                            word_gradients.append((task, embeddings, gradient))
                    sums[task] += float(mean.detach())
                meter.take(task)
        losses = self._losses(sums, denominators)
        shared = shared_parameters(self.model)
        weights: dict[str, float] = {}
        gram = self._unweighted(meter.grams[: self.model.layers]) if statistic else None
        if self.balancer.shape == "gradients" and len(meter.tasks) > 1:
            meter.put_back_aggregated(self.balancer.aggregate, shared)
        else:
            weights = self._weigh(losses, batches, meter, errors)
            meter.put_back(dict.fromkeys(losses, 1.0) | weights, shared)
        tables = self.model.word_embeddings()
        self.gradients.add_words(
            [
                (words, gradient * (weights.get(task, 1.0) if tables[words.trunk] in shared else 1.0))
                for task, words, gradient in word_gradients
            ]
        )
        self.gradients.all_reduce_others(meter.parameters)
        self.gradients.add_tie()
        return StepGradient(losses, gram, weights, pending, self._errors(losses, errors))

    def by_top(self, batches: Sequence[Batch], pending: PendingRequests = NOTHING) -> StepGradient:
        """Run one forward pass per task, take its gradient in the highest shared layer only, then one backward pass.

        The graphs of the whole step stay in memory until the weights are known.
        """
        denominators, pending = self._denominators(batches, pending)
        batches = self._shown(batches)
        sums = {task: 0.0 for task in self.tasks}
        meter = self._meter([top_group(self.model)])
        errors: dict[str, list[tuple[Tensor, Tensor]]] = {task: [] for task in self.tasks}
        means: list[tuple[str, Tensor]] = []
        all_words: list[WordEmbeddings] = []
        for task in (task for task in self.tasks if denominators[task] > 0):
            for batch in (batch for batch in batches if task in batch.targets):
                mean, words = self._mean(task, batch.only(task), denominators[task], errors[task])
                self.gradients.add(self.balancer.weights[task] * mean, (), meter.parameters, keep=True)
                means.append((task, mean))
                all_words += [embeddings for embeddings in words if embeddings.values.requires_grad]
                sums[task] += float(mean.detach())
            meter.take(task)
        losses = self._losses(sums, denominators)
        weights = _away_from_zero(self._weigh(losses, batches, meter, errors))
        if means:
            total = torch.stack([self._weight(task, weights) * mean for task, mean in means]).sum()
            gradients = self.gradients.add(total, [words.values for words in all_words])
            self.gradients.add_words(
                [(words, grad) for words, grad in zip(all_words, gradients, strict=True) if grad is not None]
            )
        self.gradients.all_reduce_others(())
        self._unweigh_own(weights)
        self.gradients.add_tie()
        return StepGradient(losses, None, weights, pending, self._errors(losses, errors))

    def _errors(
        self, tasks: Iterable[str], errors: Mapping[str, Sequence[tuple[Tensor, Tensor]]]
    ) -> dict[str, tuple[Floats, Floats]]:
        """Return the errors of tasks over all pieces and processes, if `reads_errors`."""
        return {task: self._added(task, errors[task]) for task in tasks} if self.reads_errors else {}

    def _meter(self, groups: Sequence[Group]) -> GradientMeter:
        return GradientMeter(
            groups,
            list(self.tasks),
            self.gradients.reduce if self.world.size > 1 else None,
            self.world.all_reduce_sum,
            rounded=self.balancer.options.rounds_gradients,
        )

    def losses(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Return the tasks' mean losses with the current weights."""
        denominators, _ = self._denominators(batches, NOTHING)
        batches = self._shown(batches)
        sums = {task: 0.0 for task in self.tasks}
        for batch in batches:
            with torch.no_grad(), self.precision():
                for task, task_outputs in self.model(batch).items():
                    if denominators[task] > 0 and task in batch.targets:
                        sums[task] += float(step_loss(self.tasks[task], task_outputs, batch) / denominators[task])
        return self._losses(sums, denominators)

    def _shown(self, batches: Sequence[Batch]) -> list[Batch]:
        """Return a step's batches with the rows of other batches that their losses compare them with."""
        return ComparedRows(self.model, self.tasks, self.world, self.precision).shown(batches)

    def _mean(
        self, task: str, batch: Batch, denominator: float, errors: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, list[WordEmbeddings]]:
        """Return a task's mean loss over a batch of its rows, and the word embeddings that it looked up.

        Args:
            errors: list to which the task's errors are appended, if they are read.
        """
        with self.precision():
            words = self.gradients.look_up(batch)
            outputs = self.model(batch, {found.trunk: found.values for found in words})[task]
            self.seen(batch)
            has_labels = task in batch.targets  # otherwise its layers run for other processes only
            mean = step_loss(self.tasks[task], outputs, batch) / denominator if has_labels else outputs.sum()
        if has_labels and (self.balancer.options.reads_errors or self.reads_errors):
            errors.append(self.tasks[task].training_errors(outputs.detach(), batch.targets[task]))
        return mean, words

    def _weigh(
        self,
        losses: Mapping[str, float],
        batches: Sequence[Batch],
        meter: GradientMeter | None = None,
        errors: Mapping[str, Sequence[tuple[Tensor, Tensor]]] | None = None,
    ) -> dict[str, float]:
        """Return the balancer's weights, the same on all processes."""
        if self.balancer.shape not in ("losses", "gram") or not losses:
            return {}
        gram = meter.shared_gram() if meter is not None and self.balancer.shape == "gram" else None
        rows = self._rows(losses, batches) if self.balancer.options.reads_rows else None
        class_errors = None
        if errors is not None and self.balancer.options.reads_errors:
            class_errors = {task: self._added(task, errors[task]) for task in losses}
        chosen = self.world.broadcast(self.balancer.weigh(losses, gram, rows, class_errors))
        assert isinstance(chosen, dict)
        self.balancer.hold(chosen)
        return chosen

    def _added(self, task: str, errors: Sequence[tuple[Tensor, Tensor]]) -> tuple[Floats, Floats]:
        """Return a task's errors by class and their counts, over all pieces and processes."""
        sums = np.zeros((2, self.tasks[task].answer_size))
        for pair in errors:
            sums += torch.stack(pair).double().cpu().numpy()
        added = np.array(self.world.all_reduce_sum(sums.flatten().tolist())).reshape(sums.shape)
        return added[0], added[1]

    def _rows(self, tasks: Iterable[str], batches: Sequence[Batch]) -> dict[str, float]:
        """Return how many rows of the step each task learns from."""
        labelled = {task: [batch for batch in batches if task in batch.targets] for task in tasks}
        local = [float(sum(batch.count(task) for batch in its_batches)) for task, its_batches in labelled.items()]
        return dict(zip(labelled, self.world.all_reduce_sum(local), strict=True))

    def _weight(self, task: str, weights: Mapping[str, float]) -> float:
        return self.balancer.weights[task] * weights.get(task, 1.0)

    def _unweighted(self, gram: NDArray[np.float64]) -> NDArray[np.float64]:
        own = np.array([self.balancer.weights[task] for task in self.tasks])
        return gram / np.outer(own, own)

    def _unweigh_own(self, weights: Mapping[str, float]) -> None:
        """Divide the balancer's weights out of the gradients of parameters that only one task trains."""
        for task, parameters in own_parameters(self.model) if weights else ():
            for parameter in parameters:
                if parameter.grad is not None and task in weights:
                    parameter.grad /= weights[task]

    def _losses(self, sums: Mapping[str, float], denominators: Mapping[str, float]) -> dict[str, float]:
        added = self.world.all_reduce_sum(list(sums.values()))
        return {task: loss for task, loss in zip(sums, added, strict=True) if denominators[task] > 0}

    def _denominators(
        self, batches: Sequence[Batch], pending: PendingRequests
    ) -> tuple[dict[str, float], PendingRequests]:
        """Return each task's divisor of its summed loss, and the requests that any process has received."""
        local = [
            sum(
                task.weighed_denominator(batch.targets[name], batch.row_weights.get(name))
                for batch in batches
                if name in batch.targets
            )
            for name, task in self.tasks.items()
        ]
        *denominators, stop, save = self.world.all_reduce_sum([*local, float(pending.stop), float(pending.save)])
        return dict(zip(self.tasks, denominators, strict=True)), PendingRequests(stop > 0, save > 0)

    @contextmanager
    def _sync_after(self, wrapped: nn.Module, last: bool) -> Generator[None]:
        """Exchange gradients in the last piece only; sharded ones in each, since no process can hold all of them."""
        if last or self.world.size == 1 or self.model.sharded:
            yield
        else:
            with wrapped.no_sync():  # type: ignore[operator]
                yield


def outputs_zero(outputs: Mapping[str, Tensor]) -> Tensor:
    """Return a zero that depends on all outputs, so that a step without any label has a gradient too."""
    return torch.stack([task_outputs.sum() * 0.0 for task_outputs in outputs.values()]).sum()


def _away_from_zero(weights: Mapping[str, float]) -> dict[str, float]:
    """Keep weights away from 0: gradients of parameters that only one task trains are divided by them."""
    return {task: math.copysign(max(abs(weight), 1e-6), weight) for task, weight in weights.items()}
