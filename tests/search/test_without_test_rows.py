"""Scores of tasks without test rows: said to be of the dev rows that made every choice, and quoted once."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from searching import SMALL, tasks_on

import polytask
from polytask.page import report
from polytask.search.record import doubts
from polytask.search.table import show_search

HONEST = "Scores on test rows, which were not used for any choice"
OPTIMISTIC = "dev rows, which made every choice, so they are optimistic"


@pytest.mark.parametrize("tested", ["", "sentiment", "sentiment topic"])
def test_the_rows_behind_a_score_are_named(given: tuple[dict[str, Any], Path], tmp_path: Path, tested: str) -> None:
    values, folder = given
    tasks = tasks_on(folder)
    for name, task in tasks.items():
        if name not in tested:
            task["data"] = {split: file for split, file in task["data"].items() if split != "test"}
    found = polytask.auto({**values, "tasks": tasks}, tmp_path / "out", budget=SMALL, floor=50)
    written = io.StringIO()
    show_search(found, Console(file=written, width=300))
    page = report(found.folder).read_text("utf-8")
    for name, task in found.tasks.items():
        rows = f"{task['rows']['dev']} dev rows"
        assert task["sentence"].count(rows) == 1
        on_dev = name not in tested
        assert (f"on {rows}, which made every choice; by these rows" in task["sentence"]) == on_dev
        assert (f"the same {rows}" in page) == on_dev
    complete = tested == "sentiment topic"
    assert (HONEST in page) == bool(tested)
    assert (OPTIMISTIC in page) != complete
    assert ("accuracy (dev)" in written.getvalue()) != complete
    assert ("dev rows made every choice" in written.getvalue()) != complete


def test_dev_rows_do_not_contradict_themselves() -> None:
    task = {
        "metric": "accuracy", "below_floor": False, "judged": True, "single_learned": True, "lifted_by": None,
        "dev": {"above": 0.95}, "rows": {"dev": 100, "folds": 0}, "low": -0.004, "high": -0.001,
        "judged_by": "100 dev rows",
    }  # fmt: skip
    assert doubts({"a": {**task, "split": "dev"}}) == []
    assert len(doubts({"a": {**task, "split": "test"}})) == 1
