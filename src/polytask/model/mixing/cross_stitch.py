"""Cross-stitch units: Misra et al. 2016, "Cross-stitch Networks for Multi-task Learning", section 3.

One tower per task; after every layer the towers' states are mixed, x_t = sum_s a_ts x_s, with one unit per layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from polytask.model.forward_context import ContextHolder, LayerArguments, first_of, joined, like
from polytask.model.mixing.mixer import MixingLayer, Towers, copies, mixture, rows_of
from polytask.model.shared_layer import SharedLayer


class CrossStitch(MixingLayer):
    """One layer of every tower, and the cross-stitch unit above it."""

    def __init__(
        self,
        layer: nn.Module,
        tasks: Sequence[str],
        own_weight: float,
        rate: float,
        holder: ContextHolder,
        *,
        low: bool,
        top: bool,
    ) -> None:
        super().__init__(layer, tasks, holder, low=low, top=top)
        self.rate = rate
        self.towers = copies(layer, len(tasks))
        others = (1.0 - own_weight) / max(1, len(tasks) - 1)
        first = torch.full((len(tasks), len(tasks)), others)
        self.unit = nn.Parameter(first.fill_diagonal_(own_weight if len(tasks) > 1 else 1.0))

    @classmethod
    def replacements(
        cls,
        layers: Sequence[nn.Module],
        towers: Towers,
        width: int,
        holder: ContextHolder,
        options: Mapping[str, float],
    ) -> list[SharedLayer]:
        del width
        last = len(layers) - 1
        return [
            cls(layer, towers.tasks, options["own_weight"], options["rate"], holder, low=index == 0, top=index == last)
            for index, layer in enumerate(layers)
        ]

    @classmethod
    def needed(cls, towers: Towers, levels: int, options: Mapping[str, float]) -> tuple[str, ...]:
        del levels, options
        return towers.tasks  # every unit mixes all towers

    def forward(self, states: Tensor, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Run every tower on all rows, since every task reads all towers.

        Args:
            states: shape (rows, tokens, width) at the lowest layer, then the states of all towers, concatenated.
        """
        context = self.holder.current
        states = context.entered(states)
        everyone = self.everyone(context)
        streams = self.streams(context, states, len(self.tasks))
        extras = LayerArguments(args, options)
        outputs = [
            self.call_group(tower, context, everyone, x, extras) for tower, x in zip(self.towers, streams, strict=True)
        ]
        towers = [first_of(output) for output in outputs]
        if not self.top:
            return like(outputs[0], torch.cat([mixture(weights, towers) for weights in self.unit]))
        mixed = [
            mixture(self.unit[self.tasks.index(task)], [rows_of(group, everyone, tower) for tower in towers])
            for task, group in self.leave(context)
        ]
        return like(outputs[0], joined(context.groups, mixed))

    def users(self) -> Iterator[tuple[list[nn.Parameter], frozenset[str]]]:
        yield list(self.parameters()), frozenset(self.tasks)

    def rate_factors(self) -> dict[nn.Parameter, float]:
        """Return a higher rate for the units than for the towers (section 5.1: two to three orders of magnitude)."""
        return {self.unit: self.rate}
