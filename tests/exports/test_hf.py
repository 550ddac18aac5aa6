"""Folders for plain Hugging Face classes: what `pipeline` says of a text is what polytask says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    pipeline,
)

import polytask as pt
from families import CONFIGS, config
from plain_models import bundle, tokenizer
from polytask.artifact.folder import save_bundle
from polytask.errors import ModelError
from polytask.exports.plain import encoder_obstacle, require_held
from polytask.model.family import FAMILIES
from polytask.model.loading import quiet
from polytask.predict.load import model_of
from samples import corpus_rows
from stacks import TREES

Job = Callable[..., dict[str, Any]]
MAX_TOKENS = 16
# `test_plain.py` has every family; here each is trained, or written and read.
TRAINED = sorted(
    {"bert", "roberta", "electra", "distilbert", "mpnet", "modernbert", "deberta-v2", "eurobert", "gte"} & set(CONFIGS)
)


def trained(folder: Path, family: str, **more: Any) -> Path:
    """Train a tiny model of a family for a few steps on tasks of every type, and return its folder."""
    encoder = folder / "encoder"
    with quiet():
        torch.manual_seed(1)
        AutoModel.from_config(config(family)).save_pretrained(encoder)
        tokenizer().save_pretrained(encoder)
    rows = [
        {**row, "mood": 3.0 * len(row["text"]) + 50, "marks": [mark for mark in ("a", "e", "u") if mark in row["text"]]}
        for row in corpus_rows(32)
    ]
    data = {"train": rows, "dev": rows[:12], "test": rows[:8]}
    values: dict[str, Any] = {
        "encoder": str(encoder),
        "max_tokens": MAX_TOKENS,
        "tasks": {
            "topic": {"type": "classification", "label": "topic", "pooling": "cls", "calibrate": True, "data": data},
            "marks": {"type": "multilabel", "label": "marks", "pooling": "cls", "threshold": 0.3, "data": data},
            "mood": {"type": "regression", "label": "mood", "pooling": "cls", "data": data},
            "entities": {"type": "tagging", "scheme": "plain", "calibrate": True, "data": data},
        },
        "sharing": {"strategy": "partial", "shared_layers": 1, "kind": "lora", "rank": 4},
        "train": {"max_steps": 4, "batch_size": 16, "learning_rate": 1e-2, "seed": 5, "precision": "fp32"},
        **more,
    }
    pt.train(values, folder / "run")
    return folder / "run" / "model"


@pytest.mark.parametrize("family", TRAINED)
def test_pipelines_answer_as_polytask_does(family: str, tmp_path: Path) -> None:
    model = pt.load(trained(tmp_path, family))
    found = pt.export(tmp_path / "run", tmp_path / "hf", to="hf")
    assert list(found.folders) == ["topic", "marks", "mood", "entities"]
    assert model.tasks["entities"].unit != (1.0, 0.0)  # calibrated on dev
    texts = [row["text"] for row in corpus_rows(60)[40:48]]
    assert any(len(tokenizer()(text)["input_ids"]) > MAX_TOKENS for text in texts)
    answers = model.predict(texts)
    for name in ("topic", "marks", "mood"):
        pipe = pipeline("text-classification", str(found.folders[name]), truncation=True, top_k=None, batch_size=4)
        for given, said in zip(pipe(texts), answers, strict=True):
            scores = {one["label"]: one["score"] for one in given}
            expected = said[name].get("probabilities", {"mood": said[name].get("value")})
            assert scores == pytest.approx(expected, abs=1e-4 if name == "mood" else 1e-5), name
    tag = pipeline("token-classification", str(found.folders["entities"]), ignore_labels=[])
    for tokens, said in zip(tag(texts), answers, strict=True):
        first = {token["start"]: (token["entity"], pytest.approx(token["score"], abs=1e-5)) for token in tokens}
        words = {word["start"]: (word["label"], word["score"]) for word in said["entities"] if word["score"]}
        assert words == {start: first[start] for start in words}
        assert words


def test_pipelines_group_entities_as_polytask_does(job: Job, tmp_path: Path) -> None:
    values = job(rows=120, epochs=16, learning_rate=3e-3)
    values["tasks"]["entities"]["decode"] = "greedy"
    run = pt.train(values, tmp_path / "run")
    found = pt.export(tmp_path / "run", tmp_path / "hf", to="hf", tasks=["entities"])
    assert not any("by itself" in note for note in found.notes)
    texts = [row["text"] for row in corpus_rows(120)]
    tag = pipeline("token-classification", str(found.folders["entities"]), aggregation_strategy="first")
    ours = {(n, one["label"], one["start"], one["end"])
            for n, said in enumerate(run.model.predict(texts)) for one in said["entities"]}  # fmt: skip
    theirs = {(n, one["entity_group"], one["start"], one["end"])
              for n, entities in enumerate(tag(texts)) for one in entities}  # fmt: skip
    # Pipelines have another rule for what is one word: S&P.
    assert len(ours & theirs) >= 0.98 * len(ours | theirs) > 0


@pytest.mark.parametrize("family", TRAINED)
def test_folders_hold_what_plain_classes_read_and_nothing_of_ours(family: str, tmp_path: Path) -> None:
    save_bundle(tmp_path / "model", bundle(TREES["branches"], family))
    found = pt.export(tmp_path / "model", tmp_path / "hf", to="hf")
    for name, folder in found.folders.items():
        kind: Any = AutoModelForSequenceClassification if name in ("a", "c") else AutoModelForTokenClassification
        plain, told = kind.from_pretrained(folder, output_loading_info=True)
        assert not told["missing_keys"]
        assert not told["unexpected_keys"]
        assert type(plain).__module__.startswith("transformers.models.")
        assert plain.config.architectures == [type(plain).__name__]
        text = (folder / "config.json").read_text("utf-8")
        assert "polytask_sdpa" not in text
        assert "auto_map" not in text
        with quiet():
            assert AutoModel.from_pretrained(folder).config.model_type == family
        own = AutoTokenizer.from_pretrained(folder)
        assert own.model_max_length == 24
        assert len(own("the a in of to and is it " * 9, truncation=True)["input_ids"]) == 24
        assert {file.suffix for file in folder.iterdir()} <= {".json", ".md", ".safetensors", ".txt"}
    assert json.loads((found.folders["c"] / "config.json").read_text("utf-8"))["problem_type"] == "regression"


def test_thresholds_of_labels_stand_in_the_configuration_and_the_card(tmp_path: Path) -> None:
    trained(tmp_path, "bert", train={"max_steps": 1})
    found = pt.export(tmp_path / "run", tmp_path / "hf", to="hf", tasks=["marks"])
    told = json.loads((found.folders["marks"] / "config.json").read_text("utf-8"))
    assert told["problem_type"] == "multi_label_classification"
    assert set(told["polytask_thresholds"]) == {"a", "e", "u"}
    assert any("polytask_thresholds in config.json" in note for note in found.notes)
    assert "thresholds, from which labels are predicted: `a` 0.3" in (found.folders["marks"] / "README.md").read_text()


@pytest.mark.parametrize(
    ("sharing", "change", "reason"),
    [
        ({"strategy": "mmoe"}, {}, "mmoe combines several towers; train with sharing.strategy global or partial"),
        ({"strategy": "ple"}, {}, "ple combines several towers"),
        ({"strategy": "cross_stitch"}, {}, "cross_stitch combines several towers"),
        ({**TREES["branches"], "kind": "adapter"}, {}, "bottleneck adapters, which are no layers of the family"),
        (
            TREES["global"],
            {"reads": {"a": "probabilities"}},
            "its head reads the predictions of a; train it without reads",
        ),
    ],
)
def test_what_plain_classes_cannot_hold_is_said_with_the_mend(
    sharing: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    found = bundle(sharing)
    odd = replace(found.tasks["c"], options=found.tasks["c"].options.model_copy(update=change))  # type: ignore[type-var]
    with pytest.raises(ModelError, match=reason) as error:
        require_held(replace(found, tasks={**found.tasks, "c": odd}), encoder_obstacle, "hf")
    others = re.search("export the others: --tasks (.*)", str(error.value))
    assert (others is not None and others[1] == "a,b,d") == bool(change)


def test_a_refused_export_writes_nothing(tmp_path: Path) -> None:
    save_bundle(tmp_path / "model", bundle({"strategy": "mmoe"}))
    with pytest.raises(ModelError, match="the plain classes of bert cannot hold"):
        pt.export(tmp_path / "model", tmp_path / "hf", to="hf")
    assert [item.name for item in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("family", TRAINED)
def test_what_defaults_train_is_exported_task_by_task(family: str, tmp_path: Path) -> None:
    """Heads that average come with the layers of sentence-transformers, which transformers alone can compute too."""
    whole = bundle(TREES["branches"], family, pooling="mean")
    save_bundle(tmp_path / "model", whole)
    found = pt.export(tmp_path / "model", tmp_path / "hf", to="hf")
    assert list(found.folders) == list(whole.tasks)
    assert (found.folders["b"] / "config.json").exists()
    if "mean" in FAMILIES[family].head.poolings:  # its own class can average
        assert not (found.folders["a"] / "modules.json").exists()
        return
    assert any("c: its head averages (pooling: mean)" in note for note in found.notes)
    assert "SentenceTransformer" in (found.folders["a"] / "README.md").read_text("utf-8")
    texts = [row["text"] for row in corpus_rows(4)]
    answers = model_of(whole).predict(texts, ["a", "c"])
    for name in ("a", "c"):
        folder = found.folders[name]
        encoder, words = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        encoded = words(texts, padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            states = encoder(**encoded).last_hidden_state
        mask = encoded["attention_mask"].unsqueeze(-1)
        head = load_file(folder / "2_Dense" / "model.safetensors")
        outputs = (states * mask).sum(1) / mask.sum(1) @ head["linear.weight"].T + head["linear.bias"]
        if name == "c":
            expected = [answer["c"]["value"] for answer in answers]
            assert outputs[:, 0].tolist() == pytest.approx(expected, abs=1e-4)
        else:
            for row, answer in zip(outputs.softmax(-1).tolist(), answers, strict=True):
                assert row == pytest.approx(list(answer["a"]["probabilities"].values()), abs=1e-5)
