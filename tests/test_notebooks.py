"""The notebooks under examples/ run from their first cell to their last, and what is stored in them is of their code."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_notebook", ROOT / "examples" / "run_notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["dataframes", "does_sharing_pay"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_is_stored_in_it(
    path: Path, runner: ModuleType, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = read(path)
    outputs = runner.run(notebook, {"ENCODER": str(tiny)})
    stored = [cell["outputs"] for cell in runner.code_cells(notebook)]
    assert kinds(outputs) == kinds(stored)


def kinds(outputs: list[list[dict[str, Any]]]) -> list[list[list[str]]]:
    """Return what each cell shows, whatever the numbers in it are."""
    return [[sorted(output.get("data", {"stream": ""})) for output in found] for found in outputs]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_of_the_code_and_name_no_machine(path: Path, runner: ModuleType) -> None:
    notebook = read(path)
    assert notebook["metadata"]["polytask"]["outputs_of"] == runner.digest(notebook), "run examples/run_notebook.py"
    assert [cell["execution_count"] for cell in runner.code_cells(notebook)] == list(
        range(1, len(runner.code_cells(notebook)) + 1)
    )
    # nbformat 4.5: cells have ids of their own, and their text is a list of lines.
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    assert all(isinstance(line, str) for cell in notebook["cells"] for line in cell["source"])
    assert not re.search(r"/(?:home|root|work|tmp|Users)/", path.read_text("utf-8"))
    assert not re.search(r"Traceback|Warning", path.read_text("utf-8"))
