"""Steps of a tiny model under any sharing, and what each task's gradient is on its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from polytask.assemble import assemble
from polytask.assembly import Assembly
from polytask.balance import Balancer, SumOptions
from polytask.config import validate
from polytask.data.batch import Batch
from polytask.data.stream import DrawnRow
from polytask.training.distribution import World
from polytask.training.gradient import Differentiator
from stacks import perturb

Job = Callable[..., dict[str, Any]]
TASKS = ("sentiment", "topic", "entities")
WEIGHTS = {"sentiment": 1.0, "topic": 0.3, "entities": 5.0}
ONES = dict.fromkeys(TASKS, 1.0)
BRANCH = {"strategy": "partial", "branches": [{"from_layer": 2, "groups": [["sentiment", "topic"], ["entities"]]}]}
SHARINGS: dict[str, dict[str, Any]] = {
    "global": {"strategy": "global"},
    "partial": BRANCH,
    "own layers": {"strategy": "partial", "shared_layers": 0},
    "independent": {"strategy": "independent"},
    "lora": {**BRANCH, "kind": "lora", "rank": 2},
    "adapter": {**BRANCH, "kind": "adapter", "rank": 2},
    "soft": {**BRANCH, "kind": "soft", "strength": 0.1},
    "shared heads": {"strategy": "global", "share_heads": [["sentiment", "topic"]]},
}
MIXTURES: dict[str, dict[str, Any]] = {
    "mmoe": {"strategy": "mmoe", "from_layer": 2, "experts": 2},
    "ple": {"strategy": "ple", "from_layer": 2, "shared_experts": 1, "task_experts": 1},
    "cross_stitch": {"strategy": "cross_stitch", "from_layer": 2},
}
# Readings that train what is read: a task's gradient reaches other tasks' own layers and heads.
CASCADES: dict[str, dict[str, Any]] = {
    "cascade": {"strategy": "partial", "shared_layers": 1},
    "cascade apart": {"strategy": "independent"},
}
ALL = {**SHARINGS, **MIXTURES, **CASCADES}


def build(job: Job, name: str = "partial", shared: bool = True) -> Assembly:
    """Assemble a model without dropout in which no two weights are equal."""
    values = {**job(shared=shared), "sharing": ALL[name]}
    if name == "shared heads":
        values["tasks"]["topic"]["label"] = "sentiment"
        values["tasks"]["topic"]["data"] = values["tasks"]["sentiment"]["data"]
    if name in CASCADES:
        reads = {"sentiment": ["topic"], "entities": ["topic", "sentiment"]}
        for task, needs in reads.items():
            found = {"needs": needs, "reads": dict.fromkeys(needs, "probabilities"), "detach_reads": False}
            values["tasks"][task] |= found
    assembly = assemble(validate(values))
    perturb(assembly.model, 1)
    assembly.model.eval()
    return assembly


def batches_of(
    assembly: Assembly, pieces: int = 1, tasks: Sequence[str] = TASKS, *, apart: bool = False
) -> list[Batch]:
    """Rows of every source, each with those of the tasks whose label it carries, in so many pieces.

    Args:
        apart: whether each task has batches of its own.
    """
    rows: list[DrawnRow] = []
    for number, source in enumerate(assembly.sources["train"]):
        for row in range(6):
            carried = tuple(task for task in source.tasks if row in source.carries[task] and task in tasks)
            if carried:
                rows.append(DrawnRow(number, row, carried))
    by_task = [[replace(row, tasks=(task,)) for row in rows if task in row.tasks] for task in tasks]
    collate, sources = assembly.collator().from_sources, assembly.sources["train"]
    return [
        collate(sources, found[start::pieces]) for found in (by_task if apart else [rows]) for start in range(pieces)
    ]


def differentiator(
    assembly: Assembly, weights: Mapping[str, float] = WEIGHTS, balancer: Balancer | None = None
) -> Differentiator:
    chosen = Balancer(SumOptions(), weights, seed=1) if balancer is None else balancer
    return Differentiator(assembly.model, assembly.tasks, chosen, World(0, 1), nullcontext)


def taken(assembly: Assembly) -> dict[str, Tensor]:
    """Take the gradients out of the parameters."""
    found = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in assembly.model.named_parameters()
    }
    assembly.model.zero_grad(set_to_none=True)
    return found


def mean_loss(assembly: Assembly, name: str, batches: Sequence[Batch]) -> Tensor:
    """Return a task's mean loss over its rows of some batches."""
    task = assembly.tasks[name]
    own = [batch.only(name) for batch in batches if name in batch.targets]
    losses = [task.loss(assembly.model(batch)[name], batch.targets[name]) for batch in own]
    return torch.stack(losses).sum() / sum(task.loss_denominator(batch.targets[name]) for batch in own)
