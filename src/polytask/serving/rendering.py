"""The body of an answer as JSON, written in pieces: `json.dumps` is one call that holds up every other thread.

A request of a megabyte can have an answer of twelve: an object for each of its hundred thousand entities.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

# Values that one call writes, at most; an answer of no more is written in the event loop.
MOST_VALUES = 1000


def is_short(content: Any) -> bool:  # noqa: ANN401
    """Whether one call may write all of a content."""
    return _left(content, MOST_VALUES) >= 0


def render(content: Any) -> bytes:  # noqa: ANN401
    """Write a content of any size; other threads go on between the pieces."""
    return "".join(pieces(content)).encode()


def pieces(content: Any) -> Iterator[str]:  # noqa: ANN401
    """Yield the JSON text of a content, each piece of at most `MOST_VALUES` values.

    >>> "".join(pieces({"a": [1, 2.5, None], "b": "\u00e9"}))
    '{"a":[1,2.5,null],"b":"\u00e9"}'
    """
    if is_short(content):
        yield _dumps(content)
    elif isinstance(content, dict):
        yield "{"
        for number, (key, value) in enumerate(content.items()):
            yield f"{',' if number else ''}{_dumps(key)}:"
            yield from pieces(value)
        yield "}"
    else:
        yield "["
        for number, value in enumerate(content):
            if number:
                yield ","
            yield from pieces(value)
        yield "]"


def _dumps(value: Any) -> str:  # noqa: ANN401
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _left(value: Any, most: int) -> int:  # noqa: ANN401
    """Return how many of so many values are left behind those of a value; below 0 where it has more."""
    most -= 1
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if most < 0:
            break
        most = _left(inner, most)
    return most
