"""Progressive layered extraction (PLE): Tang et al. 2020, "Progressive Layered Extraction (PLE): A Novel Multi-Task
Learning Model for Personalized Recommendations", sections 4.1 (CGC, one level) and 4.2.

Every replaced layer is one extraction level. Task k's gate reads task k's stream and weighs its own and the shared
experts; below the top level a shared gate reads the shared stream and weighs all experts. An expert is a copy of the
layer; gates weigh for each token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from polytask.model.forward_context import (
    ContextHolder,
    ForwardContext,
    LayerArguments,
    RowGroup,
    first_of,
    joined,
    like,
)
from polytask.model.mixing.mixer import ExpertGate, MixingLayer, Towers, copies, mixture, rows_of
from polytask.model.shared_layer import SharedLayer


class Ple(MixingLayer):
    """One extraction level. Between levels the states are the tasks' streams, in their order, then the shared one."""

    def __init__(
        self,
        layer: nn.Module,
        towers: Towers,
        own: int,
        shared: int,
        width: int,
        holder: ContextHolder,
        *,
        low: bool,
        above: int,
    ) -> None:
        super().__init__(layer, towers.tasks, holder, low=low, top=above == 0)
        self.above = above
        self.shared = copies(layer, shared)
        # The top streams of pruned tasks are not read.
        self.extracted = towers.answered if self.top else towers.tasks
        self.own = nn.ModuleDict({f"task-{task}": copies(layer, own) for task in self.extracted})
        self.gates = nn.ModuleDict({f"task-{task}": ExpertGate(width, own + shared) for task in self.extracted})
        # The shared stream is not read at the top, or if there are no shared experts.
        self.shared_gate = ExpertGate(width, own * len(self.tasks) + shared) if shared and not self.top else None

    @classmethod
    def replacements(
        cls,
        layers: Sequence[nn.Module],
        towers: Towers,
        width: int,
        holder: ContextHolder,
        options: Mapping[str, float],
    ) -> list[SharedLayer]:
        own, shared = int(options["task_experts"]), int(options["shared_experts"])
        last = len(layers) - 1
        return [
            cls(layer, towers, own, shared, width, holder, low=index == 0, above=last - index)
            for index, layer in enumerate(layers)
        ]

    @property
    def runs(self) -> int:
        return len(self.shared) + sum(
            len(experts) for experts in self.own.values() if isinstance(experts, nn.ModuleList)
        )

    @classmethod
    def needed(cls, towers: Towers, levels: int, options: Mapping[str, float]) -> tuple[str, ...]:
        meet = levels > 1 and options["shared_experts"] > 0 and options["task_experts"] > 0
        return towers.tasks if meet else towers.answered  # they meet in the shared stream below the top

    def forward(self, states: Tensor, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Run one extraction level.

        Below the top all experts run on all rows: the shared stream of a row must not depend on which tasks are in the
        batch. At the top a task's experts run on its own rows.

        Args:
            states: shape (rows, tokens, width) at the lowest level, then the states of all streams, concatenated.
        """
        context = self.holder.current
        states = context.entered(states)
        everyone = self.everyone(context)
        streams = self.streams(context, states, len(self.tasks) + 1)
        outputs: list[Any] = []

        def run(experts: nn.Module, group: RowGroup, inputs: Tensor) -> list[Tensor]:
            assert isinstance(experts, nn.ModuleList)
            results = [
                self.call_group(expert, context, group, inputs, LayerArguments(args, options)) for expert in experts
            ]
            outputs.extend(results[:1])
            return [first_of(output) for output in results]

        shared = run(self.shared, everyone, streams[-1])
        if self.top:
            mixed = [self._top(context, task, group, streams, shared, run) for task, group in self.leave(context)]
        else:
            own = [
                run(self.own[f"task-{task}"], everyone, stream)
                for task, stream in zip(self.tasks, streams, strict=False)
            ]
            mixed = [
                mixture(self.gates[f"task-{task}"](stream), [*experts, *shared])
                for task, stream, experts in zip(self.tasks, streams, own, strict=False)
            ]
            all_experts = [expert for experts in own for expert in experts] + shared
            mixed.append(self._shared_stream(streams[-1], all_experts))
        return like(outputs[0], joined(context.groups, mixed) if self.top else torch.cat(mixed))

    def _shared_stream(self, stream: Tensor, experts: Sequence[Tensor]) -> Tensor:
        return stream if self.shared_gate is None else mixture(self.shared_gate(stream), experts)

    def _top(
        self,
        context: ForwardContext,
        task: str,
        group: RowGroup,
        streams: Sequence[Tensor],
        shared: Sequence[Tensor],
        run: Any,  # noqa: ANN401
    ) -> Tensor:
        everyone = self.everyone(context)
        stream = rows_of(group, everyone, streams[self.tasks.index(task)])
        experts = run(self.own[f"task-{task}"], group, stream)
        rows = [rows_of(group, everyone, expert) for expert in shared]
        return mixture(self.gates[f"task-{task}"](stream), [*experts, *rows])

    def users(self) -> Iterator[tuple[list[nn.Parameter], frozenset[str]]]:
        everyone = frozenset(self.tasks)
        yield list(self.shared.parameters()), everyone
        if self.shared_gate is not None:
            yield list(self.shared_gate.parameters()), everyone
        for task in self.extracted:
            # A task's experts affect the others through the shared stream; its gate, through its experts a level up.
            alone = frozenset([task])
            own = list(self.own[f"task-{task}"].parameters())
            yield own, alone if self.shared_gate is None else everyone
            reaches = self.shared_gate is not None and self.above > 1 and bool(own)
            yield list(self.gates[f"task-{task}"].parameters()), everyone if reaches else alone
