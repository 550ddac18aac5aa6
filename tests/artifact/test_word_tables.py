"""Trunks with equal word embeddings have them once: in memory, in the file of weights, and in what is counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import polytask as pt
from polytask.artifact.folder import load_bundle, save_bundle
from polytask.artifact.pruning import pruned
from polytask.errors import ModelError
from polytask.files import file_digest
from polytask.model.parameters import count_parameters

Job = Callable[..., dict[str, Any]]
TEXTS = ["The phone died after two days.", "A wonderful novel about Lisbon."]


def trained(job: Job, folder: Path, task: str, **train: Any) -> Path:
    values = job(rows=20, max_steps=2, **train)
    values["tasks"] = {task: values["tasks"][task]}
    pt.train(values, folder / task)
    return folder / task / "model"


@pytest.fixture
def models(job: Job, tmp_path: Path) -> list[Path]:
    """Two models that were trained apart on frozen word embeddings."""
    return [
        trained(job, tmp_path, task, freeze_embeddings=True, seed=seed)
        for seed, task in ((1, "topic"), (2, "sentiment"))
    ]


def words(folder: Path) -> list[str]:
    return [name for name in load_file(folder / "model.safetensors") if name.endswith("word_embeddings.weight")]


def test_models_that_were_trained_apart_have_their_frozen_words_once(models: list[Path], tmp_path: Path) -> None:
    made = pt.compose(models, tmp_path / "made")
    assert len(words(made)) == 1
    bundle = load_bundle(made)
    one, other = (encoder.words for encoder in bundle.model.trunks)
    assert one is other
    parts = [load_bundle(model).model for model in models]
    expected = sum(count_parameters(part).total for part in parts) - one.numel()
    assert count_parameters(bundle.model).total == expected
    for model in models:
        ((task, alone),) = pt.load(model).predict(TEXTS)[0].items()
        assert pt.load(made).predict(TEXTS)[0][task] == alone
    # Each of them is had again, and a copy is the same folder.
    again = pruned(bundle, ["topic"]).model
    for name, value in again.state_dict().items():
        assert torch.equal(value, parts[0].state_dict()[name])
    save_bundle(tmp_path / "copy", bundle)
    assert file_digest(tmp_path / "copy" / "model.safetensors") == file_digest(made / "model.safetensors")


def test_words_that_were_trained_are_there_for_each_trunk(job: Job, tmp_path: Path) -> None:
    found = [trained(job, tmp_path, task, seed=seed) for seed, task in ((1, "topic"), (2, "sentiment"))]
    made = pt.compose(found, tmp_path / "made")
    assert len(words(made)) == 2
    assert "equal_tables" not in json.loads((made / "polytask.json").read_text("utf-8"))


def test_an_encoder_for_each_task_has_frozen_words_once(job: Job, tmp_path: Path) -> None:
    values = {**job(rows=20, max_steps=2, freeze_embeddings=True), "sharing": {"strategy": "independent"}}
    run = pt.train(values, tmp_path / "run")
    assert len(words(tmp_path / "run" / "model")) == 1
    assert pt.load(tmp_path / "run").predict(TEXTS) == run.model.predict(TEXTS)


def test_tasks_are_added_to_such_a_model_and_what_they_train_is_their_own(
    models: list[Path], job: Job, tmp_path: Path
) -> None:
    made = pt.compose(models, tmp_path / "made")
    values = job(rows=20, max_steps=2)
    values["tasks"] = {"entities": values["tasks"]["entities"]}
    values["extend"] = {"follow": "topic", "shared_layers": 1}
    pt.extend(made, values, tmp_path / "more")
    before, after = pt.load(made).predict(TEXTS), pt.load(tmp_path / "more").predict(TEXTS)
    for old, new in zip(before, after, strict=True):
        assert {task: new[task] for task in old} == old
    assert len(words(tmp_path / "more" / "model")) == 1


def test_such_a_model_is_exported_and_answers_alike(models: list[Path], tmp_path: Path) -> None:
    made = pt.compose(models, tmp_path / "made")
    pt.export(made, tmp_path / "onnx", to="onnx")
    answers, exported = pt.load(made).predict(TEXTS), pt.load(tmp_path / "onnx").predict(TEXTS)
    for one, other in zip(answers, exported, strict=True):
        for task, found in one.items():
            assert other[task]["label"] == found["label"]
            assert other[task]["probabilities"] == pytest.approx(found["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    "planted",
    [
        [],
        {"encoders.1.model.embeddings.word_embeddings.weight": "nothing"},
        {"nothing": "nothing"},
        {"heads.topic.out.weight": "heads.sentiment.out.weight"},
        {"encoders.1.model.embeddings.word_embeddings.weight": ["a"]},
        {f"{at}{'x' * 100}": "nothing" for at in range(1000)},
        None,
        7,
    ],
    ids=lambda one: str(one)[:60],
)
def test_tables_that_stand_for_nothing_are_refused(models: list[Path], tmp_path: Path, planted: Any) -> None:
    made = pt.compose(models, tmp_path / "made")
    description = made / "polytask.json"
    data = json.loads(description.read_text("utf-8"))
    assert len(data["equal_tables"]) == 1
    data["equal_tables"] = planted
    description.write_text(json.dumps(data), "utf-8")
    with pytest.raises(ModelError, match="equal_tables: found|do not fit together") as told:
        load_bundle(made)
    assert len(str(told.value)) < 1000


def test_a_table_that_is_there_and_stands_for_another_is_refused(models: list[Path], tmp_path: Path) -> None:
    made = pt.compose(models, tmp_path / "made")
    description = made / "polytask.json"
    data = json.loads(description.read_text("utf-8"))
    ((name, same),) = data["equal_tables"].items()
    weights = load_file(made / "model.safetensors")
    save_file({**weights, name: weights[same] + 1}, made / "model.safetensors", metadata={"format": "pt"})
    data["sha256"]["model.safetensors"] = file_digest(made / "model.safetensors")
    description.write_text(json.dumps(data), "utf-8")
    with pytest.raises(ModelError, match="equal_tables: found"):
        load_bundle(made)
