"""Converts tasks of Label Studio to rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def row_of(value: dict[str, Any]) -> dict[str, Any]:
    """Convert a Label Studio task to a row; other JSON objects are returned unchanged, except for ratings and numbers.

    A task has the columns of its data, and for each control of its annotation (`from_name`) one column: spans, or
    choices, a rating or a number. The spans of a task with one such control are also in the column `spans`. Raises
    ValueError if several annotations differ.
    """
    annotations = value.get("annotations", value.get("completions"))
    data = value.get("data")
    if not isinstance(data, dict) or not isinstance(annotations, list):
        return _with_numbers(value)
    row = {**({"id": value["id"]} if "id" in value else {}), **data}
    done = [
        _by_control(annotation["result"])
        for annotation in annotations
        if isinstance(annotation, dict) and isinstance(annotation.get("result"), list)
        and not annotation.get("was_cancelled") and not annotation.get("skipped")
    ]  # fmt: skip
    if not done:
        return row
    if any(other != done[0] for other in done):
        raise ValueError(f"found {len(done)} annotations of one text that differ; keep one of them")
    spans = {name: control for name, control in done[0].items() if _is_control_of_spans(control)}
    for name, control in done[0].items():
        chosen = [] if name in spans else _chosen(control)
        if chosen:
            row[name] = chosen[0] if len(chosen) == 1 and not _is_joined(chosen[0]) else chosen
    row |= spans
    return {**row, "spans": next(iter(spans.values()), [])} if len(spans) < 2 else row


def _with_numbers(row: dict[str, Any]) -> dict[str, Any]:
    """Replace ratings and numbers as JSON-MIN has them, `[{"rating": 4}]`, by the numbers alone."""
    numbers = {
        name: number
        for name, cell in row.items()
        if isinstance(cell, list) and len(cell) == 1 and (number := _only_number(cell[0])) is not None
    }
    return {**row, **numbers} if numbers else row


def _only_number(item: Any) -> int | float | None:  # noqa: ANN401
    if not isinstance(item, dict) or len(item) != 1:
        return None
    number = item.get("rating", item.get("number"))
    return number if isinstance(number, int | float) and not isinstance(number, bool) else None


def _by_control(result: Sequence[Any]) -> dict[str, list[dict[str, Any]]]:
    controls: dict[str, list[dict[str, Any]]] = {}
    for item in result:
        if isinstance(item, dict) and isinstance(item.get("value"), dict):
            kind = str(item.get("type", "labels"))
            if kind.endswith("labels") and kind != "labels" and "start" in item["value"]:
                raise ValueError(
                    f"found a region of the kind {kind!r}, which is not read; Label Studio's <Labels> on a <Text> are"
                )
            controls.setdefault(str(item.get("from_name", "spans")), []).append(item["value"])
    return controls


def _chosen(control: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the values chosen for a whole text: choices, a rating or a number.

    Choices that belong to a region are not labels of the text, and stay with the region.
    """
    chosen: list[Any] = []
    for value in control:
        if "choices" in value and "start" in value:
            chosen.append(dict(value))
            continue
        chosen.extend(value.get("choices", ()))
        chosen.extend(value[kind] for kind in ("rating", "number") if kind in value)
    return chosen


def _is_joined(choice: Any) -> bool:  # noqa: ANN401
    """Whether a choice would be read as several labels."""
    return isinstance(choice, str) and ("," in choice or choice[:1] in ("[", "{"))


def _is_control_of_spans(values: Sequence[Mapping[str, Any]]) -> bool:
    return all("labels" in value and "start" in value and "end" in value for value in values)
