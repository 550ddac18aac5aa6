"""A folder of files named after a hash of their inputs; a file exists either completely or not at all.

Files are checked when they are read: truncated or altered files are recreated.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polytask.errors import OutputError
from polytask.files import Damaged, discard, reason, seal, sweep, sync, temporary_folder, unseal
from polytask.files import file_digest as file_digest
from polytask.lock import in_use

# Incremented whenever the format or the creation of cached files changes.
FORM = 17
# Name of the cached file inside its folder.
DATA = "data"
LOG = logging.getLogger(__name__)
_MAKING = ".making-"
# How often, and after how many seconds, an entry that another process discards is looked at again.
_TRIES, _WAIT_S = 200, 0.02
# Entries that this process has verified, with a stamp that changes if the file does.
_WHOLE: dict[Path, tuple[int, ...]] = {}


def cache_dir() -> Path:
    """Return the cache folder: $POLYTASK_CACHE, or ~/.cache/polytask."""
    return Path(os.environ.get("POLYTASK_CACHE") or Path.home() / ".cache" / "polytask")


def key_of(*parts: Any) -> str:  # noqa: ANN401
    """Return a short hash of JSON-serializable parts."""
    text = json.dumps([FORM, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cached file with a name; create it if it is missing or damaged.

    Each file is in a folder of its own with its hash; the folder is renamed into place once both are on disk.

    Raises OutputError if the cache cannot be written.
    """
    entry = cache_dir() / name
    try:
        _require_whole(entry)
    except Damaged as error:
        if entry.exists():
            LOG.warning("%s: the cached file is damaged (%s) and will be recreated", entry, error)
        _make(entry, make)
    return entry / DATA


def _require_whole(entry: Path) -> None:
    """Raise Damaged unless an entry is as it was written; a verified entry is hashed again only if it has changed."""
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
        status = (entry / DATA).stat()
    except OSError as error:
        raise Damaged(f"{DATA}: {reason(error)}") from None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _make(entry: Path, make: Callable[[Path], None]) -> None:
    folder = entry.parent
    try:
        with temporary_folder(folder, _MAKING) as temporary:
            sweep(folder, _MAKING)
            make(temporary / DATA)
            seal(temporary)
            _put_in_place(temporary, entry)
    except OSError as error:
        if not _is_cache_error(error, folder):
            raise
        raise OutputError(
            f"{folder}: the cache cannot be written ({reason(error)}); free space there, or name another folder in "
            "the environment variable POLYTASK_CACHE"
        ) from None


def _put_in_place(temporary: Path, entry: Path) -> None:
    for left in reversed(range(_TRIES)):
        # Marked, so that of several processes only one discards it, and none what another has put in its place.
        with in_use(entry) as held:
            if held and not _is_whole(entry):
                discard(entry)
        try:
            temporary.rename(entry)  # never over a complete one, which another process made and may be opening
            sync(entry.parent)
            return
        except OSError as error:
            if _is_whole(entry):
                return
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) or not left:
                raise
        time.sleep(_WAIT_S)  # another process is discarding it


def _is_cache_error(error: OSError, folder: Path) -> bool:
    """Whether an error is about writing into the cache, not about reading an input file."""
    if error.filename is not None:
        return Path(os.fsdecode(error.filename)).is_relative_to(folder) or error.filename in map(str, folder.parents)
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
