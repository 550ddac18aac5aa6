"""Files with empty cells, from the configuration to what a run says that it did."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from interruptions import weights_of, with_and_without_a_stop
from rich.console import Console

import polytask as pt
from polytask.assemble import assemble
from polytask.comparison.arms import ARMS
from polytask.comparison.budget import planned
from polytask.config import Config, validate
from polytask.tables import show_assembly
from samples import write_jsonl

Job = Callable[..., dict[str, Any]]
CASES = Path(__file__).parents[2].parent / "shared" / "cases"


@pytest.fixture
def halves(job: Job, tmp_path: Path) -> dict[str, Any]:
    """Return a configuration of two tasks on one file: each carries half of its rows, and some rows carry none."""
    values = job(batch_size=8, epochs=1)
    rows = [{"text": f"row {number}", "a": "xy"[number % 2]} for number in range(40)]
    rows += [{"text": f"line {number}", "b": "uv"[number % 2]} for number in range(40)]
    write_jsonl(tmp_path / "train.jsonl", [*rows, *({"text": f"blank {number}", "a": None} for number in range(25))])
    write_jsonl(tmp_path / "dev.jsonl", [*rows[:4], *rows[-4:]])
    data = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "dev")}
    values["tasks"] = {name: {"type": "classification", "label": name, "data": data} for name in "ab"}
    return values


def shown(values: dict[str, Any]) -> str:
    out = io.StringIO()
    show_assembly(assemble(validate(values)), Console(file=out, width=200))
    return out.getvalue()


def test_a_run_passes_each_labelled_row_once_an_epoch(halves: dict[str, Any], tmp_path: Path) -> None:
    pt.train(halves, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["steps"] == 10
    assert {task: (seen["rows"], seen["epochs"]) for task, seen in record["exposure"].items()} == {
        "a": (40, 1.0),
        "b": (40, 1.0),
    }


def test_check_counts_rows_that_carry_a_label_and_says_what_an_epoch_is(halves: dict[str, Any]) -> None:
    found = shown(halves)
    assert "10 steps of 8 rows; an epoch is 10 steps, for the 80 rows that carry a label" in found
    assert "passes through its own rows in an epoch: a 1.00, b 1.00" in found
    (line,) = [line for line in found.splitlines() if "train" in line and "a, b" in line and "│" in line]
    assert [cell.strip() for cell in line.split("│")][1:4] == ["train", "a, b", "80"]


def test_single_models_and_pairs_have_the_budget_of_the_run(halves: dict[str, Any]) -> None:
    config = validate(halves)
    budget = planned(assemble(config))
    assert budget.rows == {"a": 40, "b": 40}
    for part in (*ARMS["single"](config, budget).parts.values(), *ARMS["pairs"](config, budget).parts.values()):
        assert planned(assemble(part)).rows == {task: 40 for task in part.tasks}


def test_a_run_that_was_stopped_while_its_tasks_stood_apart_goes_on_exactly(
    halves: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": f"row {number}", "a": "xy"[number % 2]} for number in range(12)]
    rows += [{"text": f"both {number}", "a": "x", "b": "uv"[number % 2]} for number in range(12)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    halves["schedule"] = {"proportions": "uniform"}
    halves["train"]["epochs"] = 2
    runs = with_and_without_a_stop(halves, tmp_path, monkeypatch, after=2)
    whole, stopped = weights_of(runs)
    assert whole == stopped


def case(file: Path, encoder: Path) -> Config:
    """Read a user's configuration, which names the size of a batch as polytask did then."""
    text = file.read_text("utf-8").replace("batch_rows:", "batch_size:")
    return validate({**yaml.safe_load(text), "encoder": str(encoder)}, base=file.parent)


@pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases of users are not in {CASES}")
def test_a_partly_annotated_file_has_epochs_of_its_labelled_rows(tiny: Path) -> None:
    assembly = assemble(case(CASES / "19-masked-epoch" / "config.yaml", tiny))
    assert assembly.workload.rows == 40
    assert assembly.schedule().limit == 4


@pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases of users are not in {CASES}")
def test_sentences_whose_tokens_do_not_spell_their_text_are_one_row_each(tiny: Path) -> None:
    folder = CASES / "13-conllu-mwt"
    assembly = assemble(case(folder / "mix.yaml", tiny))
    sentences = (folder / "train.conllu").read_text("utf-8").count("# text")
    assert [len(source) for source in assembly.sources["train"]] == [sentences, 30]
    assert assembly.workload.rows == sentences + 30
