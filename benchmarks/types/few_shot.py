"""Few rows a class: a contrastive start beside plain classification and described labels, at equal texts.

    python -m benchmarks.types.few_shot --data ../shared/data
    python -m benchmarks.types.few_shot --data ../shared/data --sets snips --shots 8 --seeds 13

`contrastive` is what SetFit does (Tunstall et al. 2022, "Efficient Few-Shot Learning Without Prompts", section 3),
written as a job of two tasks: an `embedding` task learns pairs within classes (score 1) and between classes (score 0),
and the `classification` task needs it. Its pairs and rows together pass as many texts as the other arms do. Runs are
kept under benchmarks/results/types/.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polytask as pt
from benchmarks.kept import keep, kept
from benchmarks.types import matching
from benchmarks.types.common import Row, parser, read_rows, run_record, spread, write_rows

LABELS = {**matching.LABELS, "imdb": {"pos": "a good film", "neg": "a bad film"}}
COLUMN = {**matching.COLUMN, "imdb": "label"}
KINDS = ("classification", "matching", "contrastive")
# Of the texts that an arm with a contrastive start passes, the share that it takes.
START = 0.5


def few(rows: Sequence[Row], column: str, shots: int, seed: int) -> list[Row]:
    """Return so many rows of each class, drawn by the seed."""
    drawn = random.Random(seed).sample(list(rows), len(rows))
    by_class: dict[str, list[Row]] = {}
    for row in drawn:
        by_class.setdefault(row[column], []).append({"text": row["text"], "label": row[column]})
    return [row for label in sorted(by_class) for row in by_class[label][:shots]]


def pairs(rows: Sequence[Row], seed: int) -> list[Row]:
    """Return each row beside one of its class (score 1) and one of another class (score 0)."""
    draw = random.Random(seed)
    found: list[Row] = []
    for row in rows:
        same = [other for other in rows if other["label"] == row["label"] and other is not row]
        apart = [other for other in rows if other["label"] != row["label"]]
        for other, score in ((draw.choice(same), 1), (draw.choice(apart), 0)):
            found.append({"text": row["text"], "positive": other["text"], "score": score})
    return found


def tasks_of(kind: str, name: str, folder: str, rows: dict[str, list[Row]], epochs: int, seed: int) -> Row:
    """Return the tasks of an arm, and how long they train."""
    data = write_rows(folder, rows)
    task: Row = {"type": "classification", "data": data}
    if kind == "matching":
        task |= {"type": "matching", "labels": LABELS[name]}
    if kind != "contrastive":
        return {"tasks": {"it": task}, "train": {"epochs": epochs}}
    home = Path(folder, "pairs")
    home.mkdir()
    near: Row = {"type": "embedding", "score": "score"}
    near["data"] = write_rows(home, {split: pairs(rows[split], seed) for split in ("train", "dev")})
    near["gate"] = {"epochs": epochs * START / 4}  # an epoch of pairs passes four times the texts
    return {
        "tasks": {"near": near, "it": {**task, "needs": ["near"]}},
        "schedule": {"strategy": "sequential"},
        "train": {"epochs": epochs * (1 - START)},
    }


def measure(options: argparse.Namespace, name: str, kind: str, shots: int, seed: int) -> dict[str, Any]:
    """Train, and score the test rows."""
    read = {split: read_rows(options.data / name / f"{split}.jsonl") for split in ("train", "dev", "test")}
    rows = {split: few(read[split], COLUMN[name], shots, seed) for split in ("train", "dev")}
    rows["test"] = [{"text": row["text"], "label": row[COLUMN[name]]} for row in read["test"][: options.test_rows]]
    rate: Row = {} if options.learning_rate is None else {"learning_rate": options.learning_rate}
    with tempfile.TemporaryDirectory() as folder:
        values = tasks_of(kind, name, folder, rows, options.epochs, seed)
        values |= {"encoder": options.encoder, "max_tokens": 48}
        values["train"] |= {"seed": seed, "batch_size": 16, **rate}
        run = pt.train(values, Path(folder, "run"))
        record = run_record(Path(folder, "run"))
    counts = {split: len(one) for split, one in rows.items()}
    return {
        "set": name, "kind": kind, "shots": shots, "seed": seed, "rows": counts,
        "learning_rate": options.learning_rate, "scores": {split: run.scores[split]["it"] for split in ("dev", "test")},
        **{key: record.get(key) for key in ("seconds", "steps")},
    }  # fmt: skip


def main() -> None:
    own = parser(__doc__, "ag_news, snips and imdb")
    own.add_argument("--sets", nargs="+", choices=list(LABELS), default=list(LABELS))
    own.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    own.add_argument("--shots", nargs="+", type=int, default=[8, 16], help="training rows of each class")
    own.add_argument("--epochs", type=int, default=8, help="passes through the rows, or as many texts in pairs")
    own.add_argument("--test-rows", type=int, default=200)
    own.add_argument("--learning-rate", type=float, help="by default the recipe's")
    options = own.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    rate = "" if options.learning_rate is None else f"-{options.learning_rate:g}"
    for name, shots in ((name, shots) for name in options.sets for shots in options.shots):
        for kind in options.kinds:
            stem = f"few-{name}-{shots}-{kind}{rate}"
            files = [options.results / f"{stem}-{seed}.json" for seed in options.seeds]
            for file, seed in zip(files, options.seeds, strict=True):
                keep(file, measure, options, name, kind, shots, seed)
            found = [one for file in files if (one := kept(file)) is not None]
            scores = [one["scores"]["test"]["accuracy"] for one in found]
            if scores:
                print(f"{name} {shots} rows a class {kind}{rate} {spread(scores)} ({len(scores)} seeds)", flush=True)


if __name__ == "__main__":
    main()
