"""What heads answer, as arrays, and the few functions on them that every task type needs."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from polytask.terms import NO_TOKEN, OWN_TOKEN

# What a head says of one row or of several, taken off the model: float32.
Outputs: TypeAlias = NDArray[np.float32]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
_Value = TypeVar("_Value")
_Real = TypeVar("_Real", NDArray[np.float32], NDArray[np.float64])


def softmax(outputs: _Real) -> _Real:
    """Return the distributions over the last axis."""
    powers = np.exp(outputs - outputs.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(outputs: _Real) -> _Real:
    """Return the probability of each output."""
    # By the half-angle form of tanh: exp of a large number would overflow.
    found: _Real = outputs * 0.5
    np.tanh(found, out=found)
    found += 1.0
    found *= 0.5
    return found


# Decimals of the numbers that are shown; None for all that there are.
_DECIMALS: ContextVar[int | None] = ContextVar("decimals", default=6)


def rounded(number: float) -> float:
    """Round for output: six decimals are more than any score is worth."""
    decimals = _DECIMALS.get()
    return number if decimals is None else round(number, decimals)


@contextmanager
def unrounded() -> Generator[None]:
    """Show numbers with all their decimals, as what is computed with them needs."""
    token = _DECIMALS.set(None)
    try:
        yield
    finally:
        _DECIMALS.reset(token)


def per_word(values: Sequence[_Value], words: Sequence[int], otherwise: _Value) -> list[_Value]:
    """Return a value for each word: its own, that of the word whose token it shares, or another where it has no token.

    Args:
        values: of the words that have a token of their own.
        words: for each word NO_TOKEN, OWN_TOKEN or SHARED_TOKEN.
    """
    own = iter(values)
    found: list[_Value] = []
    last = otherwise
    for word in words:
        last = next(own) if word == OWN_TOKEN else last
        found.append(otherwise if word == NO_TOKEN else last)
    return found
