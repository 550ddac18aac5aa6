"""Results as files: a run is made once, and several processes may share a benchmark."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def keep(file: Path, measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any] | None:
    """Measure what no process has begun yet, and keep it in a file; return None where another one has."""
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        return None
    try:
        found = measure(*arguments)
    except BaseException:
        file.unlink()
        raise
    partial = file.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    partial.replace(file)
    return found


def kept(file: Path) -> dict[str, Any] | None:
    """Return what was kept; None where nothing was, or a process is at it."""
    return json.loads(file.read_text("utf-8")) if file.exists() and file.stat().st_size else None
