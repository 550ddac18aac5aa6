"""The gallery of the docs names every example, and shows of each what was kept of its run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import gallery
from benchmarks.kept import kept

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gallery"
PAGE = (ROOT / "docs" / "gallery.md").read_text("utf-8")


@pytest.mark.parametrize("folder", gallery.FOLDERS)
def test_the_page_has_the_table_of_what_was_kept(folder: str) -> None:
    assert "\n".join(gallery.rows(folder, RESULTS)) in PAGE


def test_every_example_is_in_the_gallery() -> None:
    files = [file for end in ("yaml", "ipynb") for file in (ROOT / "examples").rglob(f"*.{end}")]
    names = [file.relative_to(ROOT) for file in files if file.parent.name not in ("cluster", "serving")]
    assert len(names) > 20
    assert [str(name) for name in names if f"(../{name})" not in PAGE] == []


def test_kept_runs_are_of_examples_that_are_there_and_whole() -> None:
    files = sorted(RESULTS.glob("*.json"))
    assert {file.stem for file in files} <= {f"{file.parent.name}-{file.stem}" for file in gallery.examples()}
    runs = [found for found in map(kept, files) if found is not None]
    assert runs
    for found in runs:
        assert set(found["scores"]["test"]) == set(found["epochs"]) == set(gallery.TASKS)
        assert all(0 < score < 1 for score in found["scores"]["test"].values())


def test_a_row_says_what_a_run_did(tmp_path: Path) -> None:
    scores = {"sentiment": 0.81, "topic": 0.72, "entities": 0.63}
    found = {"scores": {"test": scores}, "updates": 172, "parameters": 22_573_076, "cpu_seconds": 182.2}
    (tmp_path / "sharing-global.json").write_text(json.dumps(found), "utf-8")
    row = next(row for row in gallery.rows("sharing", tmp_path) if "[`global`]" in row)
    assert row.endswith("| One encoder for all tasks. | 0.810 | 0.720 | 0.630 | 0.720 | 172 | 22.6 M | 3 |")
