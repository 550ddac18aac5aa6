"""Words: splitting raw texts, finding given tokens in a text, and joining tokens to a text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from polytask.terms import WordSpan

# Each Chinese character or Japanese kana is a word; Korean is written with spaces.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
# Combining accents and vowel signs (\w matches letters and digits only).
_MARKS = (
    "\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8"
    "\u0900-\u0963\u0966-\u0dff\u0e31-\u0e3a\u0e47-\u0e4e\u0eb1-\u0ebc\u0ec8-\u0ece\u0f71-\u0f84\u102b-\u103e\u17b4-\u17d3"
)
_LETTER = rf"(?:[^\W{_CJK}]|[{_MARKS}])"
_WORD = re.compile(rf"https?://\S+|[@#](?:\w|[{_MARKS}])+|[{_CJK}]|{_LETTER}+(?:\.{_LETTER}+)*|\S")
_PIECE = re.compile(rf"[{_CJK}]|{_LETTER}+|\S")
_ENDS_IN_CJK = re.compile(rf"[{_CJK}\u3000-\u303f\uff00-\uff65]$")
_BEGINS_WITH_CJK = re.compile(rf"^[{_CJK}\u3000-\u303f\uff00-\uff65]")


def begins_with_cjk(text: str) -> bool:
    """Whether a text begins with a Chinese character, Japanese kana, or punctuation of these scripts."""
    return _BEGINS_WITH_CJK.search(text) is not None


def split_words(text: str) -> list[WordSpan]:
    """Split a raw text into words: letters and digits, punctuation marks, Chinese characters, URLs, @names and #tags.

    >>> split_words("Lee's film")
    [(0, 3), (3, 4), (4, 5), (6, 10)]
    """
    return [match.span() for match in _WORD.finditer(text)]


def split_finely(text: str) -> list[WordSpan]:
    """Split a raw text as `split_words` does, and also split URLs, @names and #tags into their parts.

    >>> [text[slice(*place)] for text in ["@王小 ok"] for place in split_finely(text)]
    ['@', '王', '小', 'ok']
    """
    return [match.span() for match in _PIECE.finditer(text)]


def find_words(text: str, tokens: Sequence[str]) -> list[WordSpan] | None:
    """Find tokens one after another in a text; None unless they spell out all of it, apart from white space.

    >>> find_words("it's so", ["it", "'s", "so"])
    [(0, 2), (2, 4), (5, 7)]
    """
    words: list[WordSpan] = []
    position = 0
    for token in tokens:
        while position < len(text) and text[position].isspace() and not token.startswith(text[position]):
            position += 1
        if not text.startswith(token, position):
            return None
        words.append((position, position + len(token)))
        position += len(token)
    return None if text[position:].strip() else words


def join_words(tokens: Sequence[str]) -> tuple[str, list[WordSpan]]:
    """Join tokens to a text, with spaces between them except between Chinese or Japanese characters.

    >>> join_words(["a", "b"])
    ('a b', [(0, 1), (2, 3)])
    """
    parts: list[str] = []
    words: list[WordSpan] = []
    length = 0
    before = ""
    for token in tokens:
        if parts and not (_ENDS_IN_CJK.search(before) and begins_with_cjk(token)):
            parts.append(" ")
            length += 1
        words.append((length, length + len(token)))
        parts.append(token)
        length += len(token)
        before = token
    return "".join(parts), words


def is_blank(text: str) -> bool:
    """Whether a text has no visible character.

    >>> is_blank(" \u200b\t"), is_blank(" a")
    (True, False)
    """
    return not any(character.isprintable() and not character.isspace() for character in text)
