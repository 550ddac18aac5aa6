"""From tasks to the best plan: what is shipped, what it is chosen by, and that an interrupted search goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import polytask


def search_values(tiny: Path, folder: Path, **train: Any) -> dict[str, Any]:
    from samples import corpus_rows, write_jsonl

    for split, rows in (
        ("train", corpus_rows(48)[:24]),
        ("dev", corpus_rows(48)[24:36]),
        ("test", corpus_rows(48)[36:]),
    ):
        write_jsonl(folder / f"{split}.jsonl", rows)
    data = {split: str(folder / f"{split}.jsonl") for split in ("train", "dev", "test")}
    return {
        "encoder": str(tiny),
        "max_tokens": 48,
        "tasks": {
            "sentiment": {"type": "classification", "data": data, "label": "sentiment"},
            "topic": {"type": "classification", "data": data, "label": "topic"},
        },
        "train": {"epochs": 2, "batch_size": 8, "seed": 5, "precision": "fp32", **train},
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> tuple[dict[str, Any], polytask.AutoResult]:
    folder = tmp_path_factory.mktemp("auto")
    values = search_values(tiny, folder)
    return values, polytask.auto(values, folder / "out", budget=20, floor=0, certainty=0.95, max_size=3, max_passes=3)


def test_x(done: Any) -> None:
    values, found = done
    print(json.dumps(found.record, indent=1))
    from polytask.search.table import show_search
    from polytask.tables import console
    show_search(found, console())
