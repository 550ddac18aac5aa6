"""Vectors before and after training, on pairs that are built from labelled sets.

    python -m benchmarks.types.embedding --data ../shared/data
    python -m benchmarks.types.embedding --data ../shared/data --sets snips --rows 400 --seeds 13

`ag_news`, `imdb`: the first half of a text has to find its second half among those of all test texts (recall). `snips`:
pairs of questions have a score, half of it for the same intent and half for the share of slot kinds in common; the
cosines should rank alike (Spearman). `before` is the encoder as it was published. Runs are kept under
benchmarks/results/types/.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polytask as pt
from benchmarks.kept import keep, kept
from benchmarks.types.common import ENCODER, Row, parser, read_rows, run_record, spread, write_rows


def halves(rows: Sequence[Row]) -> list[Row]:
    """Return the first half of each text beside the second one."""
    cut = [row["text"].split() for row in rows]
    return [
        {"text": " ".join(words[: len(words) // 2]), "positive": " ".join(words[len(words) // 2 :])}
        for words in cut
        if len(words) >= 12
    ]


def alike(rows: Sequence[Row]) -> list[Row]:
    """Return each question beside one of the same intent and one of any, with a score."""
    generator = random.Random(0)
    by_intent: dict[str, list[Row]] = {}
    for row in rows:
        by_intent.setdefault(row["intent"], []).append(row)
    found: list[Row] = []
    for row in rows:
        for other in (generator.choice(by_intent[row["intent"]]), generator.choice(list(rows))):
            if other is not row:
                found.append({"text": row["text"], "positive": other["text"], "score": _common(row, other)})
    return found


def _common(row: Row, other: Row) -> float:
    kinds = [{tag[2:] for tag in one["tags"] if tag != "O"} for one in (row, other)]
    shared, every = kinds[0] & kinds[1], kinds[0] | kinds[1]
    return round((row["intent"] == other["intent"]) / 2 + (len(shared) / len(every) if every else 1.0) / 2, 4)


SETS: dict[str, tuple[Callable[[Sequence[Row]], list[Row]], Row]] = {
    "ag_news": (halves, {"sizes": [64, 128]}),
    "imdb": (halves, {}),
    "snips": (alike, {"score": "score"}),
}


def rows_of(data: Path, name: str, split: str, most: int | None) -> list[Row]:
    return SETS[name][0](read_rows(data / name / f"{split}.jsonl")[:most])


def measure(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Train, and score dev and test rows before and after; after alone, where a rate is given."""
    few = None if options.rows is None else max(options.rows // 2, 100)
    rows = {split: rows_of(options.data, name, split, few) for split in ("dev", "test")}
    rows["train"] = rows_of(options.data, name, "train", options.rows)
    found: dict[str, Any] = {"set": name, "seed": seed, "rows": {split: len(one) for split, one in rows.items()}}
    rate: Row = {} if options.learning_rate is None else {"learning_rate": options.learning_rate}
    found["learning_rate"] = options.learning_rate
    with tempfile.TemporaryDirectory() as folder:
        data = write_rows(folder, rows)
        arms: list[tuple[str, Row]] = [("after", rate)]
        if options.learning_rate is None:
            arms.insert(0, ("before", {"max_steps": 1, "learning_rate": 1e-12}))
        for when, more in arms:
            values = {
                "encoder": options.encoder,
                "max_tokens": 64,
                "tasks": {"near": {"type": "embedding", "data": data, **SETS[name][1]}},
                "train": {"seed": seed, "epochs": options.epochs, "batch_size": 32, **more},
            }
            run = pt.train(values, Path(folder, when))
            record = run_record(Path(folder, when))
            found[when] = {split: run.scores[split]["near"] for split in ("dev", "test")}
            found[when]["intervals"] = run.intervals["test"]["near"]
            found[when] |= {key: record.get(key) for key in ("seconds", "steps")}
    return found


def main() -> None:
    own = parser(__doc__, "ag_news, imdb and snips")
    own.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    own.add_argument("--epochs", type=int, default=2)
    own.add_argument("--learning-rate", type=float, help="by default the recipe's")
    own.add_argument("--rows", type=int, help="only so many training rows, and half as many dev and test rows")
    options = own.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        part = "" if options.rows is None else f"-{options.rows}"
        part += "" if options.learning_rate is None else f"-{options.learning_rate:g}"
        part += "" if options.encoder == ENCODER else f"-{Path(options.encoder).name}"
        files = [options.results / f"embedding-{name}{part}-{seed}.json" for seed in options.seeds]
        for file, seed in zip(files, options.seeds, strict=True):
            keep(file, measure, options, name, seed)
        found = [one for file in files if (one := kept(file)) is not None]
        for when, split in ((when, split) for when in ("before", "after") for split in ("dev", "test")):
            for metric in found[0].get(when, {}).get(split, {}) if found else ():
                scores = [one[when][split][metric] for one in found]
                print(f"{name} {when} {split} {metric} {spread(scores)} ({len(scores)} seeds)", flush=True)


if __name__ == "__main__":
    main()
