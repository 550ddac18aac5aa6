"""For how long training waits for its checkpoints, written in the background and at once.

    python -m benchmarks.checkpoints --steps 240 --every 60

One model of BERT's base size with random weights (`--layers 12`), trained with AdamW on short texts: in the background,
as polytask saves, and waiting for each checkpoint, as it did before. Printed are the seconds between two saves, what of
them training waited, how long the writing took, and an update's seconds while something is written and otherwise.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.random_base import random_job, write_encoder
from benchmarks.training import assembled
from polytask.training.checkpoint import Checkpoint, Checkpoints
from polytask.training.distribution import World
from polytask.training.events import Events
from polytask.training.loop import Trainer


@dataclass
class Times:
    """Seconds.

    Attributes:
        began, paused: of each save: when it began, and how long training waited.
        written: of each write.
        beside, alone: of updates while something was written, and otherwise.
    """

    began: list[float] = field(default_factory=list[float])
    paused: list[float] = field(default_factory=list[float])
    written: list[float] = field(default_factory=list[float])
    beside: list[float] = field(default_factory=list[float])
    alone: list[float] = field(default_factory=list[float])


class TimedCheckpoints(Checkpoints):
    """Notes how long training waits, and how long writing takes."""

    def __init__(self, plain: Checkpoints, times: Times, *, at_once: bool) -> None:
        super().__init__(plain.folder, plain.identity, plain.limit)
        self._times, self._at_once = times, at_once
        self.writing = False

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        began = time.perf_counter()
        super().save(step, checkpoint)
        if self._at_once:
            self.wait()
        self._times.began.append(began)
        self._times.paused.append(time.perf_counter() - began)

    def _write(self, *given: Any, **facts: Any) -> None:
        began, self.writing = time.perf_counter(), True
        super()._write(*given, **facts)
        self._times.written.append(time.perf_counter() - began)
        self.writing = False


def measure(values: dict[str, Any], folder: Path, *, at_once: bool) -> Times:
    times = Times()
    assembly = assembled(values)
    with Events(None) as events:
        trainer = assembly.trainer(World(0, 1), folder, events)
        kept = trainer.parts.checkpoints
        assert kept is not None
        timed = TimedCheckpoints(kept, times, at_once=at_once)
        trainer.parts.__dict__["checkpoints"] = timed
        trainer.state.snapshots.__dict__["_checkpoints"] = timed
        update = Trainer.update

        def timed_update(self: Trainer) -> Any:
            began, beside = time.perf_counter(), timed.writing
            done = update(self)
            if timed.writing == beside:
                (times.beside if beside else times.alone).append(time.perf_counter() - began)
            return done

        Trainer.update = timed_update  # type: ignore[method-assign]
        try:
            trainer.run()
        finally:
            Trainer.update = update  # type: ignore[method-assign]
    return times


def middle(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})" if values else "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--every", type=int, default=60)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        "| saved | s between two saves | s waited a save | share | s of a write | s an update beside a write | alone |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        encoder = write_encoder(folder / "encoder", arguments.layers)
        values = random_job(folder, encoder, tasks=1, rows=4 * arguments.steps, words=12, tokens=16)
        values["train"] = {
            "max_steps": arguments.steps, "save_steps": arguments.every, "epochs": 10, "batch_size": 4,
            "evaluations_per_epoch": 1,
        }  # fmt: skip
        for arm, at_once in (("in the background", False), ("at once", True)):
            times = measure(values, folder / arm.replace(" ", "-"), at_once=at_once)
            apart = [later - earlier for earlier, later in zip(times.began, times.began[1:], strict=False)]
            # The last save comes with the evaluation at the end, and the first has none before it.
            share = sum(times.paused[1:-1]) / max(sum(apart[:-1]), 1e-9)
            print(
                f"| {arm} | {middle(apart[:-1])} | {middle(times.paused[1:-1])} | {100 * share:.1f} % | "
                f"{middle(times.written)} | {middle(times.beside)} | {middle(times.alone)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
