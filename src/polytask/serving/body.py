"""The body of a request, read value by value, up to the first one that is too much or has no place there.

`json.loads` is one call that holds up every other thread, and so the event loop, until it has read all of a body: 20 ms
for a megabyte of numbers, of which the first shows that it is no list of texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from polytask.errors import PolytaskError, nearest
from polytask.serving.options import ServeOptions

# What names no size of the model's, but would take time: tasks may be named again and again, and columns be empty.
MOST_TASKS = MOST_COLUMNS = 1000
UNFORMED = 'expected an object {"texts": [...], "tasks": [...]} with the header Content-Type: application/json'
KINDS = "a text, a list of two texts, or an object whose values are texts or lists of texts (columns)"
_SPACE = re.compile(r"[ \t\n\r]*")
# How values begin that are JSON, and neither an object nor a list nor a text.
_OTHERS = frozenset("-0123456789tfnNI")
# Reads the one value that begins somewhere; here never an object or a list.
_DECODER: Any = json.JSONDecoder()
_scan: Callable[[str, int], tuple[Any, int]] = _DECODER.scan_once
Reader: TypeAlias = "Callable[[JsonValues, ServeOptions], Any]"


class RequestRefused(PolytaskError):
    """A request that is not answered, with the status that says so."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(detail)


def read_body(body: bytes, options: ServeOptions) -> dict[str, Any]:
    """Return the object that a body holds, with the sizes and types of its values checked.

    Raises Refused where it is of another form or too large, ValueError where it is no JSON in UTF-8.
    """
    return read_fields(body, _READERS, options, UNFORMED)


def read_fields(body: bytes, readers: Mapping[str, Reader], options: ServeOptions, unformed: str) -> dict[str, Any]:
    """Return the object that a body holds, each of its values as its reader takes it.

    Args:
        readers: by key; others are refused.
        unformed: what is told where the body is no object.

    Raises Refused and ValueError as `read_body` does.
    """
    values = JsonValues(body.decode(json.detect_encoding(body), "surrogatepass"))
    if values.next() in _OTHERS | {"[", '"'}:
        raise RequestRefused(422, unformed)
    found: dict[str, Any] = {}
    for key in values.names():
        if key not in readers:
            raise RequestRefused(422, f"found the key {key[:80]!r}; {nearest(key[:80], readers)}")
        found[key] = readers[key](values, options)
    if values.next():
        raise json.JSONDecodeError("Extra data", values.text, values.at)
    return found


class JsonValues:
    """The values of a JSON text, one after another.

    Attributes:
        at: where the next one begins.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def next(self) -> str:
        """Return the next character beside white space, and leave it there; nothing at the end."""
        space = _SPACE.match(self.text, self.at)
        self.at = self.at if space is None else space.end()
        return self.text[self.at : self.at + 1]

    def scalar(self) -> Any:  # noqa: ANN401
        """Take a text, number or word."""
        try:
            value, self.at = _scan(self.text, self.at)
        except StopIteration:
            raise self.wrong("Expecting value") from None
        return value

    def names(self) -> Iterator[str]:
        """Yield the keys of an object; who is given one takes its value. Raises Refused for a key that stands twice."""
        seen: set[str] = set()
        for _ in self._parts("{", "}"):
            if self.next() != '"':
                raise self.wrong("Expecting a key in double quotes")
            key = self.scalar()
            if key in seen:
                raise RequestRefused(422, f"found the key {key[:80]!r} twice")
            seen.add(key)
            self._take(":")
            yield key

    def texts(self, place: str, expected: str) -> Iterator[str]:
        """Yield the items of a list of texts. Raises Refused for another item, with its place."""
        for index, _ in enumerate(self.items()):
            if self.next() != '"':
                self.refuse(f"{place}[{index}]", expected)
            yield self.scalar()

    def items(self) -> Iterator[None]:
        """Stop before each item of a list, for who takes it."""
        return self._parts("[", "]")

    def refuse(self, place: str, expected: str) -> None:
        """Raise Refused for a value of another type, and JSONDecodeError where there is no value."""
        if self.next() in _OTHERS | {"[", "{", '"'}:
            raise RequestRefused(422, f"{place}: {expected}")
        raise self.wrong("Expecting value")

    def wrong(self, message: str) -> json.JSONDecodeError:
        """Return the error that the text is no JSON at this place."""
        return json.JSONDecodeError(message, self.text, self.at)

    def _take(self, character: str) -> None:
        if self.next() != character:
            raise self.wrong(f"Expecting {character!r}")
        self.at += 1

    def _parts(self, begin: str, end: str) -> Iterator[None]:
        self._take(begin)
        more = self.next() != end
        while more:
            yield
            more = self.next() != end
            if more:
                self._take(",")
        self.at += 1


def _read_texts(values: JsonValues, options: ServeOptions) -> list[Any]:
    if values.next() != "[":
        values.refuse("texts", "input should be a valid list")
    found: list[Any] = []
    for _ in values.items():
        if len(found) == options.max_texts:
            raise RequestRefused(422, f"texts: found more than {len(found)}; at most {len(found)} a request")
        found.append(read_record(values, f"texts[{len(found)}]", options.max_characters))
    return found


def read_record(values: JsonValues, place: str, most: int) -> Any:  # noqa: ANN401
    """Take a text, a pair, or a row of texts and lists of texts, of so many characters at most."""
    kind = values.next()
    if kind == '"':
        return _counted(values.scalar(), 0, place, most)
    if kind == "[":
        return _read_list(values, place, 0, most)
    if kind != "{":
        values.refuse(place, f"expected {KINDS}")
    row: dict[str, Any] = {}
    size = 0
    for key in values.names():
        if len(row) == MOST_COLUMNS:
            raise RequestRefused(422, f"{place}: found more than {MOST_COLUMNS} columns; at most {MOST_COLUMNS}")
        if values.next() == "[":
            cell = _read_list(values, place, size, most)
            size += sum(len(item) + 1 for item in cell)
        else:
            if values.next() != '"':
                values.refuse(place, f"expected {KINDS}")
            cell = _counted(values.scalar(), size, place, most)
            size += len(cell)
        row[key] = cell
    return row


def _read_list(values: JsonValues, place: str, size: int, most: int) -> list[str]:
    """Take a list of texts, of which each counts for a character more, so that empty ones count too."""
    found: list[str] = []
    for item in values.texts(place, f"expected {KINDS}"):
        found.append(_counted(item, size + 1, place, most))
        size += len(item) + 1
    return found


def _counted(text: str, size: int, place: str, most: int) -> str:
    """Return a text. Raises Refused where it makes a record too long, which has so many characters already."""
    if size + len(text) > most:
        raise RequestRefused(413, f"{place}: found {size + len(text)} characters or more; at most {most}")
    return text


def _read_tasks(values: JsonValues, options: ServeOptions) -> list[str] | None:
    del options
    if values.next() == "n":
        return values.scalar()
    if values.next() != "[":
        values.refuse("tasks", "input should be a valid list")
    found: list[str] = []
    for name in values.texts("tasks", "input should be a valid string"):
        if len(found) == MOST_TASKS:
            raise RequestRefused(422, f"tasks: found more than {MOST_TASKS}; at most {MOST_TASKS} a request")
        found.append(name)
    return found


_READERS: dict[str, Reader] = {"texts": _read_texts, "tasks": _read_tasks}
