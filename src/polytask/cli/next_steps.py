"""What to do with what a command has made."""

from __future__ import annotations

import shlex
from pathlib import Path


def next_steps(run: Path) -> list[str]:
    """Return what to do with a trained run, three lines to be copied."""
    place = shlex.quote(str(run))
    return [
        f"next: polytask report {place}  # one page: scores, errors, curves",
        f"      echo 'Your text.' | polytask predict {place}",
        f"      polytask serve {place}  # a page and an HTTP API at http://127.0.0.1:8000",
    ]
