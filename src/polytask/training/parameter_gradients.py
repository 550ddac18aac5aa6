"""The gradients that stand in the parameters: what adds to them, and what exchanges them between processes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polytask.model.multitask import MultiTaskModel
from polytask.model.shards import is_sharded
from polytask.training.distribution import World


@dataclass(frozen=True)
class WordEmbeddings:
    """Word embeddings that a task looked up: they are differentiated by apart from the table that they come from."""

    task: str
    trunk: frozenset[str]
    ids: Tensor
    values: Tensor


@dataclass(frozen=True)
class ParameterGradients:
    """Adds gradients to a model's parameters, and exchanges those that no wrapper exchanges."""

    model: MultiTaskModel
    world: World

    def add_words(self, pairs: Sequence[tuple[WordEmbeddings, Tensor]]) -> None:
        """Add the word embeddings' gradients, in one look-up a trunk: each adds one as great as the vocabulary."""
        encoders = dict(zip(self.model.plan.trunks, self.model.trunks, strict=True))
        for trunk, table in self.model.word_embeddings().items():
            own = [(one, gradient) for one, gradient in pairs if one.trunk == trunk]
            if own and table.requires_grad:
                looked_up = encoders[trunk].embed(torch.cat([one.ids for one, _ in own]))
                gradient = torch.cat([gradient for _, gradient in own])
                if self.model.sharded:
                    looked_up.backward(gradient)
                else:
                    self._put(table, torch.autograd.grad(looked_up, table, gradient)[0])

    def add_tie(self) -> None:
        """Add the gradient of what keeps the parts of soft sharing close: the same on every process."""
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
        """Add a gradient to the parameters behind the wrapper's back, and return the one by other leaves.

        A backward pass that the wrapper did not prepare would mark parameters as done that its next one waits for.

        Args:
            parameters: by default all.
            keep: whether the graph is needed again.
        """
        chosen = [one for one in (self.model.parameters() if parameters is None else parameters) if one.requires_grad]
        if not chosen and not leaves:
            return []
        with torch.autocast(loss.device.type, enabled=False):
            found = torch.autograd.grad(loss, [*chosen, *leaves], allow_unused=True, retain_graph=keep)
        for parameter, gradient in zip(chosen, found, strict=False):
            if gradient is not None:  # pyright: ignore[reportUnnecessaryComparison] - with allow_unused it may be
                self._put(parameter, gradient)
        return list(found[len(chosen) :])

    def add_sharded(self, loss: Tensor, leaves: Sequence[Tensor]) -> list[Tensor | None]:
        """Add a gradient to the parameters, which is averaged over processes, and return the one by other leaves."""
        with torch.autocast(loss.device.type, enabled=False):
            (self.world.size * loss).backward()
        return [leaf.grad for leaf in leaves]

    def reduce(self, gradient: Tensor) -> None:
        """Exchange a gradient in place: the sum over processes, or the mean where sharded ones become it, too."""
        self.world.all_reduce_sum_in_place(gradient)
        if self.model.sharded:
            gradient /= self.world.size

    @staticmethod
    def _put(parameter: nn.Parameter, gradient: Tensor) -> None:
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def all_reduce_others(self, measured: Collection[nn.Parameter]) -> None:
        """Add up over processes what was not taken apart, and what is not sharded."""
        if self.world.size == 1:
            return
        found = (parameter for parameter in self.model.parameters() if not is_sharded(parameter))
        others = [parameter for parameter in found if parameter not in measured]
        counts = self.world.all_reduce_sum([float(parameter.grad is not None) for parameter in others])
        used = [parameter for parameter, count in zip(others, counts, strict=True) if count]
        vectors = [parameter for parameter in used if parameter.ndim < 2]  # many, and small: in one exchange
        for listed in (vectors, *([parameter] for parameter in used if parameter.ndim > 1)):
            self._exchange(listed)

    def _exchange(self, parameters: Sequence[nn.Parameter]) -> None:
        """Exchange the gradients of parameters together."""
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
        if len(gradients) > 1:
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            self.reduce(flat)
            pieces = flat.split([gradient.numel() for gradient in gradients])
            gradients = [piece.view_as(one) for one, piece in zip(parameters, pieces, strict=True)]
        elif gradients:
            self.reduce(gradients[0])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
