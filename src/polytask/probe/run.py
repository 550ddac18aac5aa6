"""The probe: one short run with everything shared that measures the tasks' relatedness."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from polytask.assemble import assemble
from polytask.assembly import Assembly
from polytask.balance import SumOptions
from polytask.config import Config
from polytask.data.batch import Batch
from polytask.data.stream import DrawnRow
from polytask.errors import ConfigError
from polytask.model.device import autocast
from polytask.model.parameters import sharing_tasks
from polytask.model.shared_layer import size
from polytask.probe.budget import BOTH_WAYS, ProbeBudget, plan_budget
from polytask.probe.heads import HeadInputs, fit_heads
from polytask.probe.measuring import LookAhead, Probing
from polytask.progress import Bar
from polytask.relatedness.evidence import Evidence
from polytask.relatedness.record import Cost
from polytask.schedule import ParallelOptions
from polytask.sharing import GlobalOptions
from polytask.training.distribution import World
from polytask.training.events import Events
from polytask.training.loop import Trainer
from polytask.training.rates import encoder_rate

# Batch size for computing the heads' inputs.
HEAD_BATCH = 64


@dataclass(frozen=True)
class Probe:
    """The result of a probe.

    Attributes:
        layers: number of encoder layers.
        budget: the budget that was used.
    """

    assembly: Assembly
    evidence: Evidence
    layers: int
    cost: Cost
    budget: ProbeBudget


def probe(config: Config) -> Probe:
    """Run a probe of a configuration. Raises ConfigError if there is nothing to relate."""
    mute = [name for name, task in config.tasks.items() if not task.answers]
    if mute:
        raise ConfigError(f"tasks: found {', '.join(mute)}, whose relatedness is not measured; leave it out here")
    if len(config.tasks) < 2:
        raise ConfigError(f"tasks: found {', '.join(config.tasks)} alone; relatedness is between two or more tasks")
    assembly = assemble(probe_config(config))
    joint = joint_updates(config, assembly)
    batch_size = assembly.workload.batch_size
    joint_passes = BOTH_WAYS * joint * batch_size
    model = assembly.model
    trained = sharing_tasks(model)
    if len(trained) < len(config.tasks):
        apart = ", ".join(task for task in config.tasks if task not in trained)
        raise ConfigError(f"sharing: {apart} would share nothing that is trained, so there is no gradient to compare")
    budget = plan_budget(
        joint_passes=joint_passes,
        tasks=len(config.tasks),
        batch_size=batch_size,
        most_rows=max(assembly.workload.sizes.values()),
        numbers=sum(size(level) for level in model.trunks[0].levels),
    )
    return _Run(assembly, budget).run(joint_passes)


def probe_config(config: Config) -> Config:
    """Return the probe's configuration: full sharing, parallel, plain sum; no task waits for or reads another."""
    free = {
        name: task.model_copy(update={"needs": (), "reads": {}, "gate": None}) for name, task in config.tasks.items()
    }
    train = {"max_steps": None, "patience": None, "best_of_each_task": False, "report_to": ()}
    update = {
        "tasks": free,
        "sharing": GlobalOptions(strategy="global", share_heads=config.sharing.share_heads),
        "schedule": ParallelOptions(proportions="uniform"),
        "balance": SumOptions(),
        "train": config.train.model_copy(update=train),
    }
    return config.model_copy(update=update)


def joint_updates(config: Config, assembly: Assembly) -> int:
    """Return the number of updates of one joint run of the configuration itself."""
    workload = replace(
        assembly.workload,
        needs={name: task.needs for name, task in config.tasks.items()},
        gates={name: task.gate for name, task in config.tasks.items() if task.gate is not None},
    )
    limit = config.schedule.build(workload).limit
    return min(limit, config.train.max_steps) if config.train.max_steps else limit


class _Run:
    """One probe run."""

    def __init__(self, assembly: Assembly, budget: ProbeBudget) -> None:
        self.budget = budget
        self.updates = budget.updates * (budget.points - 1)
        options = assembly.config.train.model_copy(update={"max_steps": max(1, self.updates)})
        config = assembly.config.model_copy(update={"train": options})
        self.assembly = replace(assembly, config=config)
        self.trainer: Trainer = self.assembly.trainer(World(0, 1), None, Events(None))
        self.tasks = list(assembly.tasks)
        self.passes = 0

    def run(self, joint_passes: int) -> Probe:
        began = time.monotonic()
        model, budget = self.assembly.model, self.budget
        probing = Probing(
            model, self.assembly.tasks, rate=encoder_rate(self.assembly.config.train), points=budget.points
        )
        look_aheads: list[LookAhead] = []
        with Bar("relating " + ", ".join(self.tasks), 1 + self.updates + budget.points) as bar:
            self._fit_heads()
            bar.advance(budget.head_rows * len(self.tasks), 0)
            for point in range(budget.points):
                for _ in range(budget.updates if point else 0):
                    rows, tokens, _ = self.trainer.update()
                    self.trainer.state.step += 1
                    self.passes += BOTH_WAYS * rows
                    bar.advance(rows, tokens)
                batch, ahead = self._draw(budget.point_rows), self._draw(budget.ahead_rows)
                look_aheads.append(probing.measure(batch, ahead, point))
                self.passes += BOTH_WAYS * _served(batch) + (1 + len(self.tasks)) * _served(ahead)
                bar.advance(_served(batch), batch.tokens)
        evidence = Evidence(
            tuple(self.tasks),
            probing.products(),
            np.array([look_ahead.before for look_ahead in look_aheads]),
            np.array([look_ahead.after for look_ahead in look_aheads]),
        )
        cost = Cost(self.passes, joint_passes, time.monotonic() - began)
        return Probe(self.assembly, evidence, model.layers, cost, budget)

    def _fit_heads(self) -> None:
        """Encode rows of every task once, and fit the heads to them."""
        model = self.assembly.model
        model.eval()
        precision = self.assembly.config.train.precision
        stored: list[HeadInputs] = []
        left = self.budget.head_rows
        at_a_time = min(HEAD_BATCH, left)
        with torch.no_grad():
            while left > 0:
                batch = self._draw(min(left, at_a_time))
                with autocast(self.assembly.device, precision):
                    stored.append(HeadInputs(model.pooled(batch), batch.targets, batch.row_weights))
                self.passes += batch.rows
                left -= at_a_time
        fit_heads(model, self.assembly.tasks, stored)

    def _draw(self, rows: int) -> Batch:
        """Draw this number of rows for each task from the training streams."""
        parts = self.trainer.parts
        drawn: Sequence[DrawnRow] = parts.streams.draw_each(dict.fromkeys(self.tasks, rows))
        return parts.collator.from_sources(parts.sources, drawn).to(parts.device)


def _served(batch: Batch) -> int:
    """Return the rows of a batch, counted once for each task that they serve."""
    return sum(len(rows.rows) for chunk in batch.chunks for rows in chunk.tasks.values())
