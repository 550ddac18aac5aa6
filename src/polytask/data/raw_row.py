"""A row as read from a file: a text with its words, and the labels of the tasks that read it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from polytask.errors import DataError
from polytask.terms import Label, WordSpan


@dataclass
class RawRow:
    """A text (or pair) with its words, and the label of each task that reads it.

    Attributes:
        companion_of: name of the task for which this text is a companion of the nearest ordinary row before it.
    """

    place: str
    text: str
    pair: str | None
    words: list[WordSpan] | None
    labels: dict[str, Label] = field(default_factory=dict[str, Label])
    companion_of: str | None = None
    weights: dict[str, float] = field(default_factory=dict[str, float])


def fingerprint(text: str, pair: str | None) -> int:
    """Return a 64-bit hash of a row's text, ignoring case and white space."""
    plain = " ".join(f"{text} \0 {pair or ''}".lower().split())
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest())


def require_characters(place: str, column: str, text: str) -> None:
    """Raise DataError if a text from a JSON file holds an escape that is not a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{place}: {column!r} holds half of a surrogate pair, which is no character") from None
