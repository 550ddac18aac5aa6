"""Multi-gate mixture of experts (MMoE): Ma et al. 2018, "Modeling Task Relationships in Multi-task Learning with
Multi-gate Mixture-of-Experts", section 4.2.

An expert is the replaced layers, copied as a whole; the gate of task k reads what the experts read:
y_k = sum_i g_k(x)_i f_i(x), g_k(x) = softmax(W_k x), here for each token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from polytask.model.lanes import Pass, Route, first_of, joined, like
from polytask.model.mixing.mixer import Gate, MixingSlot, Towers, copies, mixture, rows_of
from polytask.model.slot import Extras, Slot


class Mmoe(MixingSlot):
    """One layer of every expert; the lowest slot has the gates, the top one mixes."""

    def __init__(
        self, layer: nn.Module, tasks: Sequence[str], experts: int, width: int, route: Route, *, low: bool, top: bool
    ) -> None:
        super().__init__(layer, tasks, route, low=low, top=top)
        self.experts = copies(layer, experts)
        self.gates = nn.ModuleDict({f"task-{task}": Gate(width, experts) for task in tasks} if low else {})

    @classmethod
    def slots(
        cls, layers: Sequence[nn.Module], towers: Towers, width: int, route: Route, options: Mapping[str, float]
    ) -> list[Slot]:
        last = len(layers) - 1
        count = int(options["experts"])
        return [
            cls(layer, towers.tasks, count, width, route, low=index == 0, top=index == last)
            for index, layer in enumerate(layers)
        ]

    @classmethod
    def needed(cls, towers: Towers, levels: int, options: Mapping[str, float]) -> tuple[str, ...]:
        del levels, options
        return towers.answered  # experts belong to all tasks, gates to one

    def forward(self, states: Tensor, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Run every expert on all rows.

        Args:
            states: rows x tokens x width at the lowest slot, later those of all experts one after another.
        """
        now = self.route.current
        everyone = self.everyone(now)
        given = self.streams(now, states, len(self.experts))
        if self.low:
            now.kept["gates"] = self._gates(now, given[0])
        outputs = [
            self.call_lane(expert, now, everyone, x, Extras(args, options))
            for expert, x in zip(self.experts, given, strict=True)
        ]
        found = [first_of(output) for output in outputs]
        if not self.top:
            return like(outputs[0], torch.cat(found))
        gates = now.kept.pop("gates")
        mixed = [
            mixture(gates[task], [rows_of(lane, everyone, expert) for expert in found])
            for task, lane in self.leave(now)
        ]
        return like(outputs[0], joined(now.lanes, mixed))

    def _gates(self, now: Pass, states: Tensor) -> dict[str, Tensor]:
        everyone = self.everyone(now)
        found: dict[str, Tensor] = {}
        for task in now.tasks:
            lane = now.lane(frozenset([task]))
            assert lane is not None
            found[task] = self.gates[f"task-{task}"](rows_of(lane, everyone, states))
        return found

    def users(self) -> Iterator[tuple[list[nn.Parameter], frozenset[str]]]:
        yield list(self.experts.parameters()), frozenset(self.tasks)
        for task in self.tasks if self.low else ():
            yield list(self.gates[f"task-{task}"].parameters()), frozenset([task])
