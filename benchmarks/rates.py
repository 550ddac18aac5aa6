"""Learning rates: multiples of the default's, in whole runs and in quarters of them.

    python -m benchmarks.rates --data ../shared/data
    python -m benchmarks.rates --jobs corpus --shares 1 --multiples 0.5 0.7
    python -m benchmarks.rates --show

A search that tries rates in short runs wants the best rates of whole ones. Every run is kept in `--results` and not
made again, and several processes may share the benchmark. What is printed are dev and test scores, the mean over tasks.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.kept import keep, kept
from benchmarks.recipe import JOBS, Cut, joint, merged

SHARES = (0.25, 1.0)
MULTIPLES = (0.5, 1.0, 2.0)


def measure(cut: Cut, job: str, share: float, multiple: float, heads: float, seed: int) -> dict[str, Any]:
    """Train a job for a share of its epochs, under multiples of its learning rates: the encoder's and the heads'."""
    from polytask.assemble import assemble
    from polytask.config import validate

    values = merged(JOBS[job](cut), {"train": {"seed": seed}})
    train = assemble(validate(values)).config.train
    assert train.learning_rate != "auto"
    assert train.head_learning_rate != "auto"
    rates = {
        "learning_rate": train.learning_rate * multiple,
        "head_learning_rate": train.head_learning_rate * heads,
    }
    return joint(merged(values, {"train": {**rates, "epochs": train.epochs * share}}))


def heads_of(options: argparse.Namespace, multiple: float) -> float:
    return multiple if options.heads is None else options.heads


def file_of(options: argparse.Namespace, job: str, share: float, multiple: float, seed: int) -> Path:
    heads = "" if options.heads is None else f"x{options.heads:g}"
    return options.results / f"{job}-{share:g}-{multiple:g}{heads}-{seed}.json"


def show(options: argparse.Namespace) -> None:
    """Print a line a job, share and multiple: the mean over tasks, over the seeds that are there."""
    print("| job | share of the run | multiple | seeds | dev | test |")
    print("|---|---|---|---|---|---|")
    for job in options.jobs:
        for share in options.shares:
            for multiple in options.multiples:
                found = [kept(file_of(options, job, share, multiple, seed)) for seed in options.seeds]
                runs = [run for run in found if run is not None]
                if runs:
                    dev, test = (
                        statistics.mean(statistics.mean(value or 0.0 for value in run[split].values()) for run in runs)
                        for split in ("dev", "test")
                    )
                    print(f"| {job} | {share:g} | {multiple:g} | {len(runs)} | {dev:.4f} | {test:.4f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=["snips", "ewt", "ratings", "three"])
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--multiples", type=float, nargs="+", default=list(MULTIPLES))
    parser.add_argument("--heads", type=float, help="multiple of the heads' rate; by default the encoder's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[13, 14])
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "rates")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print the table only")
    options = parser.parse_args()
    if not options.show:
        import torch

        torch.set_num_threads(options.threads)
        options.results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as name:
            cut = Cut(options.data.resolve(), Path(name))
            for seed in options.seeds:
                for job in options.jobs:
                    for share in options.shares:
                        for multiple in options.multiples:
                            file = file_of(options, job, share, multiple, seed)
                            found = keep(file, measure, cut, job, share, multiple, heads_of(options, multiple), seed)
                            if found is not None:
                                print(job, share, multiple, seed, found, flush=True)
    show(options)


if __name__ == "__main__":
    main()
