"""Every sharing strategy, schedule or balancer on the three-task job: scores, parameters, time, with the same settings.

    python -m benchmarks.strategies --data ../shared/data --rows 1500 --seeds 13
    python -m benchmarks.strategies --vary schedule --rows 500 1000 2000 --rate 3e-4 --seeds 13 14 15
    python -m benchmarks.strategies --vary balance --rows 500 1000 2000 --rate 3e-4 --seeds 13

Every run is kept as a JSON file in `--results` and not made again, so a comparison can be interrupted, and several
processes can share the work: each takes the runs that no other has begun. The table is printed from what is there.

With `--time` nothing is trained to its end: the time of 24 updates of each is set beside that of 24 updates of the
default, made in turn in one process.

The job is that of `benchmarks.training` with whole dev and test files; two epochs, or as many rows under `sequential`.
`--rows` is one number for all tasks, or one each for sentiment, topic and entities. The sharing strategies are those of
`examples/sharing`; beside them the entities' loss counts three times. Under `balance` and `schedule` every loss counts
once, so that what a method does is not done by hand already; the weight of three is a row of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.balancing import timed, trainer_of
from benchmarks.training import RATE, SETS, write_job
from polytask.api import train
from polytask.balance import BALANCERS
from polytask.config import load_config
from polytask.model.parameters import count_parameters

UPDATES = 24  # adaptive sharing measures twice in them
EXAMPLES = sorted((Path(__file__).parents[1] / "examples" / "sharing").glob("*.yaml"))
PROPORTIONAL = {"strategy": "parallel", "proportions": "proportional"}
SCHEDULES: dict[str, dict[str, Any]] = {
    "parallel, proportional": PROPORTIONAL,
    "parallel, uniform": {"strategy": "parallel", "proportions": "uniform"},
    "parallel, temperature": {"strategy": "parallel", "proportions": "temperature"},
    "parallel, annealed": {"strategy": "parallel", "proportions": "annealed"},
    "sequential": {"strategy": "sequential"},
    "sequential, replay 0.2": {"strategy": "sequential", "replay": 0.2},
    "dynamic, loss_rate": {"strategy": "dynamic", "policy": "loss_rate", "proportions": "proportional"},
    "dynamic, dev_gap": {
        "strategy": "dynamic",
        "policy": "dev_gap",
        "proportions": "proportional",
        "targets": {"sentiment": 0.83, "topic": 0.89, "entities": 0.36},
    },
    "dynamic, bandit": {"strategy": "dynamic", "policy": "bandit", "proportions": "proportional"},
    "dynamic, stop_and_go": {
        "strategy": "dynamic",
        "policy": "stop_and_go",
        "proportions": "proportional",
        "patience": 1,
    },
}
# The same with weights as the rows, so that a task that gets more of them also weighs more.
BY_ROWS = ", rows"
WEIGHED = (
    "parallel, proportional",
    "sequential, replay 0.2",
    "dynamic, loss_rate",
    "dynamic, dev_gap",
    "dynamic, bandit",
)
SCHEDULES.update({name + BY_ROWS: SCHEDULES[name] for name in WEIGHED})
# Policies that read dev scores would otherwise hear of them once before the end.
EVALUATIONS = {"dynamic, dev_gap": 4, "dynamic, stop_and_go": 4}
BY_HAND = "sum, entities x 3"  # not a method of the table: a weight that a person chose


def variants(vary: str) -> dict[str, dict[str, Any]]:
    """Options by name, for the section of the configuration that varies."""
    if vary == "schedule":
        return SCHEDULES
    if vary == "balance":
        methods = {name: {"method": name} for name in BALANCERS if name != "auto"}
        # Without its pull towards a common rate GradNorm makes gradients equally long, and nothing else.
        even = {"gradnorm, alpha 0": {"method": "gradnorm", "alpha": 0.0}}
        return {"sum": {"method": "sum"}, BY_HAND: {"method": "sum"}} | methods | even
    found = {example.stem: load_config(example).sharing for example in EXAMPLES}
    return {name: sharing.model_dump(mode="json", exclude_unset=True) for name, sharing in found.items()}


def job(data: Path, folder: Path, options: argparse.Namespace, variant: str, seed: int) -> dict[str, Any]:
    """The configuration of one run; its training files are written to `folder`."""
    rows: list[int] = options.rows if len(options.rows) > 1 else options.rows * len(SETS)
    values = write_job(data, folder, max(rows))
    for (task, name), count in zip(SETS.items(), rows, strict=True):
        suffix = "conll" if name == "wnut17" else "jsonl"
        files = values["tasks"][task]["data"]
        files |= {split: str(data / name / f"{split}.{suffix}") for split in ("dev", "test")}
        cut(Path(files["train"]), count)
    if options.vary == "sharing" or variant == BY_HAND:
        values["tasks"]["entities"]["weight"] = 3
    train_options = {**values["train"], "epochs": 2, "learning_rate": options.rate, "seed": seed}
    evaluations = EVALUATIONS.get(variant.removesuffix(BY_ROWS))
    if evaluations:
        train_options["evaluations_per_epoch"] = evaluations
    if variant.endswith(BY_ROWS):
        values["balance"] = {"method": "rows"}
    return {**values, "schedule": PROPORTIONAL, options.vary: variants(options.vary)[variant], "train": train_options}


def cut(file: Path, rows: int) -> None:
    between = "\n\n" if file.suffix == ".conll" else "\n"
    file.write_text(between.join(file.read_text("utf-8").strip("\n").split(between)[:rows]) + "\n", "utf-8")


def time_updates(data: Path, vary: str, only: list[str] | None) -> None:
    print(f"| {vary} | ms an update | default | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        values = write_job(data, Path(name), 600)
        for variant, changed in variants(vary).items():
            if only and variant not in only:
                continue
            plain, other = trainer_of(values), trainer_of(values, **{vary: changed})
            pairs = [(timed(plain.update), timed(other.update)) for _ in range(UPDATES + 2)][2:]
            first, second = (1000 * statistics.mean(column) for column in zip(*pairs, strict=True))
            print(f"| {variant} | {second:.1f} | {first:.1f} | {second / first:.2f} |", flush=True)


def measure(values: dict[str, Any], file: Path) -> None:
    """Train one configuration and write down what it reached; nothing where another process has begun it."""
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        return
    try:
        with tempfile.TemporaryDirectory() as name:
            run = train(values, Path(name) / "run")
            record = json.loads((Path(name) / "run" / "run.json").read_text("utf-8"))
    except BaseException:
        file.unlink()
        raise
    kept = {key: record[key] for key in ("seconds", "steps", "best_step", "stages", "exposure")}
    size = count_parameters(run.model.network).total
    text = json.dumps({"scores": run.scores, "parameters": size, **kept})
    partial = file.with_suffix(".partial")
    partial.write_text(text, "utf-8")
    partial.replace(file)


def show(found: dict[str, list[dict[str, Any]]], vary: str) -> None:
    """Print a line a variant: means over its seeds, and the standard deviation of the mean score."""
    print(f"| {vary} | seeds | sentiment | topic | entities | mean | updates | parameters | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for variant, runs in found.items():
        tests = [run["scores"]["test"] for run in runs]
        scores = [[t["sentiment"]["accuracy"], t["topic"]["accuracy"], t["entities"]["f1"]] for t in tests]
        means = [statistics.mean(column) for column in zip(*scores, strict=True)]
        shown = " | ".join(f"{value:.4f}" for value in [*means, statistics.mean(means)])
        if len(scores) > 1:
            shown += f" ({statistics.stdev([statistics.mean(row) for row in scores]):.4f})"
        steps, size, seconds = (statistics.mean(run[key] for run in runs) for key in ("steps", "parameters", "seconds"))
        print(f"| {variant} | {len(runs)} | {shown} | {steps:.0f} | {size / 1e6:.1f} M | {seconds:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--vary", choices=("sharing", "schedule", "balance"), default="sharing")
    parser.add_argument("--rows", type=int, nargs="+", default=[1500])
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--seeds", type=int, nargs="+", default=[13])
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--time", action="store_true")
    options = parser.parse_args()
    data = options.data.resolve()
    if options.time:
        time_updates(data, options.vary, options.only)
        return
    options.results.mkdir(parents=True, exist_ok=True)
    chosen = [name for name in variants(options.vary) if name in (options.only or [name])]
    size = "_".join(map(str, options.rows)) + (f"-{options.rate:g}" if options.rate != RATE else "")

    def file_of(variant: str, seed: int) -> Path:
        name = variant.replace(", ", "-").replace(" ", "_")
        return options.results / f"{options.vary}-{name}-{size}-{seed}.json"

    with tempfile.TemporaryDirectory() as name:
        for seed in options.seeds:
            for variant in chosen:
                measure(job(data, Path(name), options, variant, seed), file_of(variant, seed))
    done: dict[str, list[dict[str, Any]]] = {}
    for variant in chosen:
        files = [file_of(variant, seed) for seed in options.seeds]
        runs = [json.loads(file.read_text("utf-8")) for file in files if file.exists() and file.stat().st_size]
        if runs:
            done[variant] = runs
    show(done, options.vary)


if __name__ == "__main__":
    main()
