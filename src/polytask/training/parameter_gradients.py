"""The gradients of the parameters: adding to them, and exchanging them between processes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from polytask.data.batch import Batch
from polytask.model.multitask import MultiTaskModel
from polytask.model.shards import is_sharded
from polytask.training.distribution import World
from polytask.training.word_gradients import WordGradients


@dataclass(frozen=True)
class WordEmbeddings:
    """Word embeddings that were looked up: leaves of their own, separate from the embedding table.

    Attributes:
        trunk: the tasks that share the embedding table.
        ids: token ids.
        values: the embeddings of the ids.
    """

    trunk: frozenset[str]
    ids: Tensor
    values: Tensor


@dataclass(frozen=True)
class ParameterGradients:
    """Adds gradients to a model's parameters, and exchanges those that DistributedDataParallel does not."""

    model: MultiTaskModel
    world: World

    @cached_property
    def _words(self) -> WordGradients:
        return WordGradients(self.model)

    def look_up(self, batch: Batch) -> list[WordEmbeddings]:
        """Look up a batch's word embeddings, as leaves whose gradients `add_words` takes if they are trained."""
        ids, tables = self.model.ids(batch), self.model.word_embeddings()
        return [
            WordEmbeddings(trunk, ids[trunk], values.detach().requires_grad_(tables[trunk].requires_grad))
            for trunk, values in self.model.embed(batch).items()
        ]

    @property
    def keeps_tables(self) -> bool:
        """Whether the gradients of all word embeddings are kept tables: one process on a CPU, plain lookups."""
        return self.world.size == 1 and all(map(self._words.takes, self.model.plan.trunks))

    def add_words(self, pairs: Sequence[tuple[WordEmbeddings, Tensor]]) -> None:
        """Add the word embeddings' gradients, in one lookup per trunk: each lookup's gradient has the table's size."""
        encoders = dict(zip(self.model.plan.trunks, self.model.trunks, strict=True))
        for trunk, table in self.model.word_embeddings().items():
            own = [(words, gradient) for words, gradient in pairs if words.trunk == trunk]
            if own and table.requires_grad and self.world.size == 1 and self._words.takes(trunk):
                for words, gradient in own:
                    self._words.add(trunk, words.ids, gradient)
            elif own and table.requires_grad:
                looked_up = encoders[trunk].embed(torch.cat([words.ids for words, _ in own]))
                gradient = torch.cat([gradient for _, gradient in own])
                if self.model.sharded:
                    looked_up.backward(gradient)
                else:
                    self._put(table, torch.autograd.grad(looked_up, table, gradient)[0])

    def add_tie(self) -> None:
        """Add the gradient of the penalty that ties the copies in soft sharing: the same on every process."""
        tie = self.model.tie()
        if tie is not None:
            self.add(tie)

    def add(
        self,
        loss: Tensor,
        leaves: Sequence[Tensor] = (),
        parameters: Iterable[nn.Parameter] | None = None,
        *,
        keep: bool = False,
    ) -> list[Tensor | None]:
        """Add a gradient to the parameters without the wrapper's hooks, and return the gradients of other leaves.

        A backward pass that the wrapper did not prepare would mark parameters as ready that its next one waits for.

        Args:
            parameters: the parameters to differentiate by; by default all.
            keep: whether the graph is needed again.
        """
        candidates = self.model.parameters() if parameters is None else parameters
        chosen = [parameter for parameter in candidates if parameter.requires_grad]
        if not chosen and not leaves:
            return []
        with torch.autocast(loss.device.type, enabled=False):
            gradients = torch.autograd.grad(loss, [*chosen, *leaves], allow_unused=True, retain_graph=keep)
        for parameter, gradient in zip(chosen, gradients, strict=False):
            if gradient is not None:  # pyright: ignore[reportUnnecessaryComparison] - with allow_unused it may be
                self._put(parameter, gradient)
        return list(gradients[len(chosen) :])

    def add_sharded(self, loss: Tensor, leaves: Sequence[Tensor]) -> list[Tensor | None]:
        """Add a gradient, averaged over processes, to the parameters, and return the gradients of other leaves."""
        with torch.autocast(loss.device.type, enabled=False):
            (self.world.size * loss).backward()
        return [leaf.grad for leaf in leaves]

    def reduce(self, gradient: Tensor) -> None:
        """Exchange a gradient in place: the sum over processes, or the mean if the model is sharded, as FSDP does."""
        self.world.all_reduce_sum_in_place(gradient)
        if self.model.sharded:
            gradient /= self.world.size

    @staticmethod
    def _put(parameter: nn.Parameter, gradient: Tensor) -> None:
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def all_reduce_others(self, measured: Collection[nn.Parameter]) -> None:
        """Sum over processes the gradients of parameters that are neither measured nor sharded."""
        if self.world.size == 1:
            return
        whole = (parameter for parameter in self.model.parameters() if not is_sharded(parameter))
        others = [parameter for parameter in whole if parameter not in measured]
        counts = self.world.all_reduce_sum([float(parameter.grad is not None) for parameter in others])
        used = [parameter for parameter, count in zip(others, counts, strict=True) if count]
        vectors = [parameter for parameter in used if parameter.ndim < 2]  # many and small: in one exchange
        for parameters in (vectors, *([parameter] for parameter in used if parameter.ndim > 1)):
            self._exchange(parameters)

    def _exchange(self, parameters: Sequence[nn.Parameter]) -> None:
        """Exchange the gradients of parameters in one call."""
        gradients = [torch.zeros_like(item) if item.grad is None else item.grad for item in parameters]
        if len(gradients) > 1:
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            self.reduce(flat)
            pieces = flat.split([gradient.numel() for gradient in gradients])
            gradients = [piece.view_as(item) for item, piece in zip(parameters, pieces, strict=True)]
        elif gradients:
            self.reduce(gradients[0])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
