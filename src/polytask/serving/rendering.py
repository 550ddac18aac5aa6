"""JSON response bodies, rendered in pieces, since `json.dumps` is a single call that blocks all other threads.

A request of a megabyte can have a response of twelve: an object for each of a hundred thousand entities.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

# Maximum number of values per call; smaller responses are rendered in the event loop.
MOST_VALUES = 1000


def is_short(content: Any) -> bool:  # noqa: ANN401
    """Whether a content is small enough for a single call."""
    return _left(content, MOST_VALUES) >= 0


def render(content: Any) -> bytes:  # noqa: ANN401
    """Render a content of any size; other threads can run between the pieces."""
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
    """Subtract the number of values in a content from `most`; negative if it has more."""
    most -= 1
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if most < 0:
            break
        most = _left(inner, most)
    return most
