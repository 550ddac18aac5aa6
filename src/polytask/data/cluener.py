"""Converts rows of CLUENER to rows with spans.

Source: Xu et al. 2020, "CLUENER2020: Fine-grained Named Entity Recognition Dataset and Benchmark for Chinese". Under
each label are the texts of its entities, and under each text its places, whose ends include the last character:
`{"text": "...", "label": {"name": {"Ann Lee": [[0, 6]]}}}`.
"""

from __future__ import annotations

from typing import Any


def with_spans(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with a list of spans in place of CLUENER's label; other rows are returned unchanged."""
    text: Any = row.get("text")
    label: Any = row.get("label")
    if not isinstance(text, str) or not _is_of_cluener(label):
        return row
    spans = [
        {"start": start, "end": _end(text, entity, start, end), "label": name, "text": entity}
        for name, entities in label.items()
        for entity, places in entities.items()
        for start, end in places
    ]
    return {**row, "label": sorted(spans, key=lambda span: (span["start"], span["end"]))}


def _end(text: str, entity: str, start: int, end: int) -> int:
    """Return the end of an entity without its last character's place, as in all other formats.

    An end that excludes the last character already, which the entity's text shows, is kept.
    """
    return end if text[start:end] == entity != text[start : end + 1] else end + 1


def _is_of_cluener(label: Any) -> bool:  # noqa: ANN401
    """Whether a label is a mapping of labels to mappings of texts to lists of places."""
    return (
        isinstance(label, dict)
        and bool(label)
        and all(
            isinstance(entities, dict) and all(_are_places(places) for places in entities.values())
            for entities in label.values()
        )
    )


def _are_places(places: Any) -> bool:  # noqa: ANN401
    return isinstance(places, list) and all(
        isinstance(place, list) and len(place) == 2 and all(type(number) is int for number in place) for place in places
    )
