"""Masked copies of rows: which words are masked is a function of the row and the epoch."""

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

# Share of the masked words' tokens replaced by the mask, and by another token; the rest stay unchanged.
MASKED, REPLACED = 0.8, 0.1
# WordPiece's prefix of tokens that continue a word, and prefixes of SentencePiece and byte-level tokens that begin one.
_CONTINUES, _BEGINS = "##", ("\u2581", "\u0120")
# A longer run of tokens is not a word but text in a script without spaces, such as Thai, or Chinese in bytes.
_MOST_TOKENS = 12


@dataclass(frozen=True)
class MaskedRow:
    """A row with masked words.

    Attributes:
        ids: the row's token ids, with those of masked words changed.
        places: indices of the masked words' tokens, ascending.
        truth: original token ids at these indices.
    """

    ids: NDArray[np.int64]
    places: NDArray[np.int64]
    truth: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Masker:
    """Masks whole words.

    Attributes:
        mask: id of the mask token.
        special: by id, whether a token is not part of a text.
        continues: by id, whether a token continues the word of the previous token. Chinese and Japanese tokens do not.
        seed: seed of the run.
    """

    mask: int
    special: NDArray[np.bool_]
    continues: NDArray[np.bool_]
    seed: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, vocabulary: int, seed: int) -> Masker:
        """Create a masker for a tokenizer. Raises ConfigError if the tokenizer has no mask token.

        Args:
            vocabulary: number of tokens that have an embedding.
        """
        if not isinstance(tokenizer.mask_token_id, int):
            raise ConfigError("type: mlm: the encoder's tokenizer has no mask token; choose another encoder")
        special, continues = np.ones(vocabulary, np.bool_), np.zeros(vocabulary, np.bool_)
        tokens = {index: token for token, index in tokenizer.get_vocab().items() if index < vocabulary}
        begins = any(token.startswith(_BEGINS) for token in tokens.values())
        special_ids = frozenset(tokenizer.all_special_ids)
        for index, token in tokens.items():
            special[index] = index in special_ids
            continuation = not token.startswith(_BEGINS) if begins else token.startswith(_CONTINUES)
            continues[index] = continuation and not begins_with_cjk(token.removeprefix(_CONTINUES))
        return cls(tokenizer.mask_token_id, special, continues, seed)

    def hide(self, ids: Sequence[int] | NDArray[Any], rate: float, copy: Sequence[int] = ()) -> MaskedRow:
        """Mask a share of a row's words, and at least one if there is any.

        Args:
            copy: which copy it is, such as (source, row, epoch); by default the one for evaluation, without a seed.
        """
        row = np.asarray(ids, dtype=np.int64)
        generator = self._generator(row, copy)
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

    def _generator(self, row: NDArray[np.int64], copy: Sequence[int]) -> np.random.Generator:
        identity = row.tobytes() if not copy else repr((self.seed, *copy)).encode()
        key = int.from_bytes(hashlib.blake2b(identity, digest_size=16).digest())
        return np.random.Generator(np.random.Philox(key=key))
