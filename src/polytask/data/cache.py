"""A folder of files named by a hash of what they were made from; a file is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Raised whenever the form or the making of cached files changes.
FORM = 4


def cache_dir() -> Path:
    """Return the cache folder: $POLYTASK_CACHE, or ~/.cache/polytask."""
    return Path(os.environ.get("POLYTASK_CACHE") or Path.home() / ".cache" / "polytask")


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(*parts: Any) -> str:  # noqa: ANN401
    """Return a short hash of JSON-ready parts."""
    text = json.dumps([FORM, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cached file of that name; where it is not there, make it in a temporary file and move it in place."""
    path = cache_dir() / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".making-")
        os.close(handle)
        try:
            make(Path(temporary))
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    return path
