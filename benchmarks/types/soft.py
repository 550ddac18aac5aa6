"""What a distribution of labels tells that the most probable label does not: students of a teacher's answers.

    python -m benchmarks.types.soft --data ../shared/data
    python -m benchmarks.types.soft --data ../shared/data --sets ag_news --seeds 13

A teacher learns a few labelled rows and answers many others. One student learns the probabilities that it gave them
(`soft`), another one the most probable label of each (`hard`), a third the true labels (`true`), all from the same
texts with the same seed. On test: accuracy, expected calibration error, and the mean negative log-likelihood of the
true label. Runs are kept under benchmarks/results/types/.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polytask as pt
from benchmarks.kept import keep, kept
from benchmarks.types.common import Row, parser, read_rows, spread, write_rows

COLUMN = {"ag_news": "label", "snips": "intent"}
STUDENTS = ("soft", "hard", "true")
# A probability that the model rounds to 0 counts as this much.
LEAST = 1e-4


def trained(options: argparse.Namespace, rows: dict[str, list[Row]], seed: int) -> pt.Run:
    """Train a classification of these rows."""
    with tempfile.TemporaryDirectory() as folder:
        task = {"type": "classification", "data": write_rows(folder, rows)}
        train = {"epochs": options.epochs, "seed": seed}
        return pt.train({"encoder": options.encoder, "max_tokens": 64, "tasks": {"it": task}, "train": train})


def scores(run: pt.Run, test: Sequence[Row]) -> dict[str, float]:
    """Score the answers to test rows."""
    answers = [answer["it"]["probabilities"] for answer in run.model.predict([row["text"] for row in test])]
    likely = [math.log(max(one.get(row["label"], 0.0), LEAST)) for one, row in zip(answers, test, strict=True)]
    own = run.scores["test"]["it"]
    return {"accuracy": own["accuracy"], "ece": own["ece"], "negative_log_likelihood": -sum(likely) / len(likely)}


def measure(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Train the teacher and its students, and score all of them."""
    read = {split: read_rows(options.data / name / f"{split}.jsonl") for split in ("train", "dev", "test")}
    plain = {split: [{"text": row["text"], "label": row[COLUMN[name]]} for row in rows] for split, rows in read.items()}
    held = {"dev": plain["dev"][: options.held], "test": plain["test"][: options.held]}
    labelled, others = plain["train"][: options.labelled], plain["train"][options.labelled :][: options.rows]
    teacher = trained(options, {"train": labelled, **held}, seed)
    answers = [answer["it"] for answer in teacher.model.predict([row["text"] for row in others])]
    labels: dict[str, list[Any]] = {
        "soft": [answer["probabilities"] for answer in answers],
        "hard": [answer["label"] for answer in answers],
        "true": [row["label"] for row in others],
    }
    found: dict[str, Any] = {"set": name, "seed": seed, "labelled": len(labelled), "rows": len(others)}
    found["teacher"] = scores(teacher, held["test"])
    for student in STUDENTS:
        rows = [{**row, "label": label} for row, label in zip(others, labels[student], strict=True)]
        found[student] = scores(trained(options, {"train": rows, **held}, seed), held["test"])
    return found


def table(files: Sequence[Path]) -> str:
    """Return a line for each set and model: mean over the seeds, and their standard deviation."""
    found = [one for file in files if (one := kept(file)) is not None]
    lines = ["| set | trained on | seeds | accuracy | ece | negative log-likelihood |", "|---|---|---|---|---|---|"]
    for name in dict.fromkeys(one["set"] for one in found):
        for kind in ("teacher", *STUDENTS):
            own = [one[kind] for one in found if one["set"] == name]
            cells = [spread([score[key] for score in own]) for key in ("accuracy", "ece", "negative_log_likelihood")]
            lines.append(f"| {name} | {kind} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    own = parser(__doc__, "ag_news and snips")
    own.add_argument("--sets", nargs="+", default=list(COLUMN), choices=list(COLUMN))
    own.add_argument("--labelled", type=int, default=300, help="rows that the teacher learns")
    own.add_argument("--rows", type=int, default=1000, help="rows that the teacher answers and a student learns")
    own.add_argument("--held", type=int, default=500, help="rows of dev and of test")
    own.add_argument("--epochs", type=float, default=2)
    options = own.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for seed in options.seeds:
        for name in options.sets:
            size = f"{options.labelled}-{options.rows}-{options.epochs:g}"
            files.append(options.results / f"soft-{name}-{size}-{seed}.json")
            keep(files[-1], measure, options, name, seed)
    print(table(files))


if __name__ == "__main__":
    main()
