"""Classes that may be several labels in one cell."""

from __future__ import annotations

from collections.abc import Iterable

SEPARATORS = ",;|\uff0c\u3001\uff1b"


def joined_labels_notes(labels: Iterable[str]) -> list[str]:
    """Name a class that seems to be several labels joined by a separator, if there is one.

    >>> joined_labels_notes(["a", "a,b", "c"])
    ["the label 'a,b' may be several labels joined by ',', since 'a' is a label too; if a text can have several, use `type: multilabel`"]
    >>> joined_labels_notes(["Paris, Texas", "London"])
    []
    """  # noqa: E501
    names = sorted(labels)
    known = set(names)
    for separator in SEPARATORS:
        for label in names:
            parts = [part.strip() for part in label.split(separator)]
            part = next((part for part in parts if part in known), None)
            if len(parts) > 1 and all(parts) and part is not None:
                options = "" if separator == "," else f' with `separator: "{separator}"`'
                return [
                    f"the label {label!r} may be several labels joined by {separator!r}, since {part!r} is a label "
                    f"too; if a text can have several, use `type: multilabel`{options}"
                ]
    return []
