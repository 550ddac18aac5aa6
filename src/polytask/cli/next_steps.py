"""What to do with what a command has made."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from polytask.regular import read_text

if TYPE_CHECKING:
    from polytask.tasks import Task


def next_steps(run: Path, tasks: Iterable[Task]) -> list[str]:
    """Return what to do with a trained run, three lines to be copied."""
    place = shlex.quote(str(run))
    columns = min((task.input_columns for task in tasks), key=len)
    asked = f"polytask predict {place} rows.jsonl  # rows with {' and '.join(columns)}"
    return [
        f"next: polytask report {place}  # one page: scores, errors, curves",
        f"      {asked}" if len(columns) > 1 else f"      echo 'Your text.' | polytask predict {place}",
        f"      polytask serve {place}  # a page and an HTTP API at http://127.0.0.1:8000",
    ]


def doubts(run: Path) -> list[str]:
    """Return what stands beside a run's scores: where they are of few rows, and how much else `check` has to tell."""
    notes = json.loads(read_text(run / "run.json"))["notes"]
    few = [note for note in notes if " carry a label, and " in note or " carries a label, and " in note]
    rest = len(notes) - len(few)
    more = f"{rest} more notes on the data are" if rest > 1 else "one more note on the data is"
    return few + ([f"{more} told by: polytask check {shlex.quote(str(run / 'config.yaml'))}"] if rest else [])
