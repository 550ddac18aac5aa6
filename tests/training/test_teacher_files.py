"""Teachers in a file: a student of a model's answers learns what a student of the model learns."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_distribution import without_dropout
from typer.testing import CliRunner

import polytask as pt
from polytask.assemble import assemble
from polytask.cli import app
from polytask.config import validate
from polytask.errors import ConfigError, DataError
from polytask.tasks import TASKS, LabelStats
from polytask.teacher_file import read_teacher_file
from polytask.training.distribution import World
from samples import corpus_rows, write_jsonl

CELLS: dict[str, list[Any]] = {
    "classification": ["a", "b", "c"],
    "multilabel": [["a", "b"], ["c"], []],
    "ordinal": [1, 2, 4],
    "regression": [1.0, 2.5, 4.0],
}


@pytest.mark.parametrize("kind", CELLS)
@given(seed=st.integers(0, 999), scale=st.sampled_from([0.1, 1.0, 8.0]))
def test_outputs_come_back_from_the_answer(kind: str, seed: int, scale: float) -> None:
    from polytask.tasks.arrays import unrounded

    stats, type_ = LabelStats(), TASKS[kind]
    options = type_.Options.model_validate({"type": kind})
    for cell in CELLS[kind]:
        type_.read(options, {type_.columns(options)[0]: cell}, stats)
    stats.present = 3
    task = type_.fit("it", options, stats)
    outputs = (scale * np.random.default_rng(seed).normal(size=task.head.size)).astype(np.float32)
    with unrounded():
        answer: Any = json.loads(json.dumps(task.format_prediction(outputs, "", [], [])))
        again: Any = task.format_prediction(np.array(task.outputs_of(answer), np.float32), "", [], [])
    key = "probabilities" if "probabilities" in answer else "value"
    assert again[key] == pytest.approx(answer[key], abs=2e-6)


def rows(count: int = 24) -> list[dict[str, Any]]:
    return [
        {"id": f"r{at}", "text": row["text"], "kind": "abc"[at % 3], "tags": [["x"], ["x", "y"], []][at % 3],
         "stars": at % 4 + 1, "size": len(row["text"]) / 50}
        for at, row in enumerate(corpus_rows(count))
    ]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    write_jsonl(folder / "train.jsonl", rows())
    return folder


@pytest.fixture(scope="module")
def job(home: Path, tiny: Path) -> dict[str, Any]:
    data = {"train": str(home / "train.jsonl"), "dev": str(home / "train.jsonl")}
    kinds = {"kind": "classification", "tags": "multilabel", "stars": "ordinal", "size": "regression"}
    return without_dropout(
        {
            "encoder": str(tiny),
            "max_tokens": 32,
            "tasks": {name: {"type": kind, "data": data, "label": name} for name, kind in kinds.items()},
            "train": {"max_steps": 4, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32"},
        }
    )


@pytest.fixture(scope="module")
def answers(job: dict[str, Any], home: Path) -> Path:
    """Return what a model answers to the training rows."""
    pt.train({**job, "train": {**job["train"], "seed": 1}}, home / "teacher")
    out = home / "answers.jsonl"
    done = CliRunner().invoke(
        app, ["predict", str(home / "teacher"), str(home / "train.jsonl"), "--exact", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    return out


def taught(job: dict[str, Any], *teachers: Path) -> dict[str, Any]:
    return {**job, "train": {**job["train"], "teachers": [str(one) for one in teachers]}}


def test_a_student_of_the_file_is_a_student_of_the_model(
    job: dict[str, Any], home: Path, answers: Path, tmp_path: Path
) -> None:
    pt.train(taught(job, home / "teacher"), tmp_path / "model")
    pt.train(taught(job, answers), tmp_path / "file")
    pt.train(job, tmp_path / "alone")
    of_model, of_file, alone = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("model", "file", "alone")
    )
    for name, value in of_model.items():
        torch.testing.assert_close(of_file[name], value, atol=2e-5, rtol=1e-4, msg=name)
    assert any((value - alone[name]).abs().max() > 1e-3 for name, value in of_model.items())


def test_rows_without_an_answer_have_their_label_in_full(job: dict[str, Any], tmp_path: Path) -> None:
    lines = [{"id": "r1", "kind": {"a": 0.5, "b": 0.5}, "size": 2}, {"id": "r3", "size": None, "kind": {"c": 1}}]
    path = write_jsonl(tmp_path / "some.jsonl", lines)
    (source,) = assemble(validate(taught(job, path))).train_sources(World(0, 1))
    assert set(source.teacher_logits) == {"kind", "size"}
    said = [not np.isnan(source.teacher_logits["kind"][row]).any() for row in range(len(source))]
    assert said == [row in (1, 3) for row in range(24)]
    given_shares = torch.from_numpy(source.teacher_logits["kind"][1][0]).softmax(-1)
    assert given_shares.tolist() == pytest.approx([0.5, 0.5, 0.0])
    run = pt.train(taught(job, path))
    assert all(value.isfinite().all() for value in run.model.network.state_dict().values())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"id": "r1", "kind": {"a": 0.5, "b": 0.2}}, r"bad\.jsonl:2: task 'kind': found .* adds up to 0\.7"),
        (
            {"id": "r1", "kind": {"a": 0.5, "d": 0.5}},
            r"bad\.jsonl:2: task 'kind': found the label 'd'; accepted: a, b, c",
        ),
        ({"id": "r1", "kind": "a"}, r"bad\.jsonl:2: task 'kind': found 'a'; an answer is an object of probabilities"),
        ({"id": "r1", "tags": {"x": 1.5}}, r"bad\.jsonl:2: task 'tags': .* at most 1"),
        ({"id": "r1", "size": "tall"}, r"bad\.jsonl:2: task 'size': found 'tall'; an answer is a finite number"),
        ({"id": "r0", "kind": {"a": 1}}, r"bad\.jsonl:2: the id 'r0' occurs in .*bad\.jsonl:1 already"),
        ({"kind": {"a": 1}}, r"bad\.jsonl:2: no 'id'"),
        (["r1"], r"bad\.jsonl:2: found list; expected one JSON object per line"),
    ],
)
def test_what_is_no_answer_is_refused_with_its_line(
    job: dict[str, Any], tmp_path: Path, line: Any, message: str
) -> None:
    path = write_jsonl(tmp_path / "bad.jsonl", [{"id": "r0", "kind": {"a": 1}}, line])
    with pytest.raises(DataError, match=message):
        assemble(validate(taught(job, path)))


def test_a_file_is_read_as_data_files_are(job: dict[str, Any], tmp_path: Path) -> None:
    line = '{"id": "r0", "kind": {"a": 0.5, "b": 0.5}}\n'
    (tmp_path / "plain.jsonl").write_text(line, "utf-8")
    (tmp_path / "marked.jsonl").write_text("\ufeff" + line, "utf-8")
    with gzip.open(tmp_path / "packed.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(line)
    names = ("plain.jsonl", "marked.jsonl", "packed.jsonl.gz")
    tasks = assemble(validate(job)).tasks
    plain, *others = (read_teacher_file("train.teachers", tmp_path / name, tasks).outputs for name in names)
    assert others == [plain, plain]
    (tmp_path / "twice.jsonl").write_text('{"id": "r0", "kind": {"a": 0.5, "b": 0.5, "a": 0.5}}\n', "utf-8")
    with pytest.raises(DataError, match=r"twice\.jsonl:1: .*the key 'a' stands twice"):
        read_teacher_file("train.teachers", tmp_path / "twice.jsonl", tasks)


def test_a_file_that_answers_nothing_here_is_refused(job: dict[str, Any], home: Path, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "other.jsonl", [{"id": "r0", "mood": {"a": 1}}])
    with pytest.raises(ConfigError, match=r"train\.teachers\[0\]: .*other\.jsonl answers mood, and the configuration"):
        assemble(validate(taught(job, path)))
    path = write_jsonl(tmp_path / "ids.jsonl", [{"id": "x", "kind": {"a": 1}}])
    with pytest.raises(ConfigError, match=r"none of its 1 answers to 'kind' belongs to a training row"):
        assemble(validate(taught(job, path)))
    nameless = write_jsonl(tmp_path / "train.jsonl", [{key: row[key] for key in ("text", "kind")} for row in rows()])
    data = {"train": str(nameless), "dev": str(nameless)}
    alone = {**job, "tasks": {"kind": {**job["tasks"]["kind"], "data": data}}}
    with pytest.raises(ConfigError, match=r"answers rows by their id, and .*train\.jsonl:1 has none"):
        assemble(validate(taught(alone, path)))
    twice = write_jsonl(tmp_path / "twice.jsonl", [row | {"id": 7} for row in rows()])
    alone["tasks"]["kind"]["data"] = {"train": str(twice), "dev": str(twice)}
    with pytest.raises(ConfigError, match=r"the id '7' occurs at .*:1 and at .*:2; ids must be unique"):
        assemble(validate(taught(alone, path)))


def test_check_tells_which_rows_a_file_answers(job: dict[str, Any], home: Path, tmp_path: Path) -> None:
    whole = [{"id": row["id"], "kind": {"a": 1}} for row in rows()]
    assert not _told(job, write_jsonl(tmp_path / "whole.jsonl", whole))
    some = [{"id": "r1", "kind": {"a": 1}}, {"id": "x", "kind": {"a": 1}}]
    assert _told(job, write_jsonl(tmp_path / "some.jsonl", some)) == [
        "train.teachers[0], kind: answers 1 of 24 labelled training rows of train.jsonl; the others learn from their "
        "labels alone",
        "train.teachers[0]: 1 of its ids match no training row, such as 'x'",
    ]


def _told(job: dict[str, Any], path: Path) -> list[str]:
    notes = assemble(validate(taught(job, path))).notes
    return [f"{note.place}: {note.message}" for note in notes if note.place.startswith("train.teachers")]


def test_numbers_that_are_ids_have_one_spelling(job: dict[str, Any], tmp_path: Path) -> None:
    numbered = write_jsonl(tmp_path / "train.jsonl", [row | {"id": at} for at, row in enumerate(rows())])
    data = {"train": str(numbered), "dev": str(numbered)}
    alone = {**job, "tasks": {"kind": {**job["tasks"]["kind"], "data": data}}}
    lines = [{"id": own, "kind": {"a": 1}} for own in (0.0, "1", "2.0", *range(3, 24))]
    assert not _told(alone, write_jsonl(tmp_path / "answers.jsonl", lines))


def test_a_run_goes_by_what_its_teacher_says_and_not_by_its_place(job: dict[str, Any], tmp_path: Path) -> None:
    lines = [{"id": row["id"], "kind": {"a": 0.5, "b": 0.5}} for row in rows()]
    first, moved = (write_jsonl(tmp_path / name, lines) for name in ("first.jsonl", "moved.jsonl"))
    other = write_jsonl(tmp_path / "other.jsonl", [*lines[:-1], lines[-1] | {"kind": {"c": 1}}])
    one, same, changed = (assemble(validate(taught(job, path))).identity for path in (first, moved, other))
    assert one == same != changed != assemble(validate(job)).identity
