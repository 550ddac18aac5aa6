"""Incremental parser of request bodies, which stops at the first value that is invalid or exceeds a limit.

`json.loads` is a single call that blocks all other threads, and so the event loop, until it has read the whole body:
20 ms for a megabyte of numbers, although the first one shows that it is not a list of texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from polytask.errors import PolytaskError, nearest
from polytask.serving.options import ServeOptions

# Limits on what does not depend on the model but takes time: tasks may be repeated, and columns empty.
MOST_TASKS = MOST_COLUMNS = 1000
UNFORMED = 'expected an object {"texts": [...], "tasks": [...]}'
KINDS = "a text, a list of two texts, or an object whose values are texts or lists of texts (columns)"
_SPACE = re.compile(r"[ \t\n\r]*")
# Kinds of JSON values by their first character.
_NAMES = {
    **{"[": "a list", "{": "an object", '"': "a text", "n": "null", "t": "true", "f": "false"},
    **dict.fromkeys("-0123456789NI", "a number"),
}
# Reads the single value at a position, which is never an object or a list here.
_DECODER: Any = json.JSONDecoder()
_scan: Callable[[str, int], tuple[Any, int]] = _DECODER.scan_once
Reader: TypeAlias = "Callable[[JsonValues, ServeOptions], Any]"


class RequestRefused(PolytaskError):
    """A rejected request, with its HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(detail)


def read_body(body: bytes, options: ServeOptions) -> dict[str, Any]:
    """Return the object in a body, with the sizes and types of its values checked.

    Raises RequestRefused if it has another form or is too large, ValueError if it is not JSON in UTF-8.
    """
    return read_fields(body, _READERS, options, UNFORMED)


def read_fields(body: bytes, readers: Mapping[str, Reader], options: ServeOptions, unformed: str) -> dict[str, Any]:
    """Return the object in a body, with each value read by the reader of its key.

    Args:
        body: the body.
        readers: readers by key; other keys are rejected.
        options: limits of the server.
        unformed: message if the body is not an object.

    Raises RequestRefused and ValueError like `read_body`.
    """
    values = JsonValues(body.decode(json.detect_encoding(body), "surrogatepass"))
    if values.next() in _NAMES and values.next() != "{":
        raise RequestRefused(422, f"found {_NAMES[values.next()]}; {unformed}")
    fields: dict[str, Any] = {}
    for key in values.names():
        if key not in readers:
            raise RequestRefused(422, f"found the key {key[:80]!r}; {nearest(key[:80], readers)}")
        fields[key] = readers[key](values, options)
    if values.next():
        raise json.JSONDecodeError("Extra data", values.text, values.at)
    return fields


class JsonValues:
    """Reads the values of a JSON text one after another.

    Attributes:
        at: position of the next value.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def next(self) -> str:
        """Return the next non-space character without consuming it; empty at the end."""
        space = _SPACE.match(self.text, self.at)
        self.at = self.at if space is None else space.end()
        return self.text[self.at : self.at + 1]

    def scalar(self) -> Any:  # noqa: ANN401
        """Read a text, number or literal."""
        try:
            value, self.at = _scan(self.text, self.at)
        except StopIteration:
            raise self.wrong("Expecting value") from None
        return value

    def names(self) -> Iterator[str]:
        """Yield the keys of an object; the caller reads each value. Raises RequestRefused for a duplicate key."""
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
        """Yield the items of a list of texts. Raises RequestRefused for any other item, with its place."""
        for index, _ in enumerate(self.items()):
            if self.next() != '"':
                self.refuse(f"{place}[{index}]", expected)
            yield self.scalar()

    def items(self) -> Iterator[None]:
        """Yield before each item of a list; the caller reads the item."""
        return self._parts("[", "]")

    def refuse(self, place: str, expected: str) -> None:
        """Raise RequestRefused for a value of the wrong type, and JSONDecodeError if there is no value."""
        if self.next() in _NAMES:
            raise RequestRefused(422, f"{place}: found {_NAMES[self.next()]}; {expected}")
        raise self.wrong("Expecting value")

    def wrong(self, message: str) -> json.JSONDecodeError:
        """Return the error for invalid JSON at this position."""
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
        values.refuse("texts", "expected a list")
    records: list[Any] = []
    for _ in values.items():
        if len(records) == options.max_texts:
            raise RequestRefused(422, f"texts: found more than {len(records)}; at most {len(records)} a request")
        records.append(read_record(values, f"texts[{len(records)}]", options.max_characters))
    return records


def read_record(values: JsonValues, place: str, most: int) -> Any:  # noqa: ANN401
    """Read a text, a pair, or a row of texts and lists of texts, up to a number of characters."""
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
    """Read a list of texts; each counts one extra character, so that empty ones count too."""
    items: list[str] = []
    for item in values.texts(place, f"expected {KINDS}"):
        items.append(_counted(item, size + 1, place, most))
        size += len(item) + 1
    return items


def _counted(text: str, size: int, place: str, most: int) -> str:
    """Return a text. Raises RequestRefused if it makes a record of `size` characters too long."""
    if size + len(text) > most:
        raise RequestRefused(413, f"{place}: found {size + len(text)} characters or more; at most {most}")
    return text


def _read_tasks(values: JsonValues, options: ServeOptions) -> list[str] | None:
    del options
    if values.next() == "n":
        return values.scalar()
    if values.next() != "[":
        values.refuse("tasks", "expected a list of names")
    names: list[str] = []
    for name in values.texts("tasks", "expected the name of a task"):
        if len(names) == MOST_TASKS:
            raise RequestRefused(422, f"tasks: found more than {MOST_TASKS}; at most {MOST_TASKS} a request")
        names.append(name)
    if not names:
        raise RequestRefused(422, "tasks: found an empty list; name a task, or leave out tasks for all of them")
    return names


_READERS: dict[str, Reader] = {"texts": _read_texts, "tasks": _read_tasks}
