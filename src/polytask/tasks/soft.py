"""Soft labels: a cell that says how probable each label is, such as the shares of several annotators.

Rows are kept in Arrow files, where a label is text (or a list of texts). A distribution stands there as JSON behind a
mark that no cell of a file has; whatever scores or shows labels is given the most probable one (`hard`).
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
# Probabilities that were rounded to two decimals may miss 1 by so much each.
_ROUNDING = 0.005
# A probability of 0 that is to have a logarithm.
_LEAST = 1e-30
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
# As Python prints a mapping, which is what pandas writes into a csv file; NumPy 2 prints the type as well.
_PAIR = rf"({_QUOTED}|-?[0-9]+)\s*:\s*(?:np\.float[0-9]+\()?({_NUMBER}|None|nan|inf)\)?"
# Blanks are matched in one way only, so that a text full of them takes no longer than any other.
_SHOWN = re.compile(rf"\{{\s*{_PAIR}(?:\s*,\s*{_PAIR})*\s*(?:,\s*)?\}}", re.DOTALL)
_PAIRS = re.compile(_PAIR, re.DOTALL)
_OBJECT = re.compile(r"""\s*\{\s*(?:["'}]|-?[0-9]+\s*:)""")


def shares_in(value: Any) -> dict[str, float] | None:  # noqa: ANN401
    """Return the labels of a cell that is an object of numbers, or the text of one, with these; None for other cells.

    The text is JSON, or what Python prints.

    Raises ValueError where a number is not finite or below 0, or a label stands twice.

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
    # Parquet has every key in every row, without a value where the row lacks it.
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
    """Raise ValueError where a cell's text is an object that is no distribution: it was hardly meant as a label."""
    if isinstance(value, Mapping) or (isinstance(value, str) and _OBJECT.match(value)):
        raise ValueError(
            f"found {brief(value)}; a label is text or a whole number, or an object of probabilities, such as "
            '{"pos": 0.8, "neg": 0.2}'
        )


def _parsed(text: str) -> Any:  # noqa: ANN401
    """Return what a text that begins with a brace holds. Raises ValueError, or what Python's parsers do."""
    if _SHOWN.fullmatch(text) is None:
        return json.loads(text, object_pairs_hook=unique_keys)
    pairs = _PAIRS.findall(text)
    return unique_keys([(str(literal_eval(name)), None if share == "None" else float(share)) for name, share in pairs])


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def distribution(shares: Mapping[str, float], cell: Any) -> dict[str, float]:  # noqa: ANN401
    """Return probabilities that add up to 1. Raises ValueError where they miss it by more than rounding."""
    total = sum(shares.values())
    if not abs(total - 1) <= _ROUNDING * len(shares) + 1e-9:
        raise ValueError(f"found {brief(cell)}, which adds up to {total:.6g}; probabilities of labels add up to 1")
    return {label: share / total for label, share in shares.items()}


def chances(shares: Mapping[str, float], cell: Any) -> dict[str, float]:  # noqa: ANN401
    """Return probabilities of labels that do not exclude one another. Raises ValueError where one is above 1."""
    if max(shares.values()) > 1:
        raise ValueError(f"found {brief(cell)}; the probability of a label is at most 1")
    return dict(shares)


def stated(answer: Any, labels: Collection[str]) -> dict[str, float]:  # noqa: ANN401
    """Return the probabilities in an answer: by label, or under `probabilities` as predictions have them.

    Raises ValueError where there are none, or a label is not among those that are known.
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
    """Return the logarithm of a probability, which stays finite."""
    return math.log(max(share, _LEAST))


def soft_text(shares: Mapping[str, float]) -> str:
    """Return a distribution as it is kept in place of a label."""
    return _MARK + json.dumps(dict(sorted(shares.items())))


def soft_shares(label: Label) -> dict[str, float] | None:
    """Return the distribution that a label is, or the only item of a list of labels; None for a label as such."""
    text = label[0] if isinstance(label, list) and len(label) == 1 else label
    return json.loads(text[len(_MARK) :]) if isinstance(text, str) and text.startswith(_MARK) else None


def most_probable(shares: Mapping[str, float]) -> str:
    """Return the most probable label; of several the first by name."""
    return max(sorted(shares), key=lambda label: shares[label])


def probable(shares: Mapping[str, float]) -> list[str]:
    """Return the labels that are there with one half or more."""
    return sorted(label for label, share in shares.items() if share >= 0.5)


def hard(label: Label) -> Label:
    """Return a label as what it most probably is."""
    shares = soft_shares(label)
    if shares is None:
        return label
    return probable(shares) if isinstance(label, list) else most_probable(shares)


def names_in(label: Label) -> list[str]:
    """Return the names of the labels that a label is made of."""
    shares = soft_shares(label)
    if shares is not None:
        return list(shares)
    return [item for item in (label if isinstance(label, list) else [label]) if isinstance(item, str)]
