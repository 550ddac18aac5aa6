"""Every sharing strategy on the three-task job: scores, time, parameters, with the same rows and settings.

    python -m benchmarks.strategies --data ../shared/data --rows 1500 --seeds 13

The strategies are those of `examples/sharing`, the job that of `benchmarks.training` with whole dev and test files.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.training import SETS, write_job
from polytask.api import train
from polytask.config import load_config

EXAMPLES = sorted((Path(__file__).parents[1] / "examples" / "sharing").glob("*.yaml"))


def job(data: Path, folder: Path, rows: int, sharing: dict[str, Any], seed: int) -> dict[str, Any]:
    values = write_job(data, folder, rows)
    for task, name in SETS.items():
        suffix = "conll" if name == "wnut17" else "jsonl"
        values["tasks"][task]["data"] |= {split: str(data / name / f"{split}.{suffix}") for split in ("dev", "test")}
    values["tasks"]["entities"]["weight"] = 3
    train_options = {**values["train"], "epochs": 2, "seed": seed}
    return {**values, "sharing": sharing, "train": train_options}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[13])
    parser.add_argument("--only", nargs="+", default=[example.stem for example in EXAMPLES])
    options = parser.parse_args()
    data = options.data.resolve()
    print("| strategy | sentiment | topic | entities | mean | parameters | seconds |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for example in (found for found in EXAMPLES if found.stem in options.only):
            sharing = load_config(example).sharing.model_dump(mode="json", exclude_unset=True)
            scores: list[list[float]] = []
            seconds: list[float] = []
            parameters: list[int] = []
            for seed in options.seeds:
                out = Path(name) / f"{example.stem}-{seed}"
                folder = Path(name) / "job"
                folder.mkdir(exist_ok=True)
                run = train(job(data, folder, options.rows, sharing, seed), out)
                found = run.scores["test"]
                scores.append([found["sentiment"]["accuracy"], found["topic"]["accuracy"], found["entities"]["f1"]])  # type: ignore[list-item]
                seconds.append(json.loads((out / "run.json").read_text("utf-8"))["seconds"])
                parameters.append(run.model.network.count_parameters().total)
            means = [statistics.mean(column) for column in zip(*scores, strict=True)]
            shown = " | ".join(f"{value:.4f}" for value in [*means, statistics.mean(means)])
            size = f"{statistics.mean(parameters) / 1e6:.1f} M"
            print(f"| {example.stem} | {shown} | {size} | {statistics.mean(seconds):.0f} |", flush=True)


if __name__ == "__main__":
    main()
