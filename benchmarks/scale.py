"""What deciding a run costs as tasks and rows grow: state, memory, the time to begin, to go on and to restart.

    python -m benchmarks.scale [--tasks 10 100 1000] [--rows 3 5 7 9] [--write]

The real streams, schedule and sharing plan, on sources that have sizes and no rows: nothing is read, no model is
there. Each case runs in a process of its own. Times are processor time of one thread. `--write` draws the curves of
`docs/scale.md`. Layouts:

* own: each task has a source of its own, all of the same size;
* shared: all rows carry the labels of all tasks, which go through them together;
* apart: the same, but every second task asks for half as many rows as the others.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Series, power_figure
from polytask.assembly import BLOCK_ROWS
from polytask.data.stream import WHOLE_ROWS, Streams, strata
from polytask.files import to_json
from polytask.schedule import Feedback, ParallelOptions, Schedule, Workload
from polytask.schedule.schedule import require_reachable
from polytask.sharing.plan import Plan, global_plan
from polytask.training.record import Exposures

LAYOUTS = ("own", "shared", "apart")
BATCH_SIZE, LAYERS, STEPS = 32, 12, 100
# With more tasks that stand apart in one source a step takes seconds: each compares what all others have still to see.
MOST_APART = 100
IMAGES = Path(__file__).parents[1] / "docs" / "images"


class Lengths:
    """Lengths that follow from a row's number: 3 to 63 tokens."""

    def __getitem__(self, rows: Any) -> Any:
        found: NDArray[np.int32] = (np.asarray(rows, dtype=np.int64) * 7919 % 61 + 3).astype(np.int32)
        return found if found.ndim else int(found)


class Rows(SimpleNamespace):
    """A source of so many rows, of which none is there."""

    def __len__(self) -> int:
        return self.rows

    def companions(self, row: int, tasks: Any) -> tuple[()]:
        del row, tasks
        return ()


def source(tasks: tuple[str, ...], rows: int) -> Any:
    """Return a source whose rows all carry the labels of some tasks."""
    return Rows(tasks=tasks, rows=rows, lengths=Lengths(), drawn=dict.fromkeys(tasks, range(rows)))


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        rows: of all sources.
        whole: whether the order of an epoch is held as a whole, whatever its size.
    """

    layout: str
    tasks: int
    rows: int
    whole: bool = False


@dataclass(frozen=True)
class Found:
    """Bytes of the state in a checkpoint, MiB that the process came to hold, and seconds of processor time."""

    state: int
    mib: float
    begin: float
    step: float
    restart: float


class Run:
    """A run without data and model: what decides its steps, and what its checkpoint says of that."""

    def __init__(self, case: Case) -> None:
        names = tuple(f"task{number}" for number in range(case.tasks))
        own = case.layout == "own"
        found = [source((name,), case.rows // case.tasks) for name in names] if own else [source(names, case.rows)]
        sizes = {name: len(one) for one in found for name in one.tasks}
        workload = Workload(sizes, tuple(strata(one) for one in found), BATCH_SIZE)
        halved = {name: 1.0 if place % 2 else 0.5 for place, name in enumerate(names)}
        options = ParallelOptions(proportions=halved) if case.layout == "apart" else ParallelOptions()
        require_reachable(options.build(workload))
        self.schedule: Schedule = options.build(workload)
        whole = case.rows if case.whole else WHOLE_ROWS
        self.streams = Streams(found, seed=13, block=BLOCK_ROWS, whole_rows=whole)
        self.exposure = Exposures(list(names), found)
        self.plan: Plan = global_plan(names, LAYERS)

    def step(self) -> None:
        """Decide a step and draw its rows."""
        step = self.schedule.next()
        self.exposure.count(self.streams.draw(step.portions))
        self.schedule.observe(Feedback(step.number, {}))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return {
            "schedule": self.schedule.state_dict(),
            "streams": self.streams.state_dict(),
            "exposure": self.exposure.state_dict(),
            "plan": self.plan.to_json(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self.schedule.load_state_dict(state["schedule"])
        self.streams.load_state_dict(state["streams"])
        self.exposure.load_state_dict(state["exposure"])
        self.plan = Plan.from_json(state["plan"])


def timed(call: Callable[[], Any], times: int = 1) -> float:
    """Return the seconds of processor time that a call takes, on average."""
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times


def measure(case: Case) -> Found:
    """Measure a case in this process: its start, then its steps from half an epoch on, then a restart from there."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    runs: list[Run] = []
    begin = timed(lambda: runs.append(Run(case)))
    run = runs[0]
    half: dict[str, Any] = {
        "schedule": run.schedule.state_dict(),
        "exposure": run.exposure.state_dict(),
        "plan": run.plan.to_json(),
    }
    half["schedule"]["step"] = run.schedule.steps_per_epoch // 2
    run.load({**half, "streams": [[stream.rows // 2 for stream in one] for one in run.schedule.workload.sources]})
    step = timed(run.step, STEPS)
    saved = to_json(run.state(), "checkpoint", indent=1)

    def restart() -> None:
        again = Run(case)
        again.load(json.loads(saved))
        again.step()

    restarted = timed(restart)
    mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return Found(len(saved), mib, begin, step, restarted)


def apart(case: Case) -> Found:
    """Measure a case in a process of its own."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(measure, (case,))


def row(case: Case, found: Found) -> str:
    """Return a row of the table."""
    name = f"{case.layout}, order held as a whole" if case.whole else case.layout
    return (
        f"| {name} | {case.tasks:,} | {case.rows:,} | {found.state / 1000:,.1f} | {found.mib:,.0f} | "
        f"{found.begin:.3f} | {1000 * found.step:.2f} | {found.restart:.3f} |"
    )


def draw(results: dict[Case, Found]) -> None:
    """Draw the curves."""
    for name, title, value in (
        ("restart", "Seconds of processor time from a checkpoint to the next step's rows", lambda one: one.restart),
        ("state", "Kilobytes of the state in a checkpoint", lambda one: one.state / 1000),
    ):
        series: dict[str, list[tuple[float, float]]] = {}
        for case, found in results.items():
            label = f"{case.layout}, {case.tasks:,} tasks" + (", order held" if case.whole else "")
            series.setdefault(label, []).append((float(case.rows), value(found)))
        kept = [Series(label, points) for label, points in series.items() if "10 tasks" not in label or "held" in label]
        (IMAGES / f"scale-{name}.svg").write_text(power_figure(title, "rows", kept), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rows", type=int, nargs="+", default=[3, 5, 7, 9], help="exponents of 10")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--whole", type=int, default=7, help="also hold whole orders, up to this exponent of 10")
    parser.add_argument("--write", action="store_true", help="draw docs/images/scale-*.svg")
    options = parser.parse_args()
    print("| layout | tasks | rows | state, kB | held, MiB | begin, s | step, ms | restart, s |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    cases = [
        Case(layout, tasks, 10**power)
        for layout in options.layouts
        for tasks in options.tasks
        for power in options.rows
        if 10**power >= tasks and (layout != "apart" or tasks <= MOST_APART)
    ]
    cases += [Case("shared", min(options.tasks), 10**power, True) for power in options.rows if power <= options.whole]
    results: dict[Case, Found] = {}
    for case in cases:
        results[case] = apart(case)
        print(row(case, results[case]), flush=True)
    if options.write:
        draw(results)
        path = Path(__file__).parent / "results" / "scale.json"
        path.write_text(json.dumps([{**asdict(case), **asdict(one)} for case, one in results.items()], indent=1) + "\n")


if __name__ == "__main__":
    main()
