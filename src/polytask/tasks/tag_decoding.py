"""Decoding of tags from the outputs of words, and the probability of each tag."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytask.tasks.arrays import Floats, Outputs, softmax
from polytask.tasks.chain import Integers, Transitions, best_paths, log_marginals
from polytask.terms import OWN_TOKEN


class Decoding(ABC):
    """Predicts the tags of rows; the words of all rows follow one another."""

    @abstractmethod
    def paths(self, outputs: Outputs, lengths: Sequence[int]) -> Integers:
        """Return the index of each word's tag.

        Args:
            outputs: words x tags.
            lengths: number of words of each row.
        """

    def probabilities(self, outputs: Outputs | Floats, lengths: Sequence[int], temperature: float) -> NDArray[Any]:
        """Return the probability of each tag at each word: words x tags."""
        del lengths
        return softmax(outputs / temperature)


class Greedy(Decoding):
    """Each word gets its most probable tag; `bio.word_tags` repairs invalid sequences."""

    def paths(self, outputs: Outputs, lengths: Sequence[int]) -> Integers:
        del lengths
        return outputs.argmax(-1)


@dataclass(frozen=True)
class ByScheme(Decoding):
    """The most probable sequence that the scheme allows, with independent probabilities for each word."""

    scheme: Transitions

    def paths(self, outputs: Outputs, lengths: Sequence[int]) -> Integers:
        return best_paths(outputs.astype(np.float64), lengths, self.scheme)


@dataclass(frozen=True)
class ByChain(Decoding):
    """The most probable sequence of a chain; tag probabilities are marginals over all sequences that the scheme allows.

    Attributes:
        transitions: the learned transitions plus those of the scheme.
    """

    transitions: Transitions

    def paths(self, outputs: Outputs, lengths: Sequence[int]) -> Integers:
        return best_paths(outputs.astype(np.float64), lengths, self.transitions)

    def probabilities(self, outputs: Outputs | Floats, lengths: Sequence[int], temperature: float) -> NDArray[Any]:
        return np.exp(self.log_probabilities(outputs, lengths, temperature))

    def log_probabilities(self, outputs: Outputs | Floats, lengths: Sequence[int], temperature: float) -> NDArray[Any]:
        """Return the logarithms of `probabilities`."""
        factor = 1.0 / temperature
        return log_marginals(outputs.astype(np.float64) * factor, lengths, self.transitions.scaled(factor))


def own_words(words: Sequence[Sequence[int]]) -> list[int]:
    """Return for each row the number of words that have a token of their own."""
    return [sum(word == OWN_TOKEN for word in row) for row in words]
