"""What a balancer costs: the time of an update, beside that of the sum, on the three-task job.

    python -m benchmarks.balancing --data ../shared/data --rounds 9

Every method and the sum update models of their own on the same rows, in turn, in one process; the figure is the
median of the ratios. `naive` is what multi-task libraries do for a gradient method: one forward pass of the mixed
batch, then a backward pass for each task through all of it, whole gradients side by side, and their inner products.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks.training import assembled, write_job
from polytask.balance import BALANCERS
from polytask.model.device import autocast
from polytask.training.distribution import World
from polytask.training.events import Events
from polytask.training.loop import Trainer

# krum compares more than three tasks' gradients only to pick one of them, and costs what the others cost.
DEFAULT = [name for name in BALANCERS if name not in ("sum", "auto")]


def trainer_of(values: dict[str, Any], **changed: dict[str, Any]) -> Trainer:
    return assembled({**values, **changed}).trainer(World(0, 1), None, Events(None))


def naive_update(trainer: Trainer) -> None:
    """An update with a backward pass a task through the mixed batch."""
    parts = trainer.parts
    batch = trainer.rows.batches(trainer.rows.draw())[0]
    trainer.state.wrapped.train()
    parameters = list(parts.model.parameters())
    with autocast(parts.device, parts.options.precision):
        outputs = parts.model(batch)
        losses = [parts.tasks[task].loss(found, batch.targets[task]) for task, found in outputs.items()]
    rows: list[torch.Tensor] = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        found = cast("Sequence[torch.Tensor | None]", gradients)
        flat = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        rows.append(torch.cat([gradient.flatten() for gradient in flat]))
    matrix = torch.stack(rows)
    gram = matrix @ matrix.T
    weights = torch.linalg.pinv(gram) @ gram.diagonal().sqrt()
    combined = (weights / weights.sum()) @ matrix
    for parameter, gradient in zip(parameters, combined.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = gradient.view_as(parameter)
    torch.nn.utils.clip_grad_norm_(parameters, parts.options.max_grad_norm)
    trainer.state.optimizer.step()
    trainer.state.optimizer.zero_grad(set_to_none=True)


def timed(update: Callable[[], object]) -> float:
    began = time.perf_counter()
    update()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+", default=[*DEFAULT, "naive"])
    options = parser.parse_args()
    print("| method | ms an update | sum | ratio (min-max) |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        values = write_job(options.data.resolve(), Path(name), 600)
        for method in options.only:
            chosen = {"method": "sum" if method == "naive" else method}
            plain, other = trainer_of(values), trainer_of(values, balance=chosen)
            update = other.update if method != "naive" else lambda trainer=other: naive_update(trainer)
            pairs = [(timed(plain.update), timed(update)) for _ in range(options.rounds + 2)][2:]
            ratios = sorted(ours / theirs for theirs, ours in pairs)
            middle = [1000 * statistics.median(column) for column in zip(*pairs, strict=True)]
            shown = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f}-{ratios[-1]:.3f})"
            print(f"| {method} | {middle[1]:.1f} | {middle[0]:.1f} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
