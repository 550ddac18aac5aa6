"""Guesses the encoding of text that is not UTF-8, by how usual the characters are that it decodes to.

Byte ranges overlap: almost any bytes decode as GB18030, and Latin letters as Japanese. But text in a wrong encoding
consists of rare characters, capitals inside words, or symbols between letters.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

# Share of usual characters from which an encoding is likely. Alphabets need more: half of all bytes are letters.
_LIKELY, _LIKELY_LETTERS = 0.5, 0.75
# The least share of syllables in Japanese.
_KANA = 0.1
# Number of bytes to judge by.
_MOST_BYTES = 200_000
# Single high bytes beside ASCII are Latin letters; other scripts have words of high bytes.
_ALONE = re.compile(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])")
# Punctuation and signs that texts have, but not between letters.
_SIGNS = frozenset(
    "\u00a0\u00a1\u00a3\u00a7\u00a9\u00ab\u00ae\u00b0\u00b1\u00b2\u00b3\u00b4\u00b7\u00bb\u00bd\u00bf\u2013\u2014"
    "\u2018\u2019\u201a\u201c\u201d\u201e\u2022\u2026\u20ac\u2116\u2122"
)
# The last letter of Latin Extended-A.
_LAST_LATIN = "\u017f"


@dataclass(frozen=True)
class EncodedText:
    """A text decoded with one encoding.

    Attributes:
        text: the text.
        characters: number of occurrences of each character that is not ASCII.
    """

    encoding: str
    text: str
    characters: Counter[str]

    def share(self, is_usual: Callable[[str], bool]) -> float:
        """Return the share of characters that are usual, apart from ASCII."""
        usual = sum(count for character, count in self.characters.items() if is_usual(character))
        return usual / self.characters.total()


def _lead_in(first: int, last: int, trail: int = 0) -> Callable[[EncodedText], float]:
    """Judge by the first bytes of pairs: in national standards frequent characters come first."""

    def judge(decoded: EncodedText) -> float:
        def is_usual(character: str) -> bool:
            pair = character.encode(decoded.encoding)
            return len(pair) == 2 and first <= pair[0] <= last and pair[1] >= trail

        return decoded.share(lambda character: _is_wide_mark(character) or is_usual(character))

    return judge


def _japanese(*ranges: tuple[int, int]) -> Callable[[EncodedText], float]:
    """Judge Japanese: syllables, and frequent characters by their first bytes; no text is without syllables."""

    def judge(decoded: EncodedText) -> float:
        def is_kanji(character: str) -> bool:
            pair = character.encode(decoded.encoding)
            return len(pair) == 2 and any(first <= pair[0] <= last for first, last in ranges)

        share = decoded.share(lambda one: _is_wide_mark(one) or "\u3041" <= one <= "\u30ff" or is_kanji(one))
        return share if decoded.share(lambda one: "\u3041" <= one <= "\u30ff") >= _KANA else 0.0

    return judge


def _is_wide_mark(character: str) -> bool:
    """Whether a character is punctuation, a digit or a letter in the width of a Chinese character."""
    return "\u3000" <= character <= "\u3020" or "\uff01" <= character <= "\uff60" or character in _SIGNS


def _block(first: str, last: str) -> Callable[[EncodedText], float]:
    """Judge by a range of characters."""
    return lambda decoded: decoded.share(lambda one: first <= one <= last or _is_wide_mark(one))


def _letters(script: str) -> Callable[[EncodedText], float]:
    """Judge an alphabet: small letters, capitals at the beginning of words, and signs outside of words."""
    fits = _fits_latin if script == "LATIN" else _fits

    def judge(decoded: EncodedText) -> float:
        text = decoded.text
        usual = sum(
            _is_outside(text, place) if character in _SIGNS else _is_of(character, script) and fits(text, place)
            for place, character in enumerate(text)
            if not character.isascii()
        )
        share = usual / decoded.characters.total()
        return share if share >= _LIKELY_LETTERS else 0.0

    return judge


@cache
def _is_of(character: str, script: str) -> bool:
    return unicodedata.name(character, "").startswith(script)


def _is_outside(text: str, place: int) -> bool:
    """Whether a sign is not between letters; an apostrophe may be."""
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    return text[place] == "\u2019" or not (before.isalpha() and after.isalpha())


def _fits_latin(text: str, place: int) -> bool:
    """Whether a Latin letter is one of those that European languages add to ASCII, and no capital after a small one."""
    character = text[place]
    return character <= _LAST_LATIN and (character.islower() or not text[place - 1 : place].islower())


def _fits(text: str, place: int) -> bool:
    """Whether a letter of another alphabet is no capital inside a word, and not beside a Latin letter."""
    character, before, after = text[place], text[place - 1 : place], text[place + 1 : place + 2]
    mixed = any(letter.isascii() and letter.isalpha() for letter in (before, after))
    return not mixed and not (character.isupper() and before.isalpha())


# The candidates and how each is judged; of equals, the earlier one is taken.
_WORDS: dict[str, Callable[[EncodedText], float]] = {
    "euc-kr": _block("\uac00", "\ud7a3"),
    "cp949": _lead_in(0xB0, 0xC8, 0xA1),
    "gb18030": _lead_in(0xB0, 0xD7, 0xA1),
    "big5": _lead_in(0xA4, 0xC6),
    "shift_jis": _japanese((0x88, 0x97)),
    "cp932": _japanese((0x88, 0x97)),
    "euc-jp": _japanese((0xB0, 0xCF)),
    "cp1251": _letters("CYRILLIC"),
    "koi8-r": _letters("CYRILLIC"),
    "cp866": _letters("CYRILLIC"),
    "cp1253": _letters("GREEK"),
    "cp874": _letters("THAI"),
}
_LATIN: dict[str, Callable[[EncodedText], float]] = {
    encoding: _letters("LATIN") for encoding in ("cp1252", "cp1250", "cp850", "mac-roman")
}


def likely_encodings(sample: bytes) -> list[str]:
    """Return the encodings that text which is not UTF-8 may have, the most likely one first.

    >>> likely_encodings("Die Brücke über den Fluss".encode("cp1252"))[0]
    'cp1252'
    >>> likely_encodings("房间很干净，服务态度也非常好".encode("big5", "ignore"))[0]
    'big5'
    """
    sample = sample[:_MOST_BYTES]
    high = sum(byte >= 0x80 for byte in sample)
    if not high:
        return []
    latin = len(_ALONE.findall(sample)) > high / 2
    judges = _LATIN if latin else {**_WORDS, **_LATIN}
    shares = {encoding: judges[encoding](decoded) for encoding in judges for decoded in _decoded(sample, encoding)}
    return sorted((encoding for encoding in shares if shares[encoding] > _LIKELY), key=lambda one: -shares[one])


def _decoded(sample: bytes, encoding: str) -> Iterator[EncodedText]:
    """Yield the decoded text, unless the encoding cannot decode it."""
    try:
        # The end of the sample may be inside a character.
        text = codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return
    characters = Counter(character for character in text if not character.isascii())
    if characters:
        yield EncodedText(encoding, text, characters)
