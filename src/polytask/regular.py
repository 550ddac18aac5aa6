"""Safe reading of paths that may be anything: pipes would block for ever, devices never end, names may be invalid."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

# Largest file in bytes that is read as a whole: larger than any record, configuration or log of a run.
MOST_BYTES = 2**30


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading bytes. Raises OSError if it is not a regular file, or cannot be opened."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return open(handle, "rb")  # noqa: PTH123 - of a handle
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path) -> bytes:
    """Return the content of a regular file. Raises OSError for anything else, and for files over 1 GiB."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES:,} bytes", str(path))
        return file.read()


def read_text(path: Path, errors: str = "strict") -> str:
    """Return the text of a regular UTF-8 file, with line endings normalised.

    Raises OSError like `read_bytes`, and UnicodeDecodeError if the bytes are not text.
    """
    return io.TextIOWrapper(io.BytesIO(read_bytes(path)), "utf-8", errors).read()


def is_folder(path: str | Path) -> bool:
    """Whether a path is a folder; false for names that the system rejects, such as too long ones."""
    return os.path.isdir(path)  # noqa: PTH112 - pathlib raises


def is_file(path: str | Path) -> bool:
    """Whether a path is a file; false for names that the system rejects."""
    return os.path.isfile(path)  # noqa: PTH113


def is_there(path: str | Path) -> bool:
    """Whether a path exists; false for names that the system rejects."""
    return os.path.exists(path)  # noqa: PTH110
