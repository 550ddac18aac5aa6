"""Tokens: texts become token ids, and each word finds its first one, by the tokenizers library alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from polytask.errors import ModelError
from polytask.terms import NO_TOKEN, OWN_TOKEN, SHARED_TOKEN, WordSpan

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# In the place of a word's token: there is none, or the word before it has read it.
DROPPED, SHARED = -1, -2
_KINDS = {DROPPED: NO_TOKEN, SHARED: SHARED_TOKEN}
# Tokens of a text whose offsets are asked for at once: that is one call, in which no other thread goes on.
_AT_ONCE = 10_000
# How SentencePiece and byte-level tokenizers write the space before a word; also a token of its own.
_WORD_MARKERS = "\u2581\u0120"


@dataclass(frozen=True)
class TokenRow:
    """A tokenised text.

    Attributes:
        ids: token ids with the special ones.
        type_ids: 0 for the first text, 1 for the second; None where the tokenizer makes none.
        word_tokens: for each word the index of its first token; DROPPED for one that was dropped or cut off, SHARED for
            one whose first token is that of the word before.
        truncated: whether the text was longer than the limit.
    """

    ids: Sequence[int] | NDArray[Any]
    type_ids: Sequence[int] | NDArray[Any] | None
    word_tokens: Sequence[int] | NDArray[Any]
    truncated: bool

    @property
    def words(self) -> list[int]:
        """For each word NO_TOKEN, OWN_TOKEN or SHARED_TOKEN."""
        return [_KINDS.get(token, OWN_TOKEN) for token in np.asarray(self.word_tokens, dtype=np.int64).tolist()]


class Tokenization:
    """How a model's texts become tokens.

    Args:
        backend: it is copied, since a limit on tokens is a part of its state.
        max_tokens: at most so many tokens a text, special ones included; for a pair, both together.
        type_ids: whether rows say which of two texts a token belongs to.
        side: the side from which a long text is cut.
        cut_texts: whether the limit holds for a text alone, or only for a pair of texts.
        filler: the one token of a text that has none, where the tokenizer adds no special ones.
    """

    def __init__(
        self,
        backend: Tokenizer,
        max_tokens: int,
        *,
        type_ids: bool,
        side: str = "right",
        cut_texts: bool = True,
        filler: int = 0,
    ) -> None:
        self._backend = Tokenizer.from_str(backend.to_str())
        self._backend.no_padding()
        self._backend.no_truncation()
        self._plain = self._backend.to_str()
        self._for_texts = self._backend if cut_texts else Tokenizer.from_str(self._plain)
        self._backend.enable_truncation(max_tokens, strategy="longest_first", direction=side)
        self.max_tokens = max_tokens
        self.type_ids = type_ids
        self.side = side
        self.cut_texts = cut_texts
        self.filler = filler

    @property
    def vocabulary(self) -> list[str]:
        """The tokens, as the tokenizer writes them, in no order."""
        return list(self._backend.get_vocab())

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Tokenization:
        """Cut texts as a fast tokenizer of transformers does."""
        backend: Any = tokenizer
        type_ids = "token_type_ids" in tokenizer.model_input_names
        filler = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else 0
        side = str(backend.truncation_side)
        return cls(backend.backend_tokenizer, max_tokens, type_ids=type_ids, side=side, filler=filler)

    @classmethod
    def read(cls, file: Path, max_tokens: int, *, type_ids: bool, side: str = "right", filler: int = 0) -> Tokenization:
        """Read a tokenizer.json. Raises ModelError when it is none."""
        try:
            backend = Tokenizer.from_file(str(file))
        except Exception as error:  # noqa: BLE001 - the library raises plain exceptions
            raise ModelError(f"{file}: not a tokenizer ({error}); copy the folder again") from None
        return cls(backend, max_tokens, type_ids=type_ids, side=side, filler=filler)

    @cached_property
    def _special(self) -> frozenset[int]:
        added = self._backend.get_added_tokens_decoder()
        return frozenset(number for number, token in added.items() if token.special)

    def knows(self, ids: Sequence[int] | NDArray[Any]) -> bool:
        """Whether a text has any token that the vocabulary knows, beside special ones."""
        return not self._special.issuperset(np.asarray(ids).tolist())

    @cached_property
    def frame(self) -> tuple[int, int]:
        """How many special tokens stand before a text and behind it."""
        inside = [place for place, text in enumerate(self._backend.encode("a").sequence_ids) if text == 0]
        count = self._backend.num_special_tokens_to_add(False)
        before = inside[0] if inside else count
        return before, count - before

    @cached_property
    def whole(self) -> Tokenization:
        """The same without a limit for a text alone; a pair of texts is cut as before."""
        backend = Tokenizer.from_str(self._plain)
        options: dict[str, Any] = {"type_ids": self.type_ids, "side": self.side, "filler": self.filler}
        return Tokenization(backend, self.max_tokens, cut_texts=False, **options)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies all that is done to a text, the limit aside."""
        empty = [] if sum(self.frame) else [self.filler]
        told = json.dumps([self._plain, self.type_ids, self.side, *([] if self.cut_texts else ["whole"]), *empty])
        return hashlib.sha256(told.encode()).hexdigest()

    def rows(
        self, texts: Sequence[str], pairs: Sequence[str | None] | None, words: Sequence[Sequence[WordSpan] | None]
    ) -> list[TokenRow]:
        """Tokenise texts (or pairs of them) and find each word's first token by its characters.

        Args:
            pairs: for each text its second text, or None where it stands alone.
            words: for each text its words, or None.
        """
        seconds = [None] * len(texts) if pairs is None else pairs
        found: dict[int, Any] = {}
        for backend, paired in ((self._for_texts, False), (self._backend, True)):
            at = [place for place, second in enumerate(seconds) if (second is not None) == paired]
            inputs = [(texts[place], str(seconds[place])) if paired else texts[place] for place in at]
            found.update(zip(at, backend.encode_batch(inputs), strict=True))
        return [self._row(found[place], spans) for place, spans in enumerate(words)]

    def _row(self, encoding: Any, words: Sequence[WordSpan] | None) -> TokenRow:  # noqa: ANN401
        found = [] if words is None else first_tokens(encoding, words)
        ids = encoding.ids or [self.filler]
        type_ids = (encoding.type_ids or [0]) if self.type_ids else None
        return TokenRow(ids, type_ids, found, bool(encoding.overflowing))


