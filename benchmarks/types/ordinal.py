"""Levels as `ordinal`, as classes and as numbers: who is right how often, and how far off the others are.

    python -m benchmarks.types.ordinal --data ../shared/data
    python -m benchmarks.types.ordinal --data ../shared/data --sets vader --rows 500 --seeds 13

The star ratings of IMDb (1 to 4 and 7 to 10) are eight levels. Those of VADER (-4 to 4) are rounded to whole numbers;
-3 and 3 hold what lies beyond, too. All three types train on the same rows with the same seed; a number is answered as
the nearest level. Of `ordinal` the mode (`prediction: mode`) is scored in addition to the median, for the same models.
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
from polytask.tasks import METRICS

TYPES = ("ordinal", "classification", "regression")
METRIC_NAMES = ("accuracy", "mae", "quadratic_kappa")
FOLDERS = {"imdb": ("imdb", "rating"), "vader": ("vader_ratings", "score")}


def level_of(name: str, value: float) -> int:
    """Return the level of a rating."""
    return int(value) if name == "imdb" else max(-3, min(3, round(value)))


def rows_of(data: Path, name: str, split: str, most: int | None) -> list[dict[str, Any]]:
    folder, column = FOLDERS[name]
    rows = [row for row in read_rows(data / folder / f"{split}.jsonl") if row.get(column) is not None]
    return [{"text": row["text"], "level": level_of(name, row[column])} for row in rows][:most]


def scored(levels: Sequence[int], truth: Sequence[int], found: Sequence[float]) -> dict[str, float | None]:
    """Return the metrics of answers that are put on the nearest level, as places on the scale."""
    places = {level: float(place) for place, level in enumerate(levels)}
    nearest = [places[min(levels, key=lambda level, value=value: abs(level - value))] for value in found]
    return {name: METRICS["row"][name]([places[level] for level in truth], nearest) for name in METRIC_NAMES}


def measure(options: argparse.Namespace, name: str, kind: str, seed: int) -> dict[str, Any]:
    """Train one type and return its scores on the test rows."""
    rows = {split: rows_of(options.data, name, split, options.held) for split in ("dev", "test")}
    rows["train"] = rows_of(options.data, name, "train", options.rows)
    levels = sorted({row["level"] for split in rows.values() for row in split})
    more = {"ordinal": {"levels": levels}, "regression": {"range": [levels[0], levels[-1]]}}.get(kind, {})
    with tempfile.TemporaryDirectory() as folder:
        data = write_rows(folder, rows)
        values = {
            "encoder": options.encoder,
            "max_tokens": 128,
            "tasks": {"level": {"type": kind, "data": data, "label": "level", **more}},
            "train": {"seed": seed, "epochs": options.epochs},
        }
        run = pt.train(values, Path(folder, "run"))
        record = run_record(Path(folder, "run"))
        answers = run.model.predict([row["text"] for row in rows["test"]], tasks=["level"])
    key = {"ordinal": "level", "classification": "label", "regression": "value"}[kind]
    found = [float(answer["level"][key]) for answer in answers]
    truth = [row["level"] for row in rows["test"]]
    scores = {"test": scored(levels, truth, found)}
    if kind == "ordinal":
        probabilities = [answer["level"]["probabilities"] for answer in answers]
        scores["mode"] = scored(levels, truth, [float(max(shares, key=shares.__getitem__)) for shares in probabilities])
    return {
        "set": name, "type": kind, "seed": seed, "rows": {split: len(listed) for split, listed in rows.items()},
        "levels": levels, **scores,
        "seconds": record.get("seconds"), "steps": record.get("steps"),
    }  # fmt: skip


def table(files: Sequence[Path]) -> str:
    """Return a line for each set and type: mean over the seeds, and their standard deviation."""
    found = [one for file in files if (one := kept(file)) is not None]
    lines = ["| set | type | seeds | accuracy | mae in levels | quadratic kappa |", "|---|---|---|---|---|---|"]
    for name, kind in dict.fromkeys((one["set"], one["type"]) for one in found):
        for scores, suffix in (("test", ""), ("mode", ", mode")):
            own = [one[scores] for one in found if (one["set"], one["type"]) == (name, kind) and scores in one]
            if own:
                cells = [spread([score[metric] for score in own]) for metric in METRIC_NAMES]
                lines.append(f"| {name} | {kind}{suffix} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    own = parser(__doc__, "imdb and vader_ratings")
    own.add_argument("--sets", nargs="+", default=list(FOLDERS), choices=list(FOLDERS))
    own.add_argument("--types", nargs="+", default=list(TYPES), choices=TYPES)
    own.add_argument("--rows", type=int, help="training rows; all by default")
    own.add_argument("--held", type=int, help="rows of dev and of test; all by default")
    own.add_argument("--epochs", type=float, default=3)
    options = own.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for seed in options.seeds:
        for name in options.sets:
            for kind in options.types:
                size = "all" if options.rows is None else options.rows
                files.append(options.results / f"ordinal-{name}-{size}-{options.epochs:g}-{kind}-{seed}.json")
                keep(files[-1], measure, options, name, kind, seed)
    print(table(files))


if __name__ == "__main__":
    main()
