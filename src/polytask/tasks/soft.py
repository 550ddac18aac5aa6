"""Soft labels: cells with a probability for each label, such as the shares of several annotators.

Rows are kept in Arrow files, where a label is text (or a list of texts). A distribution is kept there as JSON after a
marker that no cell of a file has; code that scores or shows labels gets the most probable label (`hard`).
"""

from __future__ import annotations

import json
import math
import re
from ast import literal_eval
from collections.abc import Collection, Mapping
from typing import Any

from polytask.errors import nearest
from polytask.files import unique_keys
from polytask.tasks.cells import brief
from polytask.tasks.labels import label_text, require_whole
from polytask.terms import Label

_MARK = "\0soft"
# Error of a probability rounded to two decimals; their sum may differ from 1 by this much for each.
_ROUNDING = 0.005
# Takes the place of a probability of 0 in logarithms.
_LEAST = 1e-30
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
# A dict as Python prints it, which is what pandas writes into a csv file; NumPy 2 prints the type too.
_PAIR = rf"({_QUOTED}|-?[0-9]+)\s*:\s*(?:np\.float[0-9]+\()?({_NUMBER}|None|nan|inf)\)?"
# Spaces match in one way only, to avoid catastrophic backtracking.
_SHOWN = re.compile(rf"\{{\s*{_PAIR}(?:\s*,\s*{_PAIR})*\s*(?:,\s*)?\}}", re.DOTALL)
_PAIRS = re.compile(_PAIR, re.DOTALL)
_OBJECT = re.compile(r"""\s*\{\s*(?:["'}]|-?[0-9]+\s*:)""")


def shares_in(value: Any) -> dict[str, float] | None:  # noqa: ANN401
    """Return a cell's mapping of labels to numbers, given as an object or as text; None for other cells.

    The text is JSON, or a dict as Python prints it.

    Raises ValueError if a number is not finite or is below 0, or a label occurs twice.

    >>> shares_in('{"pos": 0.8, "neg": 0.2}'), shares_in("{'pos': 1}"), shares_in("pos")
    ({'pos': 0.8, 'neg': 0.2}, {'pos': 1.0}, None)
    """
    cell = value
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        try:
            value = _parsed(value.strip())
        except (ValueError, SyntaxError, RecursionError):
            return None
    if not isinstance(value, Mapping):
        return None
    # Parquet has every key in every row, with a null where the row lacks it.
    items = {name: share for name, share in value.items() if share is not None}
    if not items or not all(_is_number(share) for share in items.values()):
        return None
    shares: dict[str, float] = {}
    for name, share in items.items():
        label = label_text(name)
        require_whole(label)
        if label in shares:
            raise ValueError(f"found {brief(cell)}, which names {label!r} twice")
        if not _is_finite(share) or share < 0:
            raise ValueError(f"found {brief(cell)}; the probability of a label is a finite number, 0 or more")
        shares[label] = float(share)
    return shares


def require_label(value: Any) -> None:  # noqa: ANN401
    """Raise ValueError if a cell is an object that is not a distribution: it was hardly meant as a label."""
    if isinstance(value, Mapping) or (isinstance(value, str) and _OBJECT.match(value)):
        raise ValueError(
            f"found {brief(value)}; a label is text or a whole number, or an object of probabilities, such as "
            '{"pos": 0.8, "neg": 0.2}'
        )


def _parsed(text: str) -> Any:  # noqa: ANN401
    """Parse a text that begins with a brace. Raises ValueError or SyntaxError."""
    if _SHOWN.fullmatch(text) is None:
        return json.loads(text, object_pairs_hook=unique_keys)
    pairs = _PAIRS.findall(text)
    return unique_keys([(str(literal_eval(name)), None if share == "None" else float(share)) for name, share in pairs])


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def distribution(shares: Mapping[str, float], cell: Any) -> dict[str, float]:  # noqa: ANN401
    """Return probabilities that add up to 1. Raises ValueError if they differ from 1 by more than rounding errors."""
    total = sum(shares.values())
    if not abs(total - 1) <= _ROUNDING * len(shares) + 1e-9:
        raise ValueError(f"found {brief(cell)}, which adds up to {total:.6g}; probabilities of labels add up to 1")
    return {label: share / total for label, share in shares.items()}


def chances(shares: Mapping[str, float], cell: Any) -> dict[str, float]:  # noqa: ANN401
    """Return probabilities of labels that are not mutually exclusive. Raises ValueError if one is above 1."""
    if max(shares.values()) > 1:
        raise ValueError(f"found {brief(cell)}; the probability of a label is at most 1")
    return dict(shares)


def stated(answer: Any, labels: Collection[str]) -> dict[str, float]:  # noqa: ANN401
    """Return the probabilities by label in an answer, which may be under `probabilities` as in predictions.

    Raises ValueError if there are none, or a label is unknown.
    """
    inner = answer.get("probabilities", answer) if isinstance(answer, Mapping) else answer
    shares = shares_in(inner)
    if shares is None:
        raise ValueError(
            f'found {brief(answer)}; an answer is an object of probabilities, such as {{"pos": 0.8, "neg": 0.2}}'
        )
    for label in shares.keys() - set(labels):
        raise ValueError(f"found the label {label!r}; {nearest(label, labels)}")
    return shares


def log_share(share: float) -> float:
    """Return the logarithm of a probability, finite even for 0."""
    return math.log(max(share, _LEAST))


def soft_text(shares: Mapping[str, float]) -> str:
    """Return a distribution as the text that is kept in place of a label."""
    return _MARK + json.dumps(dict(sorted(shares.items())))


def soft_shares(label: Label) -> dict[str, float] | None:
    """Return the distribution in a label, or in a list of one; None for a hard label."""
    text = label[0] if isinstance(label, list) and len(label) == 1 else label
    return json.loads(text[len(_MARK) :]) if isinstance(text, str) and text.startswith(_MARK) else None


def most_probable(shares: Mapping[str, float]) -> str:
    """Return the most probable label; ties go to the first by name."""
    return max(sorted(shares), key=lambda label: shares[label])


def probable(shares: Mapping[str, float]) -> list[str]:
    """Return the labels with a probability of at least 0.5."""
    return sorted(label for label, share in shares.items() if share >= 0.5)


def hard(label: Label) -> Label:
    """Return the most probable hard label."""
    shares = soft_shares(label)
    if shares is None:
        return label
    return probable(shares) if isinstance(label, list) else most_probable(shares)


def names_in(label: Label) -> list[str]:
    """Return the names of all labels that a label, soft or not, mentions."""
    shares = soft_shares(label)
    if shares is not None:
        return list(shares)
    return [item for item in (label if isinstance(label, list) else [label]) if isinstance(item, str)]
