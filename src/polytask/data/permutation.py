"""A pseudo-random permutation that is computed element by element, without holding it in memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

# Rounds of the Feistel network: each half of a number is changed four times.
_ROUNDS = 8
# Multipliers and shifts of the finalizer of SplitMix64 (Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom
# Number Generators", section 5; the constants are Stafford's variant 13).
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Permutation:
    """A bijection of the numbers 0 to `size` - 1.

    Source: Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains": a Feistel network over the smallest power
    of two that holds all numbers, applied again to results outside (cycle walking): fewer than two turns on average.

    Args:
        generator: random generator for the keys of the rounds.
    """

    def __init__(self, size: int, generator: np.random.Generator) -> None:
        bits = max(2, (size - 1).bit_length())
        self.size = size
        self._low = np.uint64(bits // 2)
        self._masks = (np.uint64((1 << bits // 2) - 1), np.uint64((1 << (bits - bits // 2)) - 1))
        self._keys = generator.integers(0, 2**64, _ROUNDS, dtype=np.uint64)

    def __call__(self, numbers: Numbers) -> Numbers:
        """Return the images of numbers."""
        images = self._once(numbers.astype(np.uint64))
        outside = np.flatnonzero(images >= self.size)
        while len(outside):
            images[outside] = self._once(images[outside])
            outside = outside[images[outside] >= self.size]
        return images.astype(np.int64)

    def _once(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        low, high = numbers & self._masks[0], numbers >> self._low
        for turn, key in enumerate(self._keys):
            if turn % 2:
                high ^= _mixed(low, key) & self._masks[1]
            else:
                low ^= _mixed(high, key) & self._masks[0]
        return high << self._low | low


def _mixed(numbers: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    mixed = numbers + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))