def first_tokens(encoding: Any, words: Sequence[WordSpan]) -> list[int]:  # noqa: ANN401
    """Return for each word the index of the first token that covers a part of it, or DROPPED, or SHARED."""
    inside, offsets = _first_text(encoding)
    if not len(offsets) or not words:
        return [DROPPED] * len(words)
    # Ends rise with the position, so the first token that ends behind a word's start is the candidate.
    begins = np.fromiter((start for start, _ in words), np.int64, len(words))
    candidates = np.searchsorted(offsets[:, 1], begins, side="right")
    found: list[int] = []
    last = DROPPED
    for at, (start, end) in zip(candidates.tolist(), words, strict=True):
        token = inside[at] if at < len(inside) and offsets[at, 0] < end and start < end else DROPPED
        found.append(SHARED if token == last != DROPPED else token)
        last = last if token == DROPPED else token
    return found


def _first_text(encoding: Any) -> tuple[list[int], NDArray[np.int64]]:  # noqa: ANN401
    """Return the tokens that words of the first text are read from, as indices and as offsets (tokens x 2).

    A token that is a word marker and nothing else is left out where the next one covers the same characters: a marker
    that no space of the text stands for has the offsets of the word's first character.
    """
    sequence_ids = encoding.sequence_ids  # made anew when it is asked for, as all that an encoding holds
    inside = [index for index, sequence in enumerate(sequence_ids) if sequence == 0]
    offset_of = encoding.token_to_chars if len(sequence_ids) > _AT_ONCE else encoding.offsets.__getitem__
    offsets = np.fromiter((place for index in inside for place in offset_of(index)), np.int64, 2 * len(inside))
    offsets = offsets.reshape(-1, 2)
    covered_again = (offsets[1:, 0] <= offsets[:-1, 0]) & (offsets[:-1, 0] < offsets[1:, 1])
    if not covered_again.any():
        return inside, offsets
    texts = encoding.tokens
    bare = [at for at in np.flatnonzero(covered_again).tolist() if not texts[inside[at]].strip(_WORD_MARKERS)]
    return np.delete(inside, bare).tolist(), np.delete(offsets, bare, axis=0)
