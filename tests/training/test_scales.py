"""Levels and ranged numbers from rows to answers: trained, taught, interrupted, cut, exported, compared, shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from interruptions import interrupt_after
from safetensors.torch import load_file
from test_distribution import gradients, in_pieces, require_same, without_dropout

import polytask as pt
from polytask.assemble import assemble
from polytask.config import validate
from polytask.errors import ConfigError, DataError, Interrupted, ModelError
from samples import close, corpus_rows, write_jsonl

MOODS = ["bad", "fair", "good"]


def rows(count: int = 48) -> list[dict[str, Any]]:
    return [
        {"text": row["text"], "stars": min(max(len(row["text"]) // 25, 1), 5), "mood": MOODS[at % 3], "share": at % 5}
        for at, row in enumerate(corpus_rows(count))
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scales")
    for name, chosen in (("train", rows()[::2]), ("dev", rows()[1::2]), ("test", rows()[1::2])):
        write_jsonl(folder / f"{name}.jsonl", chosen)
    return folder


@pytest.fixture(scope="module")
def job(home: Path, tiny: Path) -> dict[str, Any]:
    data = {split: str(home / f"{split}.jsonl") for split in ("train", "dev", "test")}
    reading = {"needs": ["stars"], "reads": {"stars": "probabilities"}, "detach_reads": False}
    values = {
        "encoder": str(tiny),
        "max_tokens": 32,
        "tasks": {
            "stars": {"type": "ordinal", "data": data, "label": "stars", "calibrate": True},
            "mood": {"type": "ordinal", "data": data, "label": "mood", "levels": MOODS, **reading},
            "share": {"type": "regression", "data": data, "label": "share", "range": [0, 4]},
        },
        "train": {"max_steps": 12, "batch_size": 8, "learning_rate": 5e-3, "precision": "fp32", "seed": 3},
    }
    return without_dropout(values)


@pytest.fixture(scope="module")
def run(job: dict[str, Any], home: Path) -> Any:
    return pt.train(job, home / "run")


TEXTS = ["The film was fine.", "never again", "word " * 60, ""]


def test_answers_hold_levels_probabilities_and_numbers_within_the_range(run: Any, home: Path) -> None:
    model = pt.load(home / "run" / "model")
    for found in model.predict(TEXTS):
        assert list(found["stars"]) == ["level", "expected", "probabilities"]
        assert list(found["stars"]["probabilities"]) == ["1", "2", "3", "4", "5"]
        assert 1 <= found["stars"]["expected"] <= 5
        assert list(found["mood"]) == ["level", "probabilities"]
        assert 0 <= found["share"]["value"] <= 4
    assert list(run.scores["test"]["stars"]) == ["mae", "quadratic_kappa", "accuracy", "ece"]
    for low, high in (limits for name, limits in run.intervals["test"]["stars"].items() if limits and name != "ece"):
        assert low <= high
    assert pt.evaluate(home / "run", {"all": str(home / "test.jsonl")}).scores["stars"] == run.scores["test"]["stars"]


def test_every_number_of_the_scores_is_that_of_the_answers(run: Any, home: Path) -> None:
    lines = [json.loads(line) for line in (home / "run" / "predictions" / "stars.jsonl").read_text().splitlines()]
    distances = [abs(int(line["label"]) - int(line["prediction"])) for line in lines]
    assert run.scores["test"]["stars"]["mae"] == pytest.approx(sum(distances) / len(distances))
    assert run.scores["test"]["stars"]["accuracy"] == pytest.approx(distances.count(0) / len(distances))
    matrix = json.loads((home / "run" / "confusion.json").read_text())["mood"]["labels"]
    assert matrix == [mood for mood in MOODS if mood in matrix]


def test_the_report_shows_errors_on_the_scale(run: Any, home: Path) -> None:
    page = pt.report(home / "run").read_text("utf-8")
    assert re.search(r"stars: largest errors, of \d+ of 24 test rows", page)
    assert re.search("[\u25cb\u25cf\u2013]{5}", page)


@pytest.mark.usefixtures("run")
def test_interrupted_and_resumed_equals_uninterrupted(
    job: dict[str, Any], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 5)
        with pytest.raises(Interrupted):
            pt.train(job, tmp_path / "again")
    pt.train(job, tmp_path / "again", resume=True)
    expected = load_file(home / "run" / "model" / "model.safetensors")
    for name, value in load_file(tmp_path / "again" / "model" / "model.safetensors").items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.usefixtures("quick_processes")
def test_pieces_and_processes_make_the_update_of_the_whole(job: dict[str, Any], tmp_path: Path) -> None:
    mood = {key: value for key, value in job["tasks"]["mood"].items() if key not in ("needs", "reads", "detach_reads")}
    # A task that waits has no gradient yet.
    job = {**job, "tasks": {**job["tasks"], "mood": mood}, "balance": {"method": "sum"}}
    alone = gradients({"one": job, "cut": in_pieces(job, 2)}, tmp_path / "alone", 1)
    require_same({"one": alone["cut"]}, alone)
    require_same(gradients({"one": job}, tmp_path / "two", 2), {"one": alone["one"]})


@pytest.mark.usefixtures("run")
def test_a_teacher_of_levels_teaches_its_distribution(job: dict[str, Any], home: Path, tmp_path: Path) -> None:
    taught = {**job, "train": {**job["train"], "max_steps": 3, "teachers": [str(home / "run")]}}
    assert pt.train(taught, tmp_path / "taught").scores["test"].keys() == {"stars", "mood", "share"}
    other = {**taught, "tasks": {**job["tasks"], "mood": {**job["tasks"]["mood"], "levels": MOODS[::-1]}}}
    with pytest.raises(ConfigError, match="the order of their labels differs"):
        assemble(validate(other))


@pytest.fixture(scope="module")
def exported(run: Any, home: Path) -> dict[str, Path]:
    files: dict[str, Any] = {"data": {"all": str(home / "dev.jsonl")}}
    pt.export(home / "run", home / "onnx", to="onnx", **files)
    pt.export(home / "run", home / "int8", to="onnx", quantize="int8", max_loss=100, **files)
    return {"onnx": home / "onnx", "int8": home / "int8"}


@pytest.mark.slow
def test_onnx_answers_as_torch_and_int8_keeps_the_laws(exported: dict[str, Path], home: Path) -> None:
    expected = pt.load(home / "run" / "model").predict(TEXTS)
    assert close(pt.load(exported["onnx"]).predict(TEXTS), expected)
    for found in pt.load(exported["int8"]).predict(TEXTS):
        assert 0 <= found["share"]["value"] <= 4
        assert sum(found["mood"]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    long = list(pt.load(exported["onnx"]).answers(TEXTS, long="windows"))
    torch_long = list(pt.load(home / "run" / "model").answers(TEXTS, long="windows"))
    assert long[2].windows > 1
    assert close([one.to_json() for one in long], [one.to_json() for one in torch_long])


@pytest.mark.usefixtures("run")
def test_other_programs_have_no_levels_and_are_told_the_range(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"stars: its type is 'ordinal', which other programs do not have.*--to onnx"):
        pt.export(home / "run", tmp_path / "hf", to="hf")
    found = pt.export(home / "run", tmp_path / "hf", to="hf", tasks=["share"])
    assert any("share: predictions lie between 0 and 4, but this format does not clip" in note for note in found.notes)


@pytest.mark.usefixtures("run")
def test_a_scale_is_added_to_a_trained_model(job: dict[str, Any], home: Path, tmp_path: Path) -> None:
    data = job["tasks"]["stars"]["data"]
    tasks = {"later": {"type": "ordinal", "data": data, "label": "share"}}
    pt.extend(home / "run", {"encoder": job["encoder"], "tasks": tasks, "train": {"max_steps": 2}}, tmp_path / "more")
    assert pt.load(tmp_path / "more" / "model").predict(TEXTS[:1])[0].keys() == {"stars", "mood", "share", "later"}


def test_arms_are_compared_by_the_distance_of_levels(job: dict[str, Any], tmp_path: Path) -> None:
    tasks = {name: job["tasks"][name] for name in ("stars", "share")}
    short = {**job, "tasks": tasks, "train": {**job["train"], "max_steps": 2}}
    found = pt.compare(short, tmp_path / "compared", seeds=[1, 2])
    told = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    assert "stars" in json.dumps(told)
    assert found is not None


def test_a_label_outside_is_refused_with_its_place(job: dict[str, Any], tmp_path: Path) -> None:
    broken = rows(12)
    broken[7]["share"] = 4.5
    path = str(write_jsonl(tmp_path / "train.jsonl", broken))
    share = {**job["tasks"]["share"], "data": {"train": path, "dev": path}}
    with pytest.raises(DataError, match=r"train\.jsonl:8: task 'share': found 4\.5; `range` says.*between 0 and 4"):
        assemble(validate({**job, "tasks": {"share": share}}))
    stars = {"type": "ordinal", "label": "mood", "data": {"train": path, "dev": path}}
    with pytest.raises(DataError, match=r"train\.jsonl:1: task 'mood': found 'bad', and only numbers are ordered"):
        assemble(validate({**job, "tasks": {"mood": stars}}))
