"""A row of a file as it was read: a text with its words, and the labels of the tasks that read it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from polytask.errors import DataError
from polytask.terms import Label, WordSpan


@dataclass
class RawRow:
    """A text (or pair) with the words it is cut into, and the label of each task that reads it.

    Attributes:
        companion_of: the task that reads this text beside that of the nearest row before it that is no companion.
    """

    place: str
    text: str
    pair: str | None
    words: list[WordSpan] | None
    labels: dict[str, Label] = field(default_factory=dict[str, Label])
    companion_of: str | None = None
    weights: dict[str, float] = field(default_factory=dict[str, float])


def fingerprint(text: str, pair: str | None) -> int:
    """Return a 64-bit hash of a row's text, with case and white space made equal."""
    plain = " ".join(f"{text} \0 {pair or ''}".lower().split())
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest())


def require_characters(place: str, column: str, text: str) -> None:
    """Raise DataError where a text from a JSON file holds an escape that stands for no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{place}: {column!r} holds half of a surrogate pair, which is no character") from None
