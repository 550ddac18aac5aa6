"""A tiny random encoder of every promised family."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModel,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    PretrainedConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

WORDS = 120
POSITIONS = 40
WIDTH = 32


def config(family: str, layers: int = 2, **more: Any) -> PretrainedConfig:
    """Return the configuration of a family with all that makes it particular, and very little else."""
    small = {
        "vocab_size": WORDS, "hidden_size": WIDTH, "num_hidden_layers": layers, "num_attention_heads": 4,
        "intermediate_size": 48, "max_position_embeddings": POSITIONS, "pad_token_id": 1, **more,
    }  # fmt: skip
    match family:
        case "bert":
            return BertConfig(**small)
        case "roberta":
            return RobertaConfig(**small, type_vocab_size=1)
        case "xlm-roberta":
            return XLMRobertaConfig(**small, type_vocab_size=1)
        case "electra":
            return ElectraConfig(**small, embedding_size=16)
        case "distilbert":
            return DistilBertConfig(
                vocab_size=WORDS, dim=WIDTH, n_layers=layers, n_heads=4, hidden_dim=48,
                max_position_embeddings=POSITIONS, pad_token_id=1,
            )  # fmt: skip
        case "mpnet":
            return MPNetConfig(**small)
        case "modernbert":
            return ModernBertConfig(**small, global_attn_every_n_layers=2, local_attention=8)
        case "deberta-v2":
            relative = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]}
            return DebertaV2Config(**{**small, "type_vocab_size": 2, **relative, **more})
    raise ValueError(family)


CONFIGS: dict[str, PretrainedConfig] = {
    family: config(family)
    for family in ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "mpnet", "modernbert", "deberta-v2")
}


@cache
def _built(family: str, layers: int, more: tuple[tuple[str, Any], ...]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModel.from_config(config(family, layers, **dict(more)), dtype=torch.float32)
        for parameter in model.parameters():  # fresh biases are 0 and fresh norms 1: an exchange would not be seen
            parameter.data += 0.02 * torch.randn_like(parameter)
    return model.eval()


def original(family: str, layers: int = 3, **more: Any) -> nn.Module:
    """Return a Hugging Face model: always the same weights, a new object."""
    return copy.deepcopy(_built(family, layers, tuple(more.items())))
