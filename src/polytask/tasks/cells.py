"""Cells that hold several values: lists, and lists that were written as text."""

from __future__ import annotations

import ast
import json
import re
import warnings
from reprlib import Repr
from typing import Any

_ELEMENT = r"""\s*(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,'"\[\]{}()]+)\s*"""
_LIST = re.compile(rf"\[(?:{_ELEMENT}(?:,{_ELEMENT})*(?:,\s*)?|\s*)\]", re.DOTALL)
# Words may stand in brackets too, so a tuple is told by the quotes around all its items, of which one has a comma.
_QUOTED = r"""\s*(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*"""
_TUPLE = re.compile(rf"\({_QUOTED},(?:{_QUOTED},)*(?:{_QUOTED}|\s*)\)", re.DOTALL)
_ELEMENTS = re.compile(_ELEMENT, re.DOTALL)
_WORDS: dict[str, Any] = {
    "None": None, "null": None, "nan": None, "NaN": None, "True": True, "true": True, "False": False, "false": False,
}  # fmt: skip
# A list of lists, tuples or objects; or one that holds nothing.
_SPANS = re.compile(r"\s*\[\s*[\[{(\]]")
# What a list of spans is written with: a text in quotes, a mark, or a word.
_PIECES = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[\[\]{}(),:]|[^\s,:'"\[\]{}()]+)\s*""", re.DOTALL)
# A number as JSON and Python write it; not 1_2, which Python reads as 12, and not 007.
_NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")
_shorten = Repr()
_shorten.maxstring = _shorten.maxother = 80
_shorten.maxlevel = 3


def brief(value: object) -> str:
    """Return a value for a message, cut short where it is long or deep."""
    return _shorten.repr(value)


def listed(text: str) -> list[Any] | None:
    """Return the list that a cell shows, in the form of JSON or of Python; None where it does not begin with `[`.

    Raises ValueError on what begins as a list and is none: NumPy's form without commas, bare words, a list cut off.

    >>> listed("['B-PER', 'O']")
    ['B-PER', 'O']
    >>> listed("Peter sings") is None
    True
    """
    text = text.strip()
    if _TUPLE.fullmatch(text):
        text = f"[{text[1:-1]}]"
    if not text.startswith("["):
        return None
    try:
        return _flat(json.loads(text))
    except (ValueError, RecursionError):
        pass
    if _LIST.fullmatch(text) is None:
        raise _unreadable(text)
    try:
        return [_element(item.strip()) for item in _ELEMENTS.findall(text[1:-1])]
    except (ValueError, SyntaxError):
        raise _unreadable(text) from None


def shown_spans(text: str) -> list[Any] | None:
    """Return the list of spans that a cell shows, in the form of JSON or of Python; None where it shows something else.

    Raises ValueError on what begins as a list of spans and is none.

    >>> shown_spans('[[0, 7, "PER"]]'), shown_spans("[(0, 7, 'PER')]"), shown_spans("[]")
    ([[0, 7, 'PER']], [[0, 7, 'PER']], [])
    >>> shown_spans("B-PER O") is None
    True
    """
    if _SPANS.match(text) is None:
        return None
    for shown in (lambda: json.loads(text), lambda: json.loads(_as_json(text))):
        try:
            spans = shown()
        except (ValueError, SyntaxError, RecursionError):
            continue
        if isinstance(spans, list):
            return spans
    raise ValueError(
        f'found {brief(text)}; spans are a list, such as [[0, 7, "PER"]], in the form of JSON or of Python'
    )


def _as_json(text: str) -> str:
    """Write what Python shows of lists, tuples and objects as JSON. Raises ValueError on anything else."""
    pieces: list[str] = []
    end = 0
    for piece in _PIECES.finditer(text):
        if piece.start() != end:
            break
        end = piece.end()
        told = piece[1]
        pieces.append({"(": "[", ")": "]"}.get(told) or (told if told in "[]{},:" else json.dumps(_element(told))))
    if end != len(text):
        raise ValueError
    return "".join(pieces)


def _flat(value: list[Any]) -> list[Any]:
    if any(isinstance(item, list | dict) for item in value):
        raise ValueError
    return value


def _element(text: str) -> Any:  # noqa: ANN401
    if text[0] in "'\"":
        if "\\" not in text:
            return text[1:-1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of escapes that it does not know
            return ast.literal_eval(text)
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.fullmatch(text) is None:
        raise ValueError
    return float(text) if any(mark in text for mark in ".eE") else int(text)


def _unreadable(text: str) -> ValueError:
    return ValueError(
        f"found {brief(text)}, which begins as a list and cannot be read as one; write lists as JSON does, such as "
        '["a", "b"], with commas between the items and text in quotes'
    )


def split_cell(text: str, separator: str | None = None) -> list[Any]:
    """Return the items of a text cell: those of the list that it shows, or its parts at the separator (or spaces).

    >>> split_cell("a, b", ","), split_cell('["a", "b"]', ","), split_cell("a b")
    (['a', 'b'], ['a', 'b'], ['a', 'b'])
    """
    items = listed(text)
    if items is not None:
        return items
    return text.split() if separator is None else [part.strip() for part in text.split(separator) if part.strip()]
