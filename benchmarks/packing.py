"""Time of an update without padding, relative to one that computes it: the same configuration, alternating.

    python -m benchmarks.packing --data ../shared/data --threads 2

Padded updates are cut into several passes where that costs less than the padding, as for families that cannot leave it
out. Prints medians over blocks of eight updates (one of which compares gradients), and the share of padding.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.recipe import JOBS, Cut
from benchmarks.suite import eight
from polytask.assemble import assemble
from polytask.config import validate
from polytask.model.device import pass_overhead
from polytask.training.distribution import World
from polytask.training.events import Events
from polytask.training.loop import Trainer

BLOCK = 8
PROBLEMS = {**{name: JOBS[name] for name in ("three", "snips", "ewt", "corpus")}, "eight": eight}


@dataclass(frozen=True)
class Arm:
    """A trainer, and the seconds of its blocks."""

    trainer: Trainer
    seconds: list[float]

    def block(self) -> None:
        """Time a block of updates."""
        began = time.perf_counter()
        for _ in range(BLOCK):
            self.trainer.update()
            self.trainer.state.step += 1
        self.seconds.append(time.perf_counter() - began)


def arm(values: dict[str, Any], *, packs: bool) -> Arm:
    assembly = assemble(validate(values))
    assert assembly.model.packs
    for trunk in assembly.model.trunks:
        trunk.packs = packs
    trainer = assembly.trainer(World(0, 1), None, Events(None))
    collator = replace(trainer.parts.collator, overhead=pass_overhead(trainer.parts.device, packs=packs))
    trainer.parts = replace(trainer.parts, collator=collator)
    trainer.rows = type(trainer.rows)(trainer.parts)
    return Arm(trainer, [])


def padding(trainer: Trainer) -> tuple[float, float]:
    """Return padded tokens relative to tokens, and passes per update."""
    batches = [batch for _ in range(20) for batch in trainer.rows.batches(trainer.rows.draw())]
    tokens, padded = sum(batch.tokens for batch in batches), sum(batch.padded for batch in batches)
    return padded / tokens, sum(len(batch.chunks) for batch in batches) / 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--jobs", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.jobs:
            values = PROBLEMS[name](Cut(options.data.resolve(), Path(folder)))
            padded, packed = (arm(values, packs=packs) for packs in (False, True))
            for _ in range(options.blocks + 1):  # the first one warms up
                padded.block()
                packed.block()
            ratios = [new / old for new, old in zip(packed.seconds[1:], padded.seconds[1:], strict=True)]
            old, new = (1000 * statistics.median(one.seconds[1:]) / BLOCK for one in (padded, packed))
            share, passes = padding(padded.trainer)
            print(
                f"{name}: padded {old:.0f} ms ({share:.2f} x the tokens, {passes:.1f} passes), packed {new:.0f} ms; "
                f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
