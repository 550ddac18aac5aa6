"""Heads that average as folders of sentence-transformers: what `encode` returns are the joint model's outputs."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import polytask as pt
from plain_models import bundle
from polytask.artifact.folder import save_bundle
from polytask.errors import ModelError
from polytask.model.family import FAMILIES
from polytask.predict.load import model_of
from samples import corpus_rows
from stacks import TREES

TEXTS = [row["text"] for row in corpus_rows(8)]


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "distilbert", "deberta-v2", "nomic_bert", "qwen3", "gemma3_text"]
)
def test_encode_returns_the_logits(family: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the package warns of when it is imported
        sentence_transformers = pytest.importorskip("sentence_transformers")
    pooling = "last" if FAMILIES[family].decoder else "mean"
    found = bundle({**TREES["branches"], "kind": "lora"}, family, pooling=pooling)
    save_bundle(tmp_path / "model", found)
    made = pt.export(tmp_path / "model", tmp_path / "st", to="sentence-transformers", tasks=["a", "c"])
    answers = model_of(found).predict(TEXTS, ["a", "c"])
    for name, folder in made.folders.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
            outputs = model.encode(TEXTS, batch_size=3, show_progress_bar=False)
        task = found.tasks[name]
        assert model.max_seq_length == 24
        for output, said in zip(outputs, answers, strict=True):
            if name == "c":
                assert float(output[0]) == pytest.approx(said["c"]["value"], abs=1e-4)
            else:
                powers = [pow(2.718281828459045, float(value)) for value in output]
                shown = {label: power / sum(powers) for label, power in zip(task.labels, powers, strict=True)}
                assert shown == pytest.approx(said["a"]["probabilities"], abs=1e-5)


def test_words_and_cls_heads_are_refused_with_the_form_that_takes_them(tmp_path: Path) -> None:
    save_bundle(tmp_path / "model", bundle(TREES["global"], pooling="cls"))
    with pytest.raises(ModelError, match="a: its head is the one of the family's own class; use --to hf") as error:
        pt.export(tmp_path / "model", tmp_path / "st", to="sentence-transformers")
    assert "b: it labels each word" in str(error.value)
    assert not (tmp_path / "st").exists()
