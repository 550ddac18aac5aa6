"""The components of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from polytask.balance import Balancer
from polytask.data.collator import Collator
from polytask.data.encode import Source
from polytask.data.stream import Streams
from polytask.model.multitask import MultiTaskModel
from polytask.schedule import Schedule
from polytask.sharing import SharingPolicy
from polytask.tasks import Task
from polytask.training.checkpoint import Checkpoints
from polytask.training.distribution import World
from polytask.training.events import Events
from polytask.training.options import TrainOptions
from polytask.training.selection import DevScores, Rule


@dataclass(frozen=True)
class TrainerParts:
    """The components of a run; the composition root builds them."""

    model: MultiTaskModel
    tasks: Mapping[str, Task]
    sources: Sequence[Source]
    streams: Streams
    collator: Collator
    schedule: Schedule
    balancer: Balancer
    policy: SharingPolicy | None
    evaluate: Callable[[MultiTaskModel], DevScores]
    rule: Rule
    options: TrainOptions
    device: torch.device
    world: World
    checkpoints: Checkpoints | None
    events: Events

    @property
    def keeps_weights(self) -> bool:
        """Whether this process evaluates and keeps weights: the first one, or all if the model is sharded."""
        return self.world.is_main or self.model.sharded
