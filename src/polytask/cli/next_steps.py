"""Suggestions for the next commands."""

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
    """Return three commands to use a trained run with, for copying."""
    place = shlex.quote(str(run))
    columns = min((task.input_columns for task in tasks), key=len)
    command = f"polytask predict {place} rows.jsonl  # rows with {' and '.join(columns)}"
    return [
        f"next: polytask report {place}  # one page: scores, errors, curves",
        f"      {command}" if len(columns) > 1 else f"      echo 'Your text.' | polytask predict {place}",
        f"      polytask serve {place}  # a page and an HTTP API at http://127.0.0.1:8000",
    ]


def score_notes(run: Path) -> list[str]:
    """Return notes on a run's scores: those from few rows, and the number of other notes from `check`."""
    notes = json.loads(read_text(run / "run.json"))["notes"]
    few = [note for note in notes if " carry a label, and " in note or " carries a label, and " in note]
    rest = len(notes) - len(few)
    more = f"{rest} more notes" if rest > 1 else "one more note"
    return few + ([f"{more} on the data: polytask check {shlex.quote(str(run / 'config.yaml'))}"] if rest else [])
