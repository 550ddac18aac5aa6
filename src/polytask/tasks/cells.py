"""Cells that hold several values: lists, and lists written as text."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping
from reprlib import Repr
from typing import Any

_ELEMENT = r"""\s*(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,'"\[\]{}()]+)\s*"""
_LIST = re.compile(rf"\[(?:{_ELEMENT}(?:,{_ELEMENT})*(?:,\s*)?|\s*)\]", re.DOTALL)
# Plain words may be in parentheses too, so a tuple is recognized by quotes around all its items, and a comma.
# An empty one has neither.
_QUOTED = r"""\s*(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*"""
_TUPLE = re.compile(rf"\((?:{_QUOTED},(?:{_QUOTED},)*(?:{_QUOTED}|\s*)|\s*)\)", re.DOTALL)
_ELEMENTS = re.compile(_ELEMENT, re.DOTALL)
_WORDS: dict[str, Any] = {
    "None": None, "null": None, "nan": None, "NaN": None, "True": True, "true": True, "False": False, "false": False,
}  # fmt: skip
# A list of lists, tuples or objects; or an empty list.
_SPANS = re.compile(r"\s*\[\s*[\[{(\]]")
# The tokens of a list of spans: a quoted text, a bracket or separator, or a word.
_PIECES = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[\[\]{}(),:]|[^\s,:'"\[\]{}()]+)\s*""", re.DOTALL)
# A number as JSON and Python write it; neither 1_2, which Python reads as 12, nor 007.
_NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")
_shorten = Repr()
_shorten.maxstring = _shorten.maxother = 80
_shorten.maxlevel = 3


def brief(value: object) -> str:
    """Return a value for a message, shortened if it is long or deeply nested."""
    return _shorten.repr(value)


def listed(text: str) -> list[Any] | None:
    """Return the list written in a cell, in JSON or Python notation; None if it does not begin as one.

    Raises ValueError on text that begins like a list but is not one: NumPy's notation, bare words, a truncated list.

    >>> listed("['B-PER', 'O']")
    ['B-PER', 'O']
    >>> listed("('a',)"), listed("()"), listed("Peter sings")
    (['a'], [], None)
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


def choices_in(cell: Any) -> list[Any] | None:  # noqa: ANN401
    """Return the labels in a cell of Label Studio's small exports: an object of choices, or its text; None otherwise.

    >>> choices_in({"choices": ["a", "b"]}), choices_in('{"choices": ["a", "b"]}'), choices_in("a")
    (['a', 'b'], ['a', 'b'], None)
    """
    if isinstance(cell, str):
        if cell.lstrip()[:1] != "{":
            return None
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return None
    if not isinstance(cell, Mapping) or list(cell) != ["choices"] or not isinstance(cell["choices"], list):
        return None
    return cell["choices"]


def items_in(cell: Any) -> list[Any] | None:  # noqa: ANN401
    """Return the items of a list, of a list written as text, or of an object of choices; None for other cells.

    Raises ValueError on text that begins like a list but is not one.
    """
    if isinstance(cell, list):
        return cell
    choices = choices_in(cell)
    return listed(cell) if choices is None and isinstance(cell, str) else choices


def shown_spans(text: str) -> list[Any] | None:
    """Return the list of spans written in a cell, in JSON or Python notation; None if it is something else.

    Raises ValueError on text that begins like a list of spans but is not one.

    >>> shown_spans('[[0, 7, "PER"]]'), shown_spans("[(0, 7, 'PER')]"), shown_spans("[]")
    ([[0, 7, 'PER']], [[0, 7, 'PER']], [])
    >>> shown_spans("B-PER O") is None
    True
    """
    if _SPANS.match(text) is None:
        return None
    for parse in (lambda: json.loads(text), lambda: json.loads(_as_json(text))):
        try:
            spans = parse()
        except (ValueError, SyntaxError, RecursionError):
            continue
        if isinstance(spans, list):
            return spans
    raise ValueError(f'found {brief(text)}; spans are a list in JSON or Python notation, such as [[0, 7, "PER"]]')


def _as_json(text: str) -> str:
    """Convert Python's notation of lists, tuples and dicts to JSON. Raises ValueError on anything else."""
    pieces: list[str] = []
    end = 0
    for piece in _PIECES.finditer(text):
        if piece.start() != end:
            break
        end = piece.end()
        token = piece[1]
        pieces.append({"(": "[", ")": "]"}.get(token) or (token if token in "[]{},:" else json.dumps(_element(token))))
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
            warnings.simplefilter("ignore")  # Python warns about unknown escapes
            return ast.literal_eval(text)
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.fullmatch(text) is None:
        raise ValueError
    return float(text) if any(mark in text for mark in ".eE") else int(text)


def _unreadable(text: str) -> ValueError:
    return ValueError(
        f"found {brief(text)}, which begins like a list and cannot be read as one; write lists as JSON does, such as "
        '["a", "b"], with commas between the items and text in quotes'
    )


def split_cell(text: str) -> list[Any]:
    """Return the items of a text cell: of the list written there, or its words.

    >>> split_cell('["a", "b"]'), split_cell("a b")
    (['a', 'b'], ['a', 'b'])
    """
    items = listed(text)
    return text.split() if items is None else items


def parts_of(text: str, separator: str) -> list[str]:
    """Return the parts of a text between separators, without outer spaces and empty parts.

    >>> parts_of("a, b,", ",")
    ['a', 'b']
    """
    return [part.strip() for part in text.split(separator) if part.strip()]
