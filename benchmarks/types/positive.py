"""What a tuned threshold is worth where the label that matters is rare: one topic of AG News against the others.

    python -m benchmarks.types.positive --data ../shared/data
    python -m benchmarks.types.positive --data ../shared/data --labels Business --weights none --seeds 13

Of the rows of every split, a share has the positive label, the others are `other`. A model learns a few of them, as
they are or with `class_weights: balanced`, and answers the test rows twice: with the more probable label, and from the
threshold on that is best on dev for f1. Runs are kept under benchmarks/results/types/.
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
from benchmarks.types.common import Row, parser, read_rows, spread, write_rows

LABELS = ("Business", "Sci/Tech")
WEIGHTS = ("none", "balanced")
SCORES = ("f1", "precision", "recall", "accuracy")
OTHER = "other"


def drawn(rows: Sequence[Row], label: str, share: float, most: int, seed: int) -> list[Row]:
    """Return at most so many rows, a share of which has the label, and the others none of its name."""
    mixed = random.Random(seed).sample(list(rows), len(rows))
    own, others = ([row for row in mixed if (row["label"] == label) == wanted] for wanted in (True, False))
    size = min(most, int(len(others) / (1 - share)), int(len(own) / share))
    positive = round(share * size)
    chosen = [*own[:positive], *({**row, "label": OTHER} for row in others[: size - positive])]
    return random.Random(seed).sample([{"text": row["text"], "label": row["label"]} for row in chosen], size)


def scores(truth: Sequence[bool], found: Sequence[bool]) -> dict[str, float]:
    """Score decisions, counted here and not by polytask."""
    right = sum(a and b for a, b in zip(truth, found, strict=True))
    agreed = sum(a == b for a, b in zip(truth, found, strict=True))
    return {
        "f1": 2 * right / max(sum(truth) + sum(found), 1),
        "precision": right / max(sum(found), 1),
        "recall": right / sum(truth),
        "accuracy": agreed / len(truth),
    }


def measure(options: argparse.Namespace, label: str, weights: str, seed: int) -> dict[str, Any]:
    """Train a model, and score what it answers by either rule."""
    most = {"train": options.rows, "dev": options.held, "test": options.held}
    rows = {
        split: drawn(read_rows(options.data / "ag_news" / f"{split}.jsonl"), label, options.share, count, seed)
        for split, count in most.items()
    }
    more = {} if weights == "none" else {"class_weights": weights}
    with tempfile.TemporaryDirectory() as folder:
        data = write_rows(folder, rows)
        task = {"type": "classification", "data": data, "positive": label, "metric": "f1", "threshold": "tuned", **more}
        train = {"epochs": options.epochs, "seed": seed}
        run = pt.train({"encoder": options.encoder, "max_tokens": 64, "tasks": {"it": task}, "train": train})
    answers = [answer["it"] for answer in run.model.predict([row["text"] for row in rows["test"]])]
    truth = [row["label"] == label for row in rows["test"]]
    own = run.scores["test"]["it"]
    return {
        "label": label, "weights": weights, "seed": seed,
        "rows": {split: len(found) for split, found in rows.items()},
        "positive": {split: sum(row["label"] == label for row in found) for split, found in rows.items()},
        "threshold": run.model.tasks["it"].thresholds[label],
        "0.5": scores(truth, [answer["probabilities"][label] >= 0.5 for answer in answers]),
        "tuned": scores(truth, [answer["label"] == label for answer in answers]),
        "average_precision": own["average_precision"], "roc_auc": own["roc_auc"],
    }  # fmt: skip


def table(files: Sequence[Path]) -> str:
    """Return a line for each label, weights and threshold: mean over the seeds, and their standard deviation."""
    found = [one for file in files if (one := kept(file)) is not None]
    lines = [f"| positive label | class_weights | threshold | {' | '.join(SCORES)} |", "|---|---|---|" + "---|" * 4]
    for label, weights in dict.fromkeys((one["label"], one["weights"]) for one in found):
        own = [one for one in found if (one["label"], one["weights"]) == (label, weights)]
        for rule in ("0.5", "tuned"):
            cells = [spread([one[rule][name] for one in own]) for name in SCORES]
            at = ", ".join(f"{one['threshold']:.2f}" for one in own)
            shown = rule if rule == "0.5" else f"tuned ({at})"
            lines.append(f"| {label} | {weights} | {shown} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    own = parser(__doc__, "ag_news")
    own.add_argument("--labels", nargs="+", default=list(LABELS))
    own.add_argument("--weights", nargs="+", default=list(WEIGHTS), choices=WEIGHTS)
    own.add_argument("--share", type=float, default=0.08, help="of the rows that have the positive label")
    own.add_argument("--rows", type=int, default=1000, help="training rows")
    own.add_argument("--held", type=int, default=1600, help="rows of dev and of test, where there are so many")
    own.add_argument("--epochs", type=float, default=2)
    options = own.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for seed in options.seeds:
        for label in options.labels:
            for weights in options.weights:
                size = f"{options.share:g}-{options.rows}-{options.epochs:g}"
                name = label.lower().replace("/", "_")
                files.append(options.results / f"positive-{name}-{weights}-{size}-{seed}.json")
                keep(files[-1], measure, options, label, weights, seed)
    print(table(files))


if __name__ == "__main__":
    main()
