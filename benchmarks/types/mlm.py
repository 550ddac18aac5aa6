"""A few labelled reviews, alone and beside many unlabelled ones whose hidden words are guessed.

    python -m benchmarks.types.mlm --data ../shared/data
    python -m benchmarks.types.mlm --data ../shared/data --unlabelled 1000 --passes 5 --test 500 --seeds 13

`alone` and `beside` see each labelled review as often; `beside` passes each unlabelled one once more, in the same
updates. `longer` makes as many updates as `beside`, with the labelled reviews alone.
Runs are kept under benchmarks/results/types/.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polytask as pt
from benchmarks.kept import keep, kept
from benchmarks.types.common import parser, read_rows, run_record, spread, write_rows

ARMS = ("alone", "longer", "beside")


def configuration(options: argparse.Namespace, folder: Path, arm: str, seed: int) -> dict[str, Any]:
    """Write the rows into a folder and return the configuration of an arm."""
    train, dev, test = (read_rows(options.data / "imdb" / f"{split}.jsonl") for split in ("train", "dev", "test"))
    labelled, many = options.labelled, options.unlabelled
    splits: dict[str, Any] = {
        "train": train[:labelled], "dev": dev[:200], "test": test[: options.test],
        "texts": [{"text": row["text"]} for row in train[labelled : labelled + many]],
        "texts-dev": [{"text": row["text"]} for row in dev[200:]],
    }  # fmt: skip
    path = write_rows(folder, splits)
    data = {split: path[split] for split in ("train", "dev", "test")}
    tasks: dict[str, Any] = {"sentiment": {"type": "classification", "data": data, "label": options.label}}
    passes = {"sentiment": options.passes * labelled}
    if arm == "beside":
        tasks["words"] = {"type": "mlm", "data": {"train": path["texts"], "dev": path["texts-dev"]}}
        passes["words"] = many
    if arm == "longer":
        passes["sentiment"] += many
    epochs = sum(passes.values()) / (labelled + (many if arm == "beside" else 0))
    return {
        "encoder": options.encoder, "max_tokens": 128, "tasks": tasks,
        "schedule": {"strategy": "parallel", "proportions": passes},
        "train": {"seed": seed, "epochs": epochs, "evaluations_per_epoch": 1},
    }  # fmt: skip


def measure(options: argparse.Namespace, arm: str, seed: int) -> dict[str, Any]:
    """Train an arm and return its scores."""
    with tempfile.TemporaryDirectory() as found:
        run = pt.train(configuration(options, Path(found), arm, seed), Path(found, "run"))
        record = run_record(Path(found, "run"))
        scores = {split: dict(one) for split, one in run.scores.items()}
    return {"arm": arm, "seed": seed, "scores": scores, "seconds": record["seconds"], "steps": record["steps"]}


def table(files: Sequence[Path]) -> str:
    """Return a line for each arm: mean over the seeds, and their standard deviation."""
    found = [one for file in files if (one := kept(file)) is not None]
    lines = ["| arm | seeds | accuracy on test | loss of hidden words on dev |", "|---|---|---|---|"]
    for arm in dict.fromkeys(one["arm"] for one in found):
        own = [one["scores"] for one in found if one["arm"] == arm]
        accuracy = spread([one["test"]["sentiment"]["accuracy"] for one in own])
        guessed = [one["dev"]["words"]["loss"] for one in own if "words" in one["dev"]]
        lines.append(f"| {arm} | {len(own)} | {accuracy} | {spread(guessed) if guessed else ''} |")
    return "\n".join(lines)


def main() -> None:
    own = parser(__doc__, "imdb")
    own.add_argument("--label", default="label")
    own.add_argument("--labelled", type=int, default=200)
    own.add_argument("--unlabelled", type=int, default=4000)
    own.add_argument("--passes", type=int, default=10, help="of each labelled review")
    own.add_argument("--test", type=int, default=2000)
    options = own.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for seed in options.seeds:
        for arm in ARMS:
            size = f"{options.labelled}-{options.unlabelled}-{options.passes}-{options.test}"
            files.append(options.results / f"mlm-imdb-{size}-{arm}-{seed}.json")
            keep(files[-1], measure, options, arm, seed)
    print(table(files))


if __name__ == "__main__":
    main()
