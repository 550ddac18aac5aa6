from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from searching import GRAFTING, tasks_on

import polytask
from samples import corpus_rows, write_jsonl


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> tuple[dict[str, Any], Path]:
    """A configuration of two tasks, and the folder of its rows."""
    folder = tmp_path_factory.mktemp("search")
    rows = corpus_rows(48)
    for split, part in (("train", rows[:24]), ("dev", rows[24:36]), ("test", rows[36:])):
        write_jsonl(folder / f"{split}.jsonl", part)
    write_jsonl(
        folder / "other_test.jsonl",
        [{**row, "topic": rows[0]["topic"], "sentiment": rows[0]["sentiment"]} for row in rows[36:]],
    )
    train = {"epochs": 2, "batch_size": 8, "seed": 5, "precision": "fp32"}
    return {"encoder": str(tiny), "max_tokens": 48, "tasks": tasks_on(folder), "train": train}, folder


@pytest.fixture(scope="session")
def searched(given: tuple[dict[str, Any], Path]) -> tuple[dict[str, Any], polytask.AutoResult]:
    """A search whose ladder grafts a task."""
    values, folder = given
    return values, polytask.auto(values, folder / "out", **GRAFTING)
