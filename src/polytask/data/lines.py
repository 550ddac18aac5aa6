"""Lines of files, of a length that fits into memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Protocol

from polytask.errors import DataError

# Bytes of a line: a text of two million words. A file without line breaks would fill the memory.
MOST_LINE_BYTES = 16 * 2**20


class Readable(Protocol):
    """A file of bytes, compressed or not."""

    def readline(self, size: int, /) -> bytes:
        """Return the next line, or its first bytes."""
        ...


def read_lines(file: Readable, name: str) -> Iterator[bytes]:
    """Yield the lines of a file with their endings. Raises DataError, naming the place, for one that is too long."""
    for number in count(1):
        line = file.readline(MOST_LINE_BYTES + 1)
        if not line:
            return
        if len(line) > MOST_LINE_BYTES:
            raise DataError(
                f"{name}:{number}: the line has more than {MOST_LINE_BYTES:,} bytes; write one text a line, and check "
                "that the file has line breaks and is of the format that its name says"
            )
        yield line
