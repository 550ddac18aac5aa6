"""Data files: their lines, whatever their compression and encoding."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from polytask.data.encodings import likely_encodings
from polytask.data.paths import format_of
from polytask.errors import DataError
from polytask.options import FileOptions, Format

# Maximum bytes of a line: a text of two million words. A longer line is most often an unclosed quote, or a file without
# line breaks, which would fill the memory.
MOST_LINE_BYTES = 16 * 2**20
_HEAD_BYTES = 4096
_MARK = "\ufeff"
_MARKS = (
    "{count} lines begin with a byte order mark (BOM), as in files joined from several; it was "
    "left out, the first at {place}"
)
_NULS = "{count} lines hold NUL characters, as in damaged files, the first at {place}"
_PAGE = "if you saved a link in place of the file, download the file itself; or save the table as csv"
# Patterns of first bytes, with the kind of file and what to do.
_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (rb"PK\x03\x04", "a zip archive (as xlsx files are)", "unpack it, or save the table as csv"),
    (rb"BZh[1-9]1AY&SY", "compressed with bzip2", "unpack it, or compress it with gzip"),
    (rb"\xfd7zXZ\x00", "compressed with xz", "unpack it, or compress it with gzip"),
    (rb"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it, or compress it with gzip"),
    (rb"%PDF-", "a PDF", "save its texts, one per line"),
    (rb"\{\\rtf", "a rich text document (rtf)", "save it as plain text"),
    (rb"PAR1", "a parquet file", "give `format: parquet`, or name it .parquet"),
    (rb"ARROW1", "an Arrow (Feather) file", "write it as parquet"),
    (
        rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "in an old Office format (.xls, .doc)",
        "open it in an Office program and save it as CSV",
    ),
    (rb"SQLite format 3\x00", "an SQLite database", "write its table as csv or jsonl"),
    (rb"\x80[\x02-\x05]", "a pickle, which would run code", "write its rows as jsonl or parquet"),
    (rb"\x93NUMPY", "a NumPy array", "write its rows as jsonl or parquet"),
    (rb"\x89HDF", "an HDF5 file", "write its rows as jsonl or parquet"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (rb"(?s).{257}ustar", "a tar archive", "unpack it, and name the folder or the files in it"),
    (rb"(?i)(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|table)\b", "a web page (HTML)", _PAGE),
    (rb"(?:\xef\xbb\xbf)?\s*<\?xml\b", "an XML file", "write its rows as csv or jsonl"),
    (rb"version https://git-lfs\.github\.com", "a Git LFS pointer in place of the data", "run `git lfs pull`"),
    (rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff", "UTF-32", "save it as UTF-8, or give `encoding: utf-32` next to the path"),
    (rb"\xff\xfe|\xfe\xff", "UTF-16", "save it as UTF-8, or give `encoding: utf-16` next to the path"),
)
# Maximum number of lines that are not UTF-8 by which the encoding is guessed.
_STRANGE_LINES = 1000
# For each of these lines, this many others may be valid UTF-8 by chance; with more, the file is damaged UTF-8.
_USUAL = 0.05
# Characters that texts hardly have; their share that makes a file binary, and the least number of bytes to judge by.
_CONTROLS = bytes({*range(9), *range(14, 27), *range(28, 32)})
_BINARY, _FEWEST_BYTES = 0.3, 256
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class LikelyEncoding:
    """What the encoding of a file that is not UTF-8 may be.

    Attributes:
        name: the most likely encoding that can decode the whole file; None if there is none.
        other: the next most likely one; None if there is none.
        line: the first line that is not UTF-8, decoded; empty without an encoding.
        damaged: whether the file is UTF-8 except for some lines.
    """

    name: str | None = None
    other: str | None = None
    line: str = ""
    damaged: bool = False


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


class ReadingNotes:
    """Notes for the user on how rows were read: the message, the number of cases, and the place of the first.

    Attributes:
        found: count and first place, by the message, which has the placeholders {count} and {place}.
    """

    def __init__(self, remarks: Iterable[tuple[str, int, str]] = ()) -> None:
        self.found: dict[str, tuple[int, str]] = {message: (count, place) for message, count, place in remarks}

    def add(self, message: str, place: str) -> None:
        """Count one more case of a message."""
        count, first = self.found.get(message, (0, place))
        self.found[message] = (count + 1, first)

    def messages(self) -> list[str]:
        """Return the messages with their counts and places."""
        return [message.format(count=count, place=place) for message, (count, place) in self.found.items()]

    def to_json(self) -> list[tuple[str, int, str]]:
        """Return a JSON form, which the constructor accepts."""
        return [(message, count, place) for message, (count, place) in self.found.items()]


@dataclass(frozen=True)
class DataFile:
    """A file to read, with the options next to its path.

    Attributes:
        remarks: collects notes for the user on how the file was read.
        refused: called with the line and reason of each row that cannot be read, if reading should go on after it.
    """

    path: Path
    options: FileOptions = field(default_factory=FileOptions)
    remarks: ReadingNotes = field(default_factory=ReadingNotes)
    refused: Callable[[int, str], None] | None = None

    @property
    def format(self) -> Format:
        """The format in the options, or that of the extension. Raises DataError for an unknown extension."""
        return self.options.format or format_of(self.path)

    def place(self, line: int) -> str:
        """Return the name of a line in messages."""
        return f"{self.path}:{line}"

    def refuse(self, line: int, reason: str) -> None:
        """Refuse one row after which the file can still be read. Raises DataError unless `refused` is set."""
        if self.refused is None:
            raise DataError(reason)
        self.refused(line, reason)

    def raw_lines(self) -> Iterator[tuple[int, str]]:
        """Yield numbered lines with their endings, split at newlines only (texts may hold other line separators).

        Raises DataError if the file is not text in its encoding, or not what its name says.
        """
        encoding = self.options.encoding or "utf-8"
        number = 0
        try:
            with self._opened() as stream:
                if self.options.encoding is None:
                    self._require_text(stream)
                lines = _lines_of_bytes if "\n".encode(encoding) == b"\n" else _lines_of_wide
                for number, line in lines(stream, encoding):
                    text = self._cleaned(number, line)
                    if text:
                        yield number, text
        except _UNREADABLE as error:
            raise DataError(self._unreadable(number + 1, error)) from None

    def _cleaned(self, number: int, line: str) -> str:
        """Return a line without a leading byte order mark, and note characters that should not be in it."""
        if "\0" in line:
            self.remarks.add(_NULS, self.place(number))
        if not line.startswith(_MARK):
            return line
        if number > 1:
            self.remarks.add(_MARKS, self.place(number))
        return line.lstrip(_MARK)

    def likely_encoding(self) -> LikelyEncoding | None:
        """Return what the encoding of a file may be that is not UTF-8; None if it is, or cannot be read again."""
        sample: list[bytes] = []
        strange = usual = 0
        try:
            for line in self._bytes():
                if line.isascii():
                    continue
                if _is_utf8(line):
                    usual += 1
                    continue
                strange += 1
                if strange <= _STRANGE_LINES:
                    sample.append(line)
            if not strange:
                return None
            if usual > _USUAL * strange:
                return LikelyEncoding(damaged=True)
            able = [name for name in likely_encodings(b"".join(sample)) if self._decodes(name)]
        except (*_UNREADABLE, DataError):
            return None
        if not able:
            return LikelyEncoding()
        return LikelyEncoding(able[0], next(iter(able[1:]), None), sample[0].decode(able[0]).strip())

    def _decodes(self, encoding: str) -> bool:
        """Whether an encoding can decode all lines."""
        try:
            for line in self._bytes():
                line.decode(encoding)
        except UnicodeDecodeError:
            return False
        return True

    def _bytes(self) -> Iterator[bytes]:
        with self._opened() as stream:
            self._require_text(stream)
            while line := stream.readline(MOST_LINE_BYTES):
                yield line

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield numbered lines without the ending."""
        for number, text in self.raw_lines():
            yield number, text.removesuffix("\n").removesuffix("\r")

    def open(self) -> io.BufferedReader:
        """Open the file in binary mode, without decompression."""
        return self.path.open("rb")

    @contextmanager
    def _opened(self) -> Generator[Any]:
        with self.open() as stream:
            # By the first bytes, so that gzip files without .gz in their name are read too.
            if stream.peek(2).startswith(_GZIP) or self.path.suffix.lower() == ".gz":
                with gzip.GzipFile(fileobj=stream) as unpacked:
                    yield unpacked
            else:
                yield stream

    def _require_text(self, stream: Any) -> None:  # noqa: ANN401
        """Raise DataError if the first bytes show that the file is not text in UTF-8, and say what it is."""
        head: bytes = stream.peek(_HEAD_BYTES)[:_HEAD_BYTES]
        for pattern, kind, mend in _KINDS:
            if re.match(pattern, head):
                raise DataError(f"{self.path}: the file is {kind}, not text in UTF-8; {mend}")
        even, odd = head[0::2], head[1::2]
        for name, zeros, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
            letters = sum(chr(byte).isalnum() for byte in others)
            if len(zeros) > 1 and zeros.count(0) > 0.4 * len(zeros) and letters > 0.2 * len(others):
                raise DataError(
                    f"{self.path}: the file seems to be UTF-16 without a byte order mark, not text in UTF-8; save it "
                    f"as UTF-8, or give `encoding: {name}` next to the path"
                )
        controls = len(head) - len(head.translate(None, _CONTROLS))
        if len(head) >= _FEWEST_BYTES and controls > _BINARY * len(head):
            raise DataError(
                f"{self.path}: the file is binary, not text in UTF-8; write its rows as csv, jsonl or parquet"
            )

    def _unreadable(self, number: int, error: Exception) -> str:
        place = self.place(number)
        if isinstance(error, UnicodeDecodeError):
            return f"{place}: {self._undecodable(error)}"
        if isinstance(error, _TooLong):
            return (
                f"{place}: the line has more than {MOST_LINE_BYTES:,} bytes; write one text per line, and check "
                "that the file has line breaks and the format that its name says"
            )
        if isinstance(error, gzip.BadGzipFile | EOFError | zlib.error):
            return f"{self.path}: not a complete gzip file ({error}); create it again, or unpack it"
        return f"{self.path}: cannot be read ({getattr(error, 'strerror', None) or error})"

    def _undecodable(self, error: UnicodeDecodeError) -> str:
        """Return what is wrong with a line that cannot be decoded, and what to do."""
        likely = self.likely_encoding()
        name = None if likely is None else likely.name
        such = "" if name is None else f", such as `encoding: {name}` (on a command line: --written encoding={name})"
        if self.options.encoding is not None:
            return f"found bytes that are not {self.options.encoding} ({error.reason}); give another `encoding`{such}"
        byte = f"byte {error.start + 1} of the line is not UTF-8"
        if likely is not None and likely.damaged:
            return (
                f"{byte} (0x{error.object[error.start]:02x}), but other lines of the file are: correct this place, or "
                "save the file as UTF-8 again"
            )
        return f"{byte}; save the file as UTF-8, or name its encoding next to the path{such or ' (`encoding`)'}"


class _TooLong(Exception):
    """A line is longer than the limit."""


_UNREADABLE = (UnicodeError, _TooLong, EOFError, zlib.error, OSError)


def _lines_of_bytes(stream: IO[bytes], encoding: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of an encoding in which a newline is one byte that occurs in no other character."""
    first = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    number = 0
    while raw := stream.readline(MOST_LINE_BYTES + 1):
        if len(raw) > MOST_LINE_BYTES:
            raise _TooLong
        number += 1
        text = raw.decode(first if number == 1 else encoding)
        if text:  # a byte order mark alone is not a line
            yield number, text


def _lines_of_wide(stream: IO[bytes], encoding: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of an encoding with several bytes per character, such as UTF-16."""
    text = io.TextIOWrapper(stream, encoding, newline="\n")
    try:
        number = 0
        while line := text.readline(MOST_LINE_BYTES):
            if len(line) == MOST_LINE_BYTES:
                raise _TooLong
            number += 1
            yield number, line
    finally:
        text.detach()
