"""Masked copies of rows: the words that a task guesses are hidden, as a function of the row and of its epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polytask.data.words import begins_with_cjk
from polytask.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of the tokens of hidden words so many become the mask, and so many another token; the rest stays as it is.
MASKED, REPLACED = 0.8, 0.1
# How WordPiece writes what goes on with a word, and SentencePiece and byte-level tokenizers what begins one.
_CONTINUES, _BEGINS = "##", ("\u2581", "\u0120")
# A run of more tokens is no word, but text of a script without spaces, such as Thai, or Chinese in bytes.
_MOST_TOKENS = 12


@dataclass(frozen=True)
class MaskedRow:
    """A row with words hidden.

    Attributes:
        ids: the row's tokens, those of hidden words changed.
        places: where these stand, ascending.
        truth: what stood there.
    """

    ids: NDArray[np.int64]
    places: NDArray[np.int64]
    truth: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Masker:
    """Hides whole words.

    Attributes:
        mask: the id of the token that hides another.
        special: by id, whether a token is none of a text.
        continues: by id, whether a token goes on with the word of the one before. Chinese and Japanese tokens do not.
        seed: of the run.
    """

    mask: int
    special: NDArray[np.bool_]
    continues: NDArray[np.bool_]
    seed: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, vocabulary: int, seed: int) -> Masker:
        """Read a tokenizer. Raises ConfigError where it has no token that hides others.

        Args:
            vocabulary: tokens that have an embedding.
        """
        if not isinstance(tokenizer.mask_token_id, int):
            raise ConfigError("type: mlm: the encoder's tokenizer has no mask token; choose another encoder")
        special, continues = np.ones(vocabulary, np.bool_), np.zeros(vocabulary, np.bool_)
        tokens = {index: token for token, index in tokenizer.get_vocab().items() if index < vocabulary}
        begins = any(token.startswith(_BEGINS) for token in tokens.values())
        none_of_text = frozenset(tokenizer.all_special_ids)
        for index, token in tokens.items():
            special[index] = index in none_of_text
            goes_on = not token.startswith(_BEGINS) if begins else token.startswith(_CONTINUES)
            continues[index] = goes_on and not begins_with_cjk(token.removeprefix(_CONTINUES))
        return cls(tokenizer.mask_token_id, special, continues, seed)

    def hide(self, ids: Sequence[int] | NDArray[Any], rate: float, seen: Sequence[int] = ()) -> MaskedRow:
        """Hide a share of a row's words, at least one where there is any.

        Args:
            seen: which copy it is, such as (source, row, epoch); the one for scores by default, which has no seed.
        """
        row = np.asarray(ids, dtype=np.int64)
        generator = self._generator(row, seen)
        places = self._places(row, rate, generator)
        changed, chance = row.copy(), generator.random(len(places))
        ordinary = np.flatnonzero(~self.special)
        changed[places[chance < MASKED]] = self.mask
        other = places[(chance >= MASKED) & (chance < MASKED + REPLACED)]
        changed[other] = generator.choice(ordinary, len(other))
        return MaskedRow(changed, places, row[places])

    def _places(self, row: NDArray[np.int64], rate: float, generator: np.random.Generator) -> NDArray[np.int64]:
        text = ~self.special[row]
        first = text & ~(self.continues[row] & np.concatenate([[False], text[:-1]]))
        word = np.where(text, first.cumsum(), 0)
        first |= text & (np.bincount(word)[word] > _MOST_TOKENS)
        word = np.where(text, first.cumsum(), 0)
        count = int(first.sum())
        if not count:
            return np.zeros(0, np.int64)
        chosen = 1 + generator.permutation(count)[: max(1, round(rate * count))]
        return np.flatnonzero(np.isin(word, chosen)).astype(np.int64)

    def _generator(self, row: NDArray[np.int64], seen: Sequence[int]) -> np.random.Generator:
        told = row.tobytes() if not seen else repr((self.seed, *seen)).encode()
        key = int.from_bytes(hashlib.blake2b(told, digest_size=16).digest())
        return np.random.Generator(np.random.Philox(key=key))
