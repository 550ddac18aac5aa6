"""Multi-gate mixture of experts (MMoE): Ma et al. 2018, "Modeling Task Relationships in Multi-task Learning with
Multi-gate Mixture-of-Experts", section 4.2.

An expert is a copy of all replaced layers; the gate of task k reads the same input as the experts:
y_k = sum_i g_k(x)_i f_i(x), g_k(x) = softmax(W_k x), here for each token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from polytask.model.forward_context import ContextHolder, ForwardContext, LayerArguments, first_of, joined, like
from polytask.model.mixing.mixer import ExpertGate, MixingLayer, Towers, copies, mixture, rows_of
from polytask.model.shared_layer import SharedLayer


class Mmoe(MixingLayer):
    """One layer of every expert; the lowest layer has the gates, the highest one mixes."""

    def __init__(
        self,
        layer: nn.Module,
        tasks: Sequence[str],
        experts: int,
        width: int,
        holder: ContextHolder,
        *,
        low: bool,
        top: bool,
    ) -> None:
        super().__init__(layer, tasks, holder, low=low, top=top)
        self.experts = copies(layer, experts)
        self.gates = nn.ModuleDict({f"task-{task}": ExpertGate(width, experts) for task in tasks} if low else {})

    @classmethod
    def replacements(
        cls,
        layers: Sequence[nn.Module],
        towers: Towers,
        width: int,
        holder: ContextHolder,
        options: Mapping[str, float],
    ) -> list[SharedLayer]:
        last = len(layers) - 1
        count = int(options["experts"])
        return [
            cls(layer, towers.tasks, count, width, holder, low=index == 0, top=index == last)
            for index, layer in enumerate(layers)
        ]

    @property
    def runs(self) -> int:
        return len(self.experts)

    @classmethod
    def needed(cls, towers: Towers, levels: int, options: Mapping[str, float]) -> tuple[str, ...]:
        del levels, options
        return towers.answered  # experts belong to all tasks, gates to one

    def forward(self, states: Tensor, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Run every expert on all rows.

        Args:
            states: shape (rows, tokens, width) at the lowest layer, then the states of all experts, concatenated.
        """
        context = self.holder.current
        states = context.entered(states)
        everyone = self.everyone(context)
        streams = self.streams(context, states, len(self.experts))
        if self.low:
            context.kept["gates"] = self._gates(context, streams[0])
        outputs = [
            self.call_group(expert, context, everyone, x, LayerArguments(args, options))
            for expert, x in zip(self.experts, streams, strict=True)
        ]
        expert_states = [first_of(output) for output in outputs]
        if not self.top:
            return like(outputs[0], torch.cat(expert_states))
        gates = context.kept.pop("gates")
        mixed = [
            mixture(gates[task], [rows_of(group, everyone, expert) for expert in expert_states])
            for task, group in self.leave(context)
        ]
        return like(outputs[0], joined(context.groups, mixed))

    def _gates(self, context: ForwardContext, states: Tensor) -> dict[str, Tensor]:
        everyone = self.everyone(context)
        gates: dict[str, Tensor] = {}
        for task in context.tasks:
            group = context.group(frozenset([task]))
            assert group is not None
            gates[task] = self.gates[f"task-{task}"](rows_of(group, everyone, states))
        return gates

    def users(self) -> Iterator[tuple[list[nn.Parameter], frozenset[str]]]:
        yield list(self.experts.parameters()), frozenset(self.tasks)
        for task in self.tasks if self.low else ():
            yield list(self.gates[f"task-{task}"].parameters()), frozenset([task])
