"""Classes that may be several labels in one cell."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from polytask.tasks.cells import parts_of
from polytask.tasks.label_stats import LabelStats

# Separators that hardly occur in the name of one label, and those that do: C#, sci/tech, A+.
SEPARATORS = ",;|\n\uff0c\u3001\uff1b"
IN_NAMES = "#/+"
ALL_SEPARATORS = SEPARATORS + IN_NAMES
# Of these, the ones between words of one name; in another order it is another name: `en/de` and `de/en`.
COMPOUND = "/+"

# What spreadsheets and people write in place of a label.
_NO_LABEL = frozenset({"n/a", "#n/a"})


def joined_parts(label: str, separator: str) -> list[str]:
    """Return the labels in a cell if none of them is empty; otherwise the whole cell as one label.

    The first of several hashtags has nothing before it.

    >>> joined_parts("a; b", ";"), joined_parts("#a #b", "#"), joined_parts("C#", "#"), joined_parts("A+", "+")
    (['a', 'b'], ['a', 'b'], ['C#'], ['A+'])
    """
    parts = [part.strip() for part in label.split(separator)]
    parts = parts[1:] if separator == "#" and len(parts) > 1 and not parts[0] else parts
    return parts if all(parts) and label.casefold() not in _NO_LABEL else [label]


def joined_labels(labels: Iterable[str], separator: str) -> tuple[str, str] | None:
    """Return a label that seems to be several, joined by a separator, and one of them that is a label too.

    If the separator occurs in names, all of them have to be labels too, and not all numbers (1/2).

    >>> joined_labels(["a", "a;b"], ";"), joined_labels(["sci", "sci/tech"], "/"), joined_labels(["a", "b", "a/b"], "/")
    (('a;b', 'a'), None, ('a/b', 'a'))
    """
    parts = _parts(labels, separator)
    known = {listed[0] for listed in parts.values() if len(listed) == 1}
    for label, listed in parts.items():
        among = [part for part in listed if part in known]
        strict = separator in IN_NAMES
        if len(listed) > 1 and among and not (strict and (len(among) < len(listed) or _all_numbers(listed))):
            return label, among[0]
    return None


def joined_labels_notes(labels: Iterable[str]) -> list[str]:
    """Name a class that seems to be several labels joined by a separator, if there is one.

    >>> joined_labels_notes(["a", "a,b", "c"])
    ["the label 'a,b' may be several labels joined by ',', since 'a' is a label too; if a text can have several, use `type: multilabel`"]
    >>> joined_labels_notes(["Paris, Texas", "London"])
    []
    """  # noqa: E501
    names = sorted(labels)
    for separator in ALL_SEPARATORS:
        found = joined_labels(names, separator)
        if found is not None:
            label, part = found
            reason = f"the label {label!r} may be several labels joined by {separator!r}, since {part!r} is a label too"
            return [f"{reason}; {_advice(separator)}"]
    for separator in ALL_SEPARATORS:
        for label, other in _reordered(_parts(names, separator), separator):
            reason = f"the labels {label!r} and {other!r} have the same parts in another order"
            return [f"{reason}; {_advice(separator)}"]
    return []


def _parts(labels: Iterable[str], separator: str) -> dict[str, list[str]]:
    return {label: joined_parts(label, separator) for label in labels}


def _reordered(parts: Mapping[str, Sequence[str]], separator: str) -> Iterator[tuple[str, str]]:
    """Yield pairs of labels with the same parts in another order."""
    first: dict[tuple[str, ...], str] = {}
    for label, listed in parts.items() if separator not in COMPOUND else ():
        if len(set(listed)) > 1 and not _all_numbers(listed):
            other = first.setdefault(tuple(sorted(listed)), label)
            if parts[other] != listed:
                yield other, label


def trade_places(cells: Iterable[Sequence[str]], separator: str) -> bool:
    """Whether most parts of cells with equally many parts have several places, so that their order means nothing."""
    if separator in COMPOUND:
        return False
    places: dict[str, set[int]] = {}
    for listed in cells:
        if _all_numbers(listed):
            return False
        for place, part in enumerate(listed):
            places.setdefault(part, set()).add(place)
    return 2 * sum(len(found) > 1 for found in places.values()) >= len(places)


def _all_numbers(parts: Iterable[str]) -> bool:
    return all(part.isdecimal() for part in parts)


def _advice(separator: str) -> str:
    options = "" if separator == "," else f" with `separator: {json.dumps(separator, ensure_ascii=False)}`"
    return f"if a text can have several, use `type: multilabel`{options}"


def require_apart(stats: LabelStats, separator: str) -> None:
    """Raise ValueError if labels of a multilabel task, whose text cells were split, look like several joined ones."""
    labels = set(stats.labels)
    for other in SEPARATORS.replace(separator, ""):
        joined = sorted(label for label in labels if other in label)
        parts = [part.strip() for label in joined for part in label.split(other)]
        if joined and (any(part in labels for part in parts) or len(set(parts)) < len(parts)):
            raise _seems_several(joined[0], other, separator)
    for label in sorted(label for label in labels if separator in label):
        parts = parts_of(label, separator)
        if parts and labels.issuperset(parts):
            other = next((mark for mark in ";|" if mark not in label), "\n")
            raise ValueError(
                f"the label {label!r} of a list would be split at {separator!r} in a text cell, and its parts "
                f'are labels too; write `separator: {json.dumps(other)}` next to `label`, or `separator: "'
                f'{separator}"` if text cells hold several labels'
            )
    for other in IN_NAMES if stats.longest == 1 else "":
        found = joined_labels(sorted(labels), other)
        if found is not None:
            raise _seems_several(found[0], other, separator)


def _seems_several(label: str, other: str, separator: str) -> ValueError:
    return ValueError(
        f"the label {label!r} seems to be several, joined by {other!r}, since its parts occur in other rows too; write "
        f'`separator: {json.dumps(other, ensure_ascii=False)}` next to `label`, or `separator: "{separator}"` if it is '
        "one label"
    )
