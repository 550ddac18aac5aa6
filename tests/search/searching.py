"""A small search, and what of its record does not depend on the clock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The single models, one joint model, and one step of the ladder.
SMALL = 4.0
# Every task counts as below the floor unless it is far above: the ladder grafts one.
GRAFTING = {"budget": SMALL, "floor": 0, "certainty": 0.99, "max_size": 3, "max_passes": 3}


def tasks_on(folder: Path, test: str = "test") -> dict[str, Any]:
    data = {
        split: str(folder / f"{name}.jsonl") for split, name in (("train", "train"), ("dev", "dev"), ("test", test))
    }
    return {
        "sentiment": {"type": "classification", "data": data, "label": "sentiment"},
        "topic": {"type": "classification", "data": data, "label": "topic"},
    }


def without_times(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in ("rows_per_second", "seconds_of_one_training")}
