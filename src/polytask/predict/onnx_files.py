"""The external files that a graph refers to, read from its protobuf before ONNX Runtime opens any of them.

The format: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; only prediction's own packages are needed.
"""

from __future__ import annotations

import mmap
from collections.abc import Container, Iterator
from pathlib import Path

from polytask.errors import ModelError
from polytask.regular import open_regular

# By message type: the fields that contain other messages, down to the entries that name a file of weights.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {1: "key", 2: "value"},
}
_KEY, _VALUE = 1, 2


def require_own_files(path: Path, listed: Container[str]) -> None:
    """Raise ModelError if a graph's weights are in a file that is not listed, or the file is not a graph."""
    try:
        with open_regular(path) as file:  # the view keeps the map alive, and is released with it
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        locations = list(_locations(view, "model"))
    except (ValueError, IndexError, RecursionError) as error:
        raise ModelError(f"{path}: not a graph ({error}); export it again") from None
    for name in locations:
        if name not in listed:
            raise ModelError(
                f"{path}: its weights lie in {name[:100]!r}, which polytask.json does not list; export it again"
            )


def _locations(message: memoryview, kind: str) -> Iterator[str]:
    if kind == "entry":
        entries = dict(_fields(message, _INSIDE[kind]))
        if bytes(entries.get(_KEY, b"")) == b"location":
            yield bytes(entries.get(_VALUE, b"")).decode("utf-8", "replace")
        return
    for number, inner in _fields(message, _INSIDE[kind]):
        yield from _locations(inner, _INSIDE[kind][number])


def _fields(message: memoryview, wanted: Container[int]) -> Iterator[tuple[int, memoryview]]:
    """Yield the fields of a message that hold bytes. Raises ValueError or IndexError if it is not a message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            _, at = _varint(message, at)
        elif wire == 2:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("it is cut off")
            if number in wanted:
                yield number, message[at : at + size]
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"found the wire type {wire}")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("found a number of more than 64 bits")
