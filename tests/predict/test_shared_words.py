"""Words that share a token get the answers that they would get as one word: in every family, runtime and on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from transformers import AutoModel

import polytask as pt
from families import CONFIGS, LAYERED, config
from pieces import tokenizer
from plain_models import tasks
from polytask.artifact.bundle import Bundle
from polytask.model.loading import quiet
from polytask.predict.load import model_of
from polytask.predict.predictor import Model
from polytask.serving.app import create_app
from polytask.tasks import head_specs
from samples import close, write_jsonl
from stacks import TREES, stack

SCRIPTS = {
    "Chinese": ["我", "在", "北京大学", "天安门", "读书", "上海"],
    "Japanese": ["東京", "タワー", "が", "好き", "です", "大阪"],
    "Thai": ["ฉัน", "รัก", "เมืองไทย", "มาก"],
    "emoji": ["😀😀", "👩\u200d💻", "❤\ufe0f", "🎉", "好"],
}
PIECES = [piece for script in SCRIPTS.values() for piece in script if len(piece) > 1]
CHARACTERS = "".join(dict.fromkeys("".join(piece for script in SCRIPTS.values() for piece in script)))


def spellings(pieces: list[str]) -> list[dict[str, Any]]:
    """Return the same text with its pieces as words, and with its characters."""
    text = "".join(pieces)
    return [{"text": text, "tokens": pieces}, {"text": text, "tokens": [*text]}]


TEXTS = [
    [script[at % len(script)] for at in order]
    for script in SCRIPTS.values()
    for order in ([0, 1, 2, 3], [2, 3, 0], [3, 3, 1, 2, 0, 4, 1], [4, 2, 5, 1])
]


@pytest.mark.parametrize("family", CONFIGS)
def test_every_family_answers_words_that_share_a_token_as_one_word(family: str) -> None:
    known = tasks()
    tree = "branches" if family in LAYERED else "global"
    network = stack(TREES[tree], family, seed=11, specs=head_specs(known))
    for name in ("b", "d"):  # random heads are of one opinion: make it depend on the token
        network.head(name).load_state_dict({key: 4 * value for key, value in network.head(name).state_dict().items()})
    model = model_of(Bundle(network, known, tokenizer(CHARACTERS, PIECES), 36, "fp32", {}), "cpu")
    found = 0
    for pieces in TEXTS:
        whole, cut = model.predict(spellings(pieces), ["b", "d"])
        assert cut["b"] == whole["b"]
        found += sum(len(entity["text"]) > 1 for entity in whole["b"])
        assert [(word["start"], word["label"], word["score"]) for word in cut["d"]] == [
            (at, word["label"], word["score"]) for word in whole["d"] for at in range(word["start"], word["end"])
        ]
    assert found


PLACES = [["北京大学"], ["天安门"], ["上海"], ["大阪", "タワー"], ["เมืองไทย"]]
BEFORE = [[], ["我"], ["我", "在"], ["😀😀"], ["好"]]
BEHIND = [["読", "す"], ["读书"], ["好き", "です"], ["👩\u200d💻"]]


def labelled(as_pieces: bool) -> list[dict[str, Any]]:
    """Return rows in which a place of one or two pieces has a label, by piece or by character."""
    rows: list[dict[str, Any]] = []
    for number, place in enumerate(place for place in PLACES for _ in range(12)):
        parts = [(BEFORE[number % len(BEFORE)], "O"), (place, "LOC"), (BEHIND[number % len(BEHIND)], "O")]
        tokens: list[str] = []
        tags: list[str] = []
        for pieces, label in parts:
            own = pieces if as_pieces else [*"".join(pieces)]
            tokens += own
            tags += ["O"] * len(own) if label == "O" else ["B-LOC", *["I-LOC"] * (len(own) - 1)]
        rows.append({"text": "".join(tokens), "tokens": tokens, "tags": tags})
    return rows


def trained(folder: Path, rows: list[dict[str, Any]], pieces: list[str]) -> pt.Run:
    with quiet():
        torch.manual_seed(1)
        AutoModel.from_config(config("bert")).save_pretrained(folder / "encoder")
        tokenizer(CHARACTERS + "読", pieces).save_pretrained(folder / "encoder")
    values = {
        "encoder": str(folder / "encoder"),
        "max_tokens": 36,
        "tasks": {"places": {"type": "tagging", "data": {"train": rows, "dev": rows, "test": rows}}},
        "train": {"epochs": 20, "batch_size": 12, "learning_rate": 1e-2, "seed": 5, "precision": "fp32"},
    }
    return pt.train(values, folder / "run")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pt.Run:
    """A model that was trained on characters that share tokens."""
    return trained(tmp_path_factory.mktemp("pieces"), labelled(as_pieces=False), PIECES)


def test_both_spellings_are_learned_and_score_alike(run: pt.Run, tmp_path: Path) -> None:
    assert run.scores["test"]["places"]["f1"] == 1.0
    assert trained(tmp_path, labelled(as_pieces=False), []).scores["test"]["places"]["f1"] == 1.0
    by_piece = {"places": labelled(as_pieces=True)}
    assert pt.evaluate(run.model, by_piece).scores["places"]["f1"] == 1.0  # type: ignore[arg-type]


def test_calibration_and_its_error_count_each_token_once(run: pt.Run) -> None:
    found = pt.evaluate(run.model, {"places": labelled(as_pieces=False)}).scores["places"]  # type: ignore[arg-type]
    assert found["ece"] == pytest.approx(
        pt.evaluate(run.model, {"places": labelled(as_pieces=True)}).scores["places"]["ece"]  # type: ignore[arg-type]
    )


def raw_texts() -> list[str]:
    """Return texts without given words, in which every character is cut off as a word."""
    return [row["text"] for row in labelled(as_pieces=False) if "ไ" not in row["text"]]


def places_of(model: Model) -> list[Any]:
    return [[(one["label"], one["text"]) for one in said["places"]] for said in model.predict(raw_texts())]


@pytest.mark.slow
def test_a_place_is_one_entity_in_every_runtime_and_when_served(run: pt.Run, tmp_path: Path) -> None:
    expected = [[("LOC", place) for place in map("".join, PLACES) if place in text] for text in raw_texts()]
    assert places_of(run.model) == expected
    assert run.folder is not None
    data = {"all": str(write_jsonl(tmp_path / "rows.jsonl", labelled(as_pieces=False)))}
    forms: dict[str, dict[str, Any]] = {"full": {}, "int8": {"quantize": "int8", "max_loss": 5, "data": data}}
    for name, options in forms.items():
        pt.export(run.folder, tmp_path / name, to="onnx", **options)
        exported = pt.load(tmp_path / name)
        assert exported.engine.describe()["runtime"] == "onnx"
        assert places_of(exported) == expected
    with TestClient(create_app(run.model)) as client:
        served = client.post("/predict", json={"texts": raw_texts()}).json()["predictions"]
    assert close(served, run.model.predict(raw_texts()))
