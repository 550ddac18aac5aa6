"""Information about a model for the page and /tasks, from its folder's description; any part may be missing.

A description that was edited by hand may contain anything: values of an unexpected form are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def encoder_of(about: Mapping[str, Any]) -> str:
    """Return the encoder's hub id, or only the last part of a path."""
    encoder = about.get("encoder")
    if not isinstance(encoder, str):
        return ""
    return encoder if _HUB_ID.fullmatch(encoder) else PurePath(encoder.replace("\\", "/")).name


def passes_of(about: Mapping[str, Any]) -> float | None:
    """Return the number of encoder passes for a text with all tasks; 1 if all tasks share an encoder."""
    passes = _number(about.get("passes"))
    return passes if passes is not None and passes > 0 else None


def scores_of(about: Mapping[str, Any], task: str) -> dict[str, dict[str, float | None]]:
    """Return a task's scores by split and metric; None for undefined ones."""
    return {
        split: {metric: _number(value) for metric, value in _mapping(tasks.get(task)).items()}
        for split, tasks in _mappings(about.get("scores")).items()
        if task in tasks
    }


def rows_of(about: Mapping[str, Any], task: str) -> dict[str, int]:
    """Return the number of rows with a label of a task in each split."""
    rows = _mapping(_facts(about, task).get("rows"))
    return {split: count for split, count in rows.items() if isinstance(count, int) and not isinstance(count, bool)}


def range_of(about: Mapping[str, Any], task: str) -> tuple[float, float] | None:
    """Return the minimum and maximum number in the training rows."""
    limits = _facts(about, task).get("range")
    numbers = [_number(value) for value in limits] if isinstance(limits, list | tuple) else []
    low, high = (numbers[0], numbers[-1]) if len(numbers) == 3 else (None, None)
    return None if low is None or high is None or low >= high else (low, high)


def _facts(about: Mapping[str, Any], task: str) -> Mapping[str, Any]:
    return _mapping(_mapping(about.get("data")).get(task))


def _mapping(value: object) -> Mapping[str, Any]:
    """Return a value if it is a mapping with string keys, and an empty one otherwise."""
    return {key: item for key, item in value.items() if isinstance(key, str)} if isinstance(value, Mapping) else {}


def _mappings(value: object) -> Mapping[str, Mapping[str, Any]]:
    return {key: _mapping(item) for key, item in _mapping(value).items()}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer of a thousand digits
        return None
