"""What a schedule costs: the time in which it decides a step, beside the time of the step.

    python -m benchmarks.scheduling --data ../shared/data

A decision is `next` and `observe`. The step is one update of the three-task job (32 rows); at 64 tasks the decisions
are timed for 64 sources and 64 rows a step, and set beside twice that time, as a step of 64 rows takes twice as long.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.balancing import timed, trainer_of
from benchmarks.training import write_job
from polytask.schedule import SCHEDULES, Feedback, Workload
from polytask.terms import Stratum

STEPS = 300
VARIANTS: dict[str, dict[str, Any]] = {
    "parallel": {"strategy": "parallel"},
    "parallel annealed": {"strategy": "parallel", "proportions": "annealed"},
    "sequential, replay 0.1": {"strategy": "sequential", "replay": 0.1},
    "dynamic loss_rate": {"strategy": "dynamic", "policy": "loss_rate"},
    "dynamic bandit": {"strategy": "dynamic", "policy": "bandit"},
    "dynamic stop_and_go": {"strategy": "dynamic", "policy": "stop_and_go"},
}


def seconds_a_decision(options: dict[str, Any], tasks: int, rows: int) -> float:
    names = [f"task{number}" for number in range(tasks)]
    sizes = {name: 1000 + 100 * number for number, name in enumerate(names)}
    workload = Workload(sizes, tuple((Stratum((name,), size),) for name, size in sizes.items()), rows, epochs=100)
    schedule = SCHEDULES[options["strategy"]].model_validate(options).build(workload)
    began = time.perf_counter()
    for _ in range(STEPS):
        step = schedule.next()
        schedule.observe(Feedback(step.number, {name: 1.0 / (1 + step.number) for name in step.rows}))
    return (time.perf_counter() - began) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        trainer = trainer_of(write_job(options.data.resolve(), Path(name), 600))
        step = statistics.median([timed(trainer.update) for _ in range(options.rounds + 2)][2:])
    print(f"one update of 32 rows: {1000 * step:.1f} ms\n")
    print("| schedule | ms at 3 tasks | of a step | ms at 64 tasks | of a step |\n|---|---|---|---|---|")
    for variant, values in VARIANTS.items():
        few, many = (
            statistics.median(seconds_a_decision(values, tasks, rows) for _ in range(3))
            for tasks, rows in ((3, 32), (64, 64))
        )
        print(f"| {variant} | {1000 * few:.2f} | {few / step:.2%} | {1000 * many:.2f} | {many / (2 * step):.2%} |")


if __name__ == "__main__":
    main()
