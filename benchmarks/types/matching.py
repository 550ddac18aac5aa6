"""Described labels beside classes, and labels that no training row had.

    python -m benchmarks.types.matching --data ../shared/data
    python -m benchmarks.types.matching --data ../shared/data --sets ag_news --rows 400 --seeds 13

AG News (4 topics) and the intents of SNIPS (7) as `matching` and as `classification`, on the same rows with the same
seed. `unseen`: trained without the rows of the held-out labels, which are added when the model answers; recall is over
the test rows of these labels, with all labels to choose from, and `among` with the held-out ones alone (chance: one in
their number). `published`: the encoder as it was published, with the descriptions alone. Runs are kept under
benchmarks/results/types/.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polytask as pt
from benchmarks.kept import keep, kept
from benchmarks.types.common import Row, parser, read_rows, run_record, spread, write_rows

LABELS: dict[str, dict[str, str]] = {
    "ag_news": {
        "World": "news about politics and conflicts in the world",
        "Sports": "news about sport",
        "Business": "news about business and the economy",
        "Sci/Tech": "news about science and technology",
    },
    "snips": {
        "AddToPlaylist": "add a song or an artist to a playlist",
        "BookRestaurant": "book a table at a restaurant",
        "GetWeather": "ask for the weather forecast",
        "PlayMusic": "play music",
        "RateBook": "rate a book with points or stars",
        "SearchCreativeWork": "find a film, game, book or song by its title",
        "SearchScreeningEvent": "find the cinema times of a film",
    },
}
COLUMN = {"ag_news": "label", "snips": "intent"}
HELD_OUT = {"ag_news": ("Sports",), "snips": ("BookRestaurant", "GetWeather", "RateBook")}
KINDS = ("classification", "matching", "unseen", "published")


def rows_of(data: Path, name: str, split: str, most: int | None) -> list[Row]:
    rows = read_rows(data / name / f"{split}.jsonl")[:most]
    return [{"text": row["text"], "label": row[COLUMN[name]]} for row in rows]


def measure(options: argparse.Namespace, name: str, kind: str, seed: int) -> dict[str, Any]:
    """Train, and score the test rows."""
    few = None if options.rows is None else max(options.rows // 2, 100)
    rows = {split: rows_of(options.data, name, split, few) for split in ("dev", "test")}
    rows["train"] = rows_of(options.data, name, "train", options.rows)
    held = HELD_OUT[name] if kind == "unseen" else ()
    labels = LABELS[name]
    task: Row = {"type": "classification"}
    if kind != "classification":
        task = {"type": "matching", "labels": {label: text for label, text in labels.items() if label not in held}}
    with tempfile.TemporaryDirectory() as folder:
        seen = {split: [row for row in rows[split] if row["label"] not in held] for split in ("train", "dev")}
        task["data"] = write_rows(folder, seen)
        train: Row = {"seed": seed, "epochs": options.epochs}
        if options.learning_rate is not None:
            train["learning_rate"] = options.learning_rate
        if kind == "published":
            train |= {"max_steps": 1, "learning_rate": 1e-12, "head_learning_rate": 1e-12}
        values = {"encoder": options.encoder, "max_tokens": 64, "tasks": {"it": task}, "train": train}
        run = pt.train(values, Path(folder, "run"))
        record = run_record(Path(folder, "run"))
    found: dict[str, Any] = {"set": name, "kind": kind, "seed": seed, "seconds": record.get("seconds")}
    found["rows"] = {split: len(listed) for split, listed in rows.items()}
    test = rows["test"]
    if kind in ("classification", "matching"):
        return {**found, "scores": {"accuracy": _right(run.model.predict([row["text"] for row in test]), test)}}
    held = HELD_OUT[name]
    unseen = [row for row in test if row["label"] in held]
    texts = [row["text"] for row in unseen]
    answers = run.model.predict(texts, labels={label: labels[label] for label in held})
    scores = {"recall": _right(answers, unseen)}
    if len(held) > 1:
        alone = {label: labels[label] if label in held else None for label in labels}
        scores["among"] = _right(run.model.predict(texts, labels=alone), unseen)
    if kind == "published":
        scores["accuracy"] = _right(run.model.predict([row["text"] for row in test]), test)
    return {**found, "held_out": list(held), "unseen_rows": len(unseen), "scores": scores}


def _right(answers: Sequence[Row], rows: Sequence[Row]) -> float:
    right = [answer["it"]["label"] == row["label"] for answer, row in zip(answers, rows, strict=True)]
    return sum(right) / len(right)


def main() -> None:
    own = parser(__doc__, "ag_news and snips")
    own.add_argument("--sets", nargs="+", choices=list(LABELS), default=list(LABELS))
    own.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    own.add_argument("--epochs", type=int, default=2)
    own.add_argument("--rows", type=int, help="only so many training rows, and half as many dev and test rows")
    own.add_argument("--learning-rate", type=float, help="of the encoder; by default the recipe's")
    options = own.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    part = "" if options.rows is None else f"-{options.rows}"
    part += "" if options.learning_rate is None else f"-{options.learning_rate:g}"
    for name in options.sets:
        for kind in options.kinds:
            files = [options.results / f"matching-{name}-{kind}{part}-{seed}.json" for seed in options.seeds]
            for file, seed in zip(files, options.seeds, strict=True):
                keep(file, measure, options, name, kind, seed)
            found = [one for file in files if (one := kept(file)) is not None]
            for metric in found[0]["scores"] if found else ():
                scores = [one["scores"][metric] for one in found]
                print(f"{name} {kind} {metric} {spread(scores)} ({len(scores)} seeds)", flush=True)


if __name__ == "__main__":
    main()
