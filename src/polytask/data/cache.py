"""A folder of files named by a hash of what they were made from; a file is there whole or not at all.

It is checked when it is read: a file that was cut or altered is made anew.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from polytask.errors import OutputError
from polytask.files import Damaged, discard, reason, remove, seal, sweep, sync, unseal
from polytask.files import file_digest as file_digest
from polytask.lock import in_use

# Raised whenever the form or the making of cached files changes.
FORM = 13
# The cached file in the folder of its name.
DATA = "data"
LOG = logging.getLogger(__name__)
_MAKING = ".making-"
# What was found whole by this process, with what tells whether it has changed since.
_WHOLE: dict[Path, tuple[int, ...]] = {}


def cache_dir() -> Path:
    """Return the cache folder: $POLYTASK_CACHE, or ~/.cache/polytask."""
    return Path(os.environ.get("POLYTASK_CACHE") or Path.home() / ".cache" / "polytask")


def key_of(*parts: Any) -> str:  # noqa: ANN401
    """Return a short hash of JSON-ready parts."""
    text = json.dumps([FORM, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cached file of that name; make it where it is not there, or is not what was written.

    Each file lies in a folder of its own with its hash, which is moved in place when both are on the disk.

    Raises OutputError when the cache cannot be written.
    """
    entry = cache_dir() / name
    try:
        _require_whole(entry)
    except Damaged as error:
        if entry.exists():
            LOG.warning("%s: the cached file is damaged (%s) and is made anew", entry, error)
        _make(entry, make)
    return entry / DATA


def _require_whole(entry: Path) -> None:
    """Raise Damaged unless an entry is as it was written; one that was looked at is hashed again if it has changed."""
    stamp = _stamp(entry)
    if _WHOLE.get(entry) != stamp:
        unseal(entry)
        _WHOLE[entry] = stamp


def _is_whole(entry: Path) -> bool:
    try:
        _require_whole(entry)
    except Damaged:
        return False
    return True


def _stamp(entry: Path) -> tuple[int, ...]:
    try:
        told = (entry / DATA).stat()
    except OSError as error:
        raise Damaged(f"{DATA}: {reason(error)}") from None
    return told.st_ino, told.st_size, told.st_mtime_ns


def _make(entry: Path, make: Callable[[Path], None]) -> None:
    folder = entry.parent
    temporary = folder / f"{_MAKING}{secrets.token_hex(8)}"
    try:
        temporary.mkdir(parents=True)
        with in_use(temporary):
            sweep(folder, _MAKING)
            make(temporary / DATA)
            seal(temporary)
            _put_in_place(temporary, entry)
    except OSError as error:
        if not _is_of_the_cache(error, folder):
            raise
        raise OutputError(
            f"{folder}: the cache cannot be written ({reason(error)}); free space there, or name another folder in "
            "the environment variable POLYTASK_CACHE"
        ) from None
    finally:
        remove(temporary)


def _put_in_place(temporary: Path, entry: Path) -> None:
    if entry.exists() and not _is_whole(entry):
        with suppress(FileNotFoundError):
            discard(entry)
    try:
        temporary.rename(entry)  # never over a whole one, which another process made and may be opening
        sync(entry.parent)
    except OSError:
        if not _is_whole(entry):
            raise


def _is_of_the_cache(error: OSError, folder: Path) -> bool:
    """Whether an error is about writing into the cache, and not about a file that was read for it."""
    if error.filename is not None:
        return Path(os.fsdecode(error.filename)).is_relative_to(folder) or error.filename in map(str, folder.parents)
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
