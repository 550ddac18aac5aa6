"""Files of texts: read line by line, answered in order, written whole or kept as far as they came."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TextIO

from polytask.data.lines import read_lines
from polytask.data.windows import Long
from polytask.errors import DataError, OutputError, UserError
from polytask.files import to_json
from polytask.predict.predictor import Answer, Model
from polytask.predict.record import Record
from polytask.predict.spans import span_writer
from polytask.progress import FileBar


@dataclass(frozen=True)
class Place:
    """Where a record stands.

    Attributes:
        line: its number, from 1.
        position: bytes of the file that were read up to it.
    """

    line: int
    position: int


class Lines:
    """The lines of a file (gzip by its name), or of stdin for `-`. Raises UserError when it is not there.

    Attributes:
        size: bytes of the file; None where that is unknown.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            # Closed by `close`; a descriptor of its own, so that stdin stays open.
            raw = open(os.dup(sys.stdin.fileno()) if name == "-" else name, "rb")  # noqa: SIM115, PTH123
        except OSError as error:
            raise UserError(
                f"{name}: {error.strerror}; name a file of texts (one a line) or jsonl, or - for stdin"
            ) from None
        self._raw: IO[bytes] = raw
        self._text = gzip.GzipFile(fileobj=raw) if name.endswith(".gz") else raw
        self.size = None if name == "-" or not Path(name).is_file() else os.fstat(raw.fileno()).st_size

    def __iter__(self) -> Iterator[str]:
        """Yield the lines; bytes that are no UTF-8 are replaced. Raises UserError for a broken gzip file."""
        try:
            for line in read_lines(self._text, self.name):
                yield line.decode("utf-8", "replace")
        except (gzip.BadGzipFile, EOFError) as error:
            raise UserError(
                f"{self.name}: not a whole gzip file ({error}); write it anew, or name it without .gz"
            ) from None

    @property
    def position(self) -> int:
        """Bytes of the file that were read so far; of a compressed one, as it lies on the disk."""
        return 0 if self.size is None else self._raw.tell()

    def close(self) -> None:
        """Close the file."""
        self._raw.close()


def records(lines: Iterable[str], name: str, told: Callable[[int], None] | None = None) -> Iterator[Record]:
    """Turn lines into records: jsonl when the first line that is not blank is a JSON object, otherwise texts.

    Args:
        told: is given the number of each record's line.

    Raises:
        UserError: a line is no object, and the lines before it are.
    """
    objects: bool | None = None
    for number, line in enumerate(lines, start=1):
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        if objects is None:
            objects = isinstance(_read_object(text), dict)
        found = _read_object(text) if objects else text
        if objects and not isinstance(found, dict):
            raise UserError(f"{name}:{number}: not a JSON object, and the lines before it are")
        if told is not None:
            told(number)
        yield found


def _read_object(text: str) -> Any:  # noqa: ANN401
    """Parse a line as JSON; None when it is not."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def answer_lines(
    model: Model,
    file: str,
    tasks: Sequence[str] | None = None,
    *,
    long: Long = "truncate",
    out: Path | None = None,
    spans: str | None = None,
    say: Callable[[str], None],
) -> None:
    """Answer a file line by line, in its order, with memory for a block of records however long the file is.

    Args:
        file: texts (one a line) or jsonl; `-` for stdin.
        out: file for the answers; without one they go to stdout. It appears when it is whole.
        spans: the tool for which the entities of one task are written as annotations, in place of all answers.
        say: is told where the answers are that were written before something went wrong.

    Raises:
        UserError: the file is not there, or a line of it cannot be read; those before it have been answered.
    """
    shown = Answer.to_json if spans is None else span_writer(model, tasks, spans)
    lines = Lines(file)
    places: deque[Place] = deque()
    given = records(lines, file, lambda number: places.append(Place(number, lines.position)))
    show = sys.stderr.isatty() and lines.size is not None and (out is not None or not sys.stdout.isatty())
    try:
        with writing(out, say) as sink, FileBar(lines.size or 0, show=show) as bar:
            for answer in model.answers(given, tasks, long=long):
                sink.write(to_json(shown(answer), "answer") + "\n")
                bar.advance(places.popleft().position)
    except DataError as error:  # of the first record that has no answer
        raise DataError(f"{file}:{places[0].line}: {error}" if places else str(error)) from None
    finally:
        lines.close()


@contextmanager
def writing(out: Path | None, say: Callable[[str], None]) -> Generator[TextIO]:
    """Give a file to write to, which takes its name when it is whole; what went wrong before leaves OUT.partial."""
    if out is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    partial = out.with_name(f"{out.name}.partial")
    try:
        sink = partial.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror}); name a file in a folder that is there"
        ) from None
    try:
        yield sink
    except BaseException:
        sink.close()
        say(f"the answers so far are in {partial}")
        raise
    sink.close()
    partial.replace(out)
