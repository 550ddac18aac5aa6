"""Conversion of class numbers in Hugging Face datasets to the names of the classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class ClassNames:
    """The class names of a dataset, by column.

    Args:
        features: the features of the columns, as `datasets` writes them into its JSON and into Parquet files.
    """

    def __init__(self, features: Mapping[str, Any]) -> None:
        self._features = {column: feature for column, feature in features.items() if _holds_classes(feature)}

    @classmethod
    def of_parquet(cls, metadata: Mapping[bytes, bytes] | None) -> ClassNames:
        """Read the names from the schema metadata of a Parquet file; files of other programs have none."""
        try:
            info = json.loads((metadata or {}).get(b"huggingface", b"{}"))
            features = info.get("info", {}).get("features") or {}
        except (ValueError, AttributeError, RecursionError):
            features = {}
        return cls(features if isinstance(features, dict) else {})

    def named(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row with names instead of class numbers. Raises ValueError for a number without a name."""
        values = dict(row)
        for column, feature in self._features.items():
            if column in values:
                values[column] = _named(feature, values[column], column)
        return values


def _inner(feature: Any) -> Any:  # noqa: ANN401
    """Return the feature of a list's items; None if the feature is not a list."""
    if isinstance(feature, list):  # the form of older versions
        return feature[0] if len(feature) == 1 else None
    return feature.get("feature") if isinstance(feature, dict) and "_type" in feature else None


def _holds_classes(feature: Any) -> bool:  # noqa: ANN401
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
        return bool(feature.get("names"))
    inner = _inner(feature)
    if inner is not None:
        return _holds_classes(inner)
    return isinstance(feature, dict) and any(_holds_classes(value) for value in feature.values())


def _named(feature: Any, value: Any, column: str) -> Any:  # noqa: ANN401
    if value is None or not _holds_classes(feature):
        return value
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
        return _name(feature["names"], value, column)
    inner = _inner(feature)
    if inner is not None and isinstance(value, list):
        names = [_named(inner, item, column) for item in value]
        # If one class is missing, the whole list counts as missing.
        return None if None in names and _holds_classes(inner) else names
    fields = feature if inner is None else inner
    if isinstance(value, dict) and isinstance(fields, dict):
        # Older versions write a list of objects as an object of lists.
        kinds = {key: field if inner is None else [field] for key, field in fields.items()}
        return {key: _named(kinds.get(key), item, column) for key, item in value.items()}
    return value


def _name(names: list[str], number: Any, column: str) -> str | None:  # noqa: ANN401
    """Return the name of a class; datasets write -1 for a missing label."""
    if isinstance(number, int) and number < 0:
        return None
    if isinstance(number, int) and number < len(names):
        return names[number]
    raise ValueError(f"found the class {number!r} in {column!r}, which has names for 0 to {len(names) - 1} only")
