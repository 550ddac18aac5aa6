"""How many rows pass the encoder for a label where cells are empty: counted, on a schedule and a stream alone.

python -m benchmarks.gaps
"""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

import numpy as np

from polytask.data.stream import Streams, strata
from polytask.schedule import SCHEDULES, Feedback, Workload

VARIANTS: dict[str, dict[str, Any]] = {
    "proportional": {"strategy": "parallel", "proportions": "proportional"},
    "uniform": {"strategy": "parallel", "proportions": "uniform"},
    "temperature": {"strategy": "parallel", "proportions": "temperature"},
    "a: 4, b: 2, c: 1": {"strategy": "parallel", "proportions": {"a": 4, "b": 2, "c": 1}},
    "sequential, replay 0.1": {"strategy": "sequential", "replay": 0.1},
}


class Rows(SimpleNamespace):
    """A source of so many rows."""

    def __len__(self) -> int:
        return len(self.lengths)


def half_empty(rows: int, empty: float) -> Any:
    """Return a source of three tasks in which each cell is empty with the same probability."""
    generator = np.random.default_rng(13)
    filled = generator.random((3, rows)) >= empty
    carries = {task: np.flatnonzero(cells).astype(np.int32) for task, cells in zip("abc", filled, strict=True)}
    lengths = generator.integers(5, 60, rows).astype(np.int32)
    return Rows(tasks=tuple("abc"), lengths=lengths, carries=carries, drawn=carries)


def passes_a_label(source: Any, options: dict[str, Any], batch_size: int, epochs: float) -> tuple[float, float]:
    """Return the rows that passed for a label that was trained on, and the rows of an update."""
    sizes = {task: len(source.carries[task]) for task in source.tasks}
    workload = Workload(sizes, (strata(source),), batch_size, epochs)
    schedule = SCHEDULES[options["strategy"]].model_validate(options).build(workload)
    streams = Streams([source], seed=13, block=8)
    rows = labels = 0
    while schedule.finished is None and schedule.step < schedule.limit:
        step = schedule.next()
        drawn = streams.draw(step.portions)
        schedule.observe(Feedback(step.number, {}))
        rows, labels = rows + len(drawn), labels + sum(len(one.tasks) for one in drawn)
    return rows / labels, rows / schedule.step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--empty", type=float, default=0.5)
    options = parser.parse_args()
    source = half_empty(options.rows, options.empty)
    print("| proportions | encoder rows a label | encoder rows an update |\n|---|---|---|")
    for name, values in VARIANTS.items():
        passed, update = passes_a_label(source, values, batch_size=32, epochs=3)
        print(f"| {name} | {passed:.3f} | {update:.1f} |")


if __name__ == "__main__":
    main()
