"""Tokenisation of texts, and the first token of each word, with the tokenizers library alone."""

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

# In place of a word's token: it has none, or the previous word has taken it.
DROPPED, SHARED = -1, -2
_KINDS = {DROPPED: NO_TOKEN, SHARED: SHARED_TOKEN}
# Maximum tokens of a text whose offsets are computed in one call, which blocks all other threads.
_AT_ONCE = 10_000
# How SentencePiece and byte-level tokenizers write the space before a word; it can also be a separate token.
_WORD_MARKERS = "\u2581\u0120"


@dataclass(frozen=True)
class TokenRow:
    """A tokenised text.

    Attributes:
        ids: token ids, including special tokens.
        type_ids: 0 for the first text, 1 for the second; None if the tokenizer makes none.
        word_tokens: index of each word's first token; DROPPED for a word that was dropped or truncated, SHARED for a
            word whose first token is that of the previous word.
        truncated: whether the text was longer than the limit.
    """

    ids: Sequence[int] | NDArray[Any]
    type_ids: Sequence[int] | NDArray[Any] | None
    word_tokens: Sequence[int] | NDArray[Any]
    truncated: bool

    @property
    def words(self) -> list[int]:
        """NO_TOKEN, OWN_TOKEN or SHARED_TOKEN for each word."""
        return [_KINDS.get(token, OWN_TOKEN) for token in np.asarray(self.word_tokens, dtype=np.int64).tolist()]


class Tokenization:
    """Converts a model's texts to tokens.

    Args:
        backend: the tokenizer; it is copied, since truncation is part of its state.
        max_tokens: maximum number of tokens per text (or pair of texts), including special tokens.
        type_ids: whether rows have type ids, which of two texts a token belongs to.
        side: side on which long texts are truncated.
        cut_texts: whether the limit holds for single texts, or only for pairs of texts.
        filler: id of the only token of a text without tokens, if the tokenizer adds no special tokens.
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
        """The tokens in the tokenizer's notation, unordered."""
        return list(self._backend.get_vocab())

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Tokenization:
        """Create one from a fast tokenizer of transformers."""
        backend: Any = tokenizer
        type_ids = "token_type_ids" in tokenizer.model_input_names
        filler = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else 0
        side = str(backend.truncation_side)
        return cls(backend.backend_tokenizer, max_tokens, type_ids=type_ids, side=side, filler=filler)

    @classmethod
    def read(cls, file: Path, max_tokens: int, *, type_ids: bool, side: str = "right", filler: int = 0) -> Tokenization:
        """Read a tokenizer.json. Raises ModelError if the file is not one."""
        try:
            backend = Tokenizer.from_file(str(file))
        except Exception as error:  # noqa: BLE001 - the library raises plain exceptions
            raise ModelError(f"{file}: not a tokenizer ({error}); copy the folder again") from None
        return cls(backend, max_tokens, type_ids=type_ids, side=side, filler=filler)

    @cached_property
    def _special(self) -> frozenset[int]:
        added = self._backend.get_added_tokens_decoder()
        return frozenset(number for number, token in added.items() if token.special)

    @cached_property
    def unknown(self) -> int | None:
        """The id of the token in place of text that the vocabulary does not cover; None if it covers everything."""
        model = json.loads(self._plain)["model"]
        token = model.get("unk_token")
        return model.get("unk_id") if token is None else self._backend.token_to_id(token)

    def knows(self, ids: Sequence[int] | NDArray[Any]) -> bool:
        """Whether a text has any known token, apart from special tokens."""
        return not self._special.issuperset(np.asarray(ids).tolist())

    @cached_property
    def frame(self) -> tuple[int, int]:
        """The numbers of special tokens before and after a text."""
        inside = [place for place, text in enumerate(self._backend.encode("a").sequence_ids) if text == 0]
        count = self._backend.num_special_tokens_to_add(False)
        before = inside[0] if inside else count
        return before, count - before

    @cached_property
    def whole(self) -> Tokenization:
        """The same tokenisation without truncation of single texts; pairs of texts are still truncated."""
        backend = Tokenizer.from_str(self._plain)
        options: dict[str, Any] = {"type_ids": self.type_ids, "side": self.side, "filler": self.filler}
        return Tokenization(backend, self.max_tokens, cut_texts=False, **options)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all settings except the limit."""
        empty = [] if sum(self.frame) else [self.filler]
        settings = json.dumps([self._plain, self.type_ids, self.side, *([] if self.cut_texts else ["whole"]), *empty])
        return hashlib.sha256(settings.encode()).hexdigest()

    def rows(
        self, texts: Sequence[str], pairs: Sequence[str | None] | None, words: Sequence[Sequence[WordSpan] | None]
    ) -> list[TokenRow]:
        """Tokenise texts (or pairs of them) and find each word's first token by character offsets.

        Args:
            pairs: second text of each pair, or None for a single text.
            words: words of each text, or None.
        """
        seconds = [None] * len(texts) if pairs is None else pairs
        encodings: dict[int, Any] = {}
        for backend, paired in ((self._for_texts, False), (self._backend, True)):
            at = [place for place, second in enumerate(seconds) if (second is not None) == paired]
            inputs = [(texts[place], str(seconds[place])) if paired else texts[place] for place in at]
            encodings.update(zip(at, backend.encode_batch(inputs), strict=True))
        return [self._row(encodings[place], spans) for place, spans in enumerate(words)]

    def _row(self, encoding: Any, words: Sequence[WordSpan] | None) -> TokenRow:  # noqa: ANN401
        word_tokens = [] if words is None else first_tokens(encoding, words)
        ids = encoding.ids or [self.filler]
        type_ids = (encoding.type_ids or [0]) if self.type_ids else None
        return TokenRow(ids, type_ids, word_tokens, bool(encoding.overflowing))


def first_tokens(encoding: Any, words: Sequence[WordSpan]) -> list[int]:  # noqa: ANN401
    """Return the index of the first token that covers a part of each word, or DROPPED, or SHARED."""
    inside, offsets = _first_text(encoding)
    if not len(offsets) or not words:
        return [DROPPED] * len(words)
    # Ends rise with the position, so the first token that ends after a word's start is the candidate.
    begins = np.fromiter((start for start, _ in words), np.int64, len(words))
    candidates = np.searchsorted(offsets[:, 1], begins, side="right")
    word_tokens: list[int] = []
    last = DROPPED
    for at, (start, end) in zip(candidates.tolist(), words, strict=True):
        token = inside[at] if at < len(inside) and offsets[at, 0] < end and start < end else DROPPED
        word_tokens.append(SHARED if token == last != DROPPED else token)
        last = last if token == DROPPED else token
    return word_tokens


def _first_text(encoding: Any) -> tuple[list[int], NDArray[np.int64]]:  # noqa: ANN401
    """Return the tokens of the first text that belong to words, as indices and as offsets (tokens x 2).

    A token that is only a word marker is left out if the next token covers the same characters: a marker without a
    space in the text has the offsets of the word's first character.
    """
    sequence_ids = encoding.sequence_ids  # computed on every access, like all attributes of an encoding
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
