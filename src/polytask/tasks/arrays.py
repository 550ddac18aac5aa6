"""Outputs of heads as NumPy arrays, and the functions on them that all task types need."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from polytask.terms import NO_TOKEN, OWN_TOKEN

# A head's outputs for one row or several, in float32.
Outputs: TypeAlias = NDArray[np.float32]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
_Value = TypeVar("_Value")
_Real = TypeVar("_Real", NDArray[np.float32], NDArray[np.float64])


def softmax(outputs: _Real) -> _Real:
    """Return the softmax over the last axis."""
    powers = np.exp(outputs - outputs.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(outputs: _Real) -> _Real:
    """Return the sigmoid of each output."""
    # By tanh, since exp of a large number would overflow.
    probabilities: _Real = outputs * 0.5
    np.tanh(probabilities, out=probabilities)
    probabilities += 1.0
    probabilities *= 0.5
    return probabilities


# Decimals of numbers in answers; None: not rounded.
_DECIMALS: ContextVar[int | None] = ContextVar("decimals", default=6)


def rounded(number: float) -> float:
    """Round for output: no score is precise to more than six decimals."""
    decimals = _DECIMALS.get()
    return number if decimals is None else round(number, decimals)


@contextmanager
def unrounded() -> Generator[None]:
    """Turn rounding off, for answers that are computed with."""
    token = _DECIMALS.set(None)
    try:
        yield
    finally:
        _DECIMALS.reset(token)


def per_word(values: Sequence[_Value], words: Sequence[int], otherwise: _Value) -> list[_Value]:
    """Return a value for each word: its own, that of the word whose token it shares, or `otherwise` without a token.

    Args:
        values: of the words that have a token of their own.
        words: for each word NO_TOKEN, OWN_TOKEN or SHARED_TOKEN.
    """
    own = iter(values)
    filled: list[_Value] = []
    last = otherwise
    for word in words:
        last = next(own) if word == OWN_TOKEN else last
        filled.append(otherwise if word == NO_TOKEN else last)
    return filled
