"""Which models a search keeps: those that a later stage or its user reads; of other runs all but the weights stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from searching import without_times

import polytask
from polytask.artifact.description import NOT_KEPT
from polytask.assemble import assemble
from polytask.comparison import runs
from polytask.comparison.arms import single_config
from polytask.comparison.budget import planned
from polytask.comparison.preparation import PlannedRun
from polytask.comparison.runs import RunStore
from polytask.config import validate
from polytask.errors import ModelError, OutputError
from polytask.files import file_digest
from polytask.page.report import report
from polytask.search import evidence

FOLDED = {"budget": 12, "folds": 2, "floor": 0}


@pytest.fixture(scope="module")
def folded(given: tuple[dict[str, Any], Path]) -> polytask.AutoResult:
    """A search with learning rates in whole runs, folds, and teachers."""
    values, folder = given
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "CLEAR", 2.0)
        return polytask.auto(values, folder / "kept", **FOLDED)


def weighty(folder: Path) -> set[str]:
    return {place.parent.parent.name for place in folder.glob("runs/*/model/model.safetensors")}


def test_runs_without_a_fold_have_no_models(folded: polytask.AutoResult) -> None:
    left_out = {name for one in folded.record["evidence"] for name in (one["winner"], *one["singles"].values())}
    assert len(left_out) == 6
    assert not weighty(folded.folder) & left_out
    for name in left_out:
        run = folded.folder / "runs" / name
        assert "polytask train" in (run / NOT_KEPT).read_text("utf-8")
        assert {"config.yaml", "scores.json", "predictions", "run.json"} <= {item.name for item in run.iterdir()}


def test_asking_such_a_run_says_how_to_repeat_it(folded: polytask.AutoResult) -> None:
    run = folded.folder / "runs" / folded.record["evidence"][0]["winner"]
    with pytest.raises(ModelError, match="the model of this run was deleted to save space; .* repeats it"):
        polytask.load(run)


def test_the_single_models_and_the_whole_candidates_are_kept(folded: polytask.AutoResult) -> None:
    kept = weighty(folded.folder)
    assert {Path(place).name for place in folded.record["singles_runs"].values()} <= kept
    whole = {Path(one["run"]).name for one in folded.record["candidates"] if one["share"] == 1.0}
    assert whole
    assert whole <= kept


def test_candidates_at_a_fraction_have_no_models(
    given: tuple[dict[str, Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polytask.search.outline.FEWEST_UPDATES", 1)
    found = polytask.auto(given[0], tmp_path / "out", budget=8, folds=0, floor=0)
    fractions = {Path(one["run"]).name for one in found.record["candidates"] if one["share"] < 1.0}
    assert fractions
    assert not weighty(found.folder) & fractions
    for name in fractions:
        assert report(found.folder / "runs" / name).is_file()


@pytest.mark.parametrize("left", ["nothing", "both"])
def test_the_same_search_needs_none_of_them(
    folded: polytask.AutoResult, given: tuple[dict[str, Any], Path], monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("trained again")

    monkeypatch.setattr(evidence, "CLEAR", 2.0)
    monkeypatch.setattr(runs, "train", refuse)
    run = folded.folder / "runs" / folded.record["evidence"][0]["winner"]
    if left == "both":  # a kill between the note and the deletion
        (run / "model").mkdir()
        (run / "model" / "model.safetensors").write_bytes(b"")
    again = polytask.auto(given[0], folded.folder, **FOLDED)
    assert without_times(again.record) == without_times(folded.record)
    assert not (run / "model").exists()


def test_a_lost_student_of_a_fold_gets_its_teachers_again(
    folded: polytask.AutoResult, given: tuple[dict[str, Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "CLEAR", 2.0)
    runs.discard(folded.folder / "runs" / folded.record["evidence"][0]["winner"])
    again = polytask.auto(given[0], folded.folder, **FOLDED)
    assert without_times(again.record) == without_times(folded.record)


@pytest.fixture
def one_run(given: tuple[dict[str, Any], Path]) -> PlannedRun:
    config = validate(given[0])
    limits = planned(assemble(config)).alone("topic")
    return PlannedRun("single-topic", "0123456789ab", single_config(config, "topic", limits))


def test_a_model_that_is_needed_after_all_is_trained_again(one_run: PlannedRun, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    (place,) = store.train_all([one_run], 1).values()
    digest = file_digest(place / "model" / "model.safetensors")
    store.train_all([one_run], 1, keep_models=False)
    assert store.scored(place)
    assert not store.complete(place)
    store.train_all([one_run], 1)
    assert file_digest(place / "model" / "model.safetensors") == digest
    assert not (place / NOT_KEPT).exists()
    assert (store.trained, store.reused) == (2, 1)


def test_a_note_alone_finishes_no_run(tmp_path: Path) -> None:
    (tmp_path / NOT_KEPT).write_text("", "utf-8")
    assert not RunStore(tmp_path.parent).scored(tmp_path)


def test_a_full_disk_keeps_the_model(one_run: PlannedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OutputError(f"{path}: cannot be written (no space left on device)")

    monkeypatch.setattr(runs, "write_text", full)
    store = RunStore(tmp_path)
    (place,) = store.train_all([one_run], 1, keep_models=False).values()
    assert store.complete(place)
