"""Heads are those of their family's own classes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from families import CONFIGS, INSTALLED, WIDTH
from polytask.data.batch import TaskRows
from polytask.model.family import FAMILIES
from polytask.model.heads import build_head
from polytask.terms import HeadSpec

CLS, MEAN, WORD = HeadSpec("row", 3, "cls", 0.0), HeadSpec("row", 3, "mean", 0.0), HeadSpec("word", 3, "mean", 0.0)
ACTIVATIONS = {
    "bert": torch.tanh, "roberta": torch.tanh, "xlm-roberta": torch.tanh, "mpnet": torch.tanh,
    "deberta-v2": torch.tanh, "electra": nn.functional.gelu, "distilbert": torch.relu, "modernbert": nn.functional.gelu,
    "camembert": torch.tanh, "ernie": torch.tanh, "albert": torch.tanh, "eurobert": nn.functional.gelu,
    "nomic_bert": torch.tanh, "gte": torch.tanh, "jina_embeddings_v3": torch.tanh,
}  # fmt: skip
# One layer whatever the pooling, as their own classes have, or for want of such a class.
PLAIN = {"ultrabert", "t5gemma", "qwen3", "llama", "gemma3_text"}


def test_every_family_has_a_row_here() -> None:
    assert ACTIVATIONS.keys() | PLAIN == set(FAMILIES)
    assert set(CONFIGS) == set(INSTALLED)


@pytest.mark.parametrize("family", [family for family in ACTIVATIONS if family in CONFIGS])
def test_a_cls_head_is_a_dense_layer_with_the_familys_activation(family: str) -> None:
    head = build_head(CLS, CONFIGS[family])
    states, mask = torch.randn(2, 5, WIDTH), torch.ones(2, 5)
    assert head.dense is not None
    between = ACTIVATIONS[family](head.dense(states[:, 0]))
    expected = head.out(between if head.norm is None else head.norm(between))
    torch.testing.assert_close(head(states, mask, TaskRows(torch.arange(2), None)), expected)
    assert (head.norm is not None) == (family == "modernbert")


@pytest.mark.parametrize("family", INSTALLED)
@pytest.mark.parametrize("spec", [MEAN, WORD])
def test_other_heads_are_one_layer_save_modernberts_and_euroberts_mean(family: str, spec: HeadSpec) -> None:
    head = build_head(spec, CONFIGS[family])
    assert (head.norm is not None) == (family == "modernbert")
    assert (head.dense is not None) == (family == "modernbert" or (family == "eurobert" and spec == MEAN))


def test_a_mean_ignores_padding() -> None:
    head = build_head(MEAN, CONFIGS["bert"])
    states, mask = torch.randn(1, 5, WIDTH), torch.tensor([[1, 1, 1, 0, 0]])
    expected = head.out(states[:, :3].mean(1))
    torch.testing.assert_close(head(states, mask, TaskRows(torch.tensor([0]), None)), expected)
