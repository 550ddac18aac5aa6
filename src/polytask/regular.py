"""Reading files that may be anything: a pipe would wait for ever, and a device never end; and names that are none."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

# Bytes of a file that is read as a whole: more than any record, configuration or log of a run holds.
MOST_BYTES = 2**30


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading bytes. Raises OSError where it is no regular file, or cannot be opened."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return open(handle, "rb")  # noqa: PTH123 - of a handle
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path) -> bytes:
    """Return the content of a regular file. Raises OSError for anything else, and for one of over a gibibyte."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES:,} bytes", str(path))
        return file.read()


def read_text(path: Path, errors: str = "strict") -> str:
    """Return the text of a regular file in UTF-8, with one kind of line ending.

    Raises OSError as `read_bytes`, and UnicodeDecodeError where the bytes are no text.
    """
    return io.TextIOWrapper(io.BytesIO(read_bytes(path)), "utf-8", errors).read()


def is_folder(path: str | Path) -> bool:
    """Whether a path is a folder. A name that the system refuses, such as one that is too long, is none."""
    return os.path.isdir(path)  # noqa: PTH112 - pathlib raises


def is_file(path: str | Path) -> bool:
    """Whether a path is a file. A name that the system refuses is none."""
    return os.path.isfile(path)  # noqa: PTH113


def is_there(path: str | Path) -> bool:
    """Whether there is anything at a path. A name that the system refuses is nothing."""
    return os.path.exists(path)  # noqa: PTH110
