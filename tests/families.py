"""A tiny random encoder of every promised family."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
import transformers
from packaging.version import parse
from torch import nn
from transformers import (
    AlbertConfig,
    AutoModel,
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ErnieConfig,
    EuroBertConfig,
    Gemma3TextConfig,
    JinaEmbeddingsV3Config,
    LlamaConfig,
    ModernBertConfig,
    MPNetConfig,
    NomicBertConfig,
    PretrainedConfig,
    Qwen3Config,
    RobertaConfig,
    T5GemmaConfig,
    T5GemmaModuleConfig,
    XLMRobertaConfig,
)
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

from polytask.model.family import FAMILIES

# The families that the installed transformers has; the oldest with which polytask runs lacks some.
INSTALLED = [name for name, family in FAMILIES.items() if parse(family.since) <= parse(transformers.__version__)]
NEWER = {
    family: getattr(transformers, name)
    for family, name in (("gte", "GteConfig"), ("ultrabert", "UltrabertConfig"))
    if hasattr(transformers, name)
}
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
        case _:
            return _later(family, small)


def _later(family: str, small: dict[str, Any]) -> PretrainedConfig:
    """Return the configuration of a family with rotary positions, or one that is a variant of another."""
    # Fewer keys than queries, heads that are no share of the width, a window that is shorter than texts.
    grouped = {**small, "num_key_value_heads": 2, "head_dim": 12}
    kinds = ["sliding_attention", "full_attention"] * small["num_hidden_layers"]
    window = {**grouped, "sliding_window": 6, "layer_types": kinds[: small["num_hidden_layers"]]}
    known: dict[str, tuple[Any, dict[str, Any]]] = {
        "camembert": (CamembertConfig, {**small, "type_vocab_size": 1}),
        "ernie": (ErnieConfig, {**small, "use_task_id": True}),
        "albert": (AlbertConfig, {**small, "embedding_size": 16}),
        "eurobert": (EuroBertConfig, grouped),
        "nomic_bert": (NomicBertConfig, small),
        "gte": (NEWER.get("gte"), {**small, "type_vocab_size": 2}),
        "jina_embeddings_v3": (JinaEmbeddingsV3Config, small),
        "ultrabert": (NEWER.get("ultrabert"), window),
        "t5gemma": (T5GemmaModuleConfig, {**window, "query_pre_attn_scalar": 12}),
        "qwen3": (Qwen3Config, {**window, "use_sliding_window": True}),
        "llama": (LlamaConfig, grouped),
        "gemma3_text": (Gemma3TextConfig, {**window, "query_pre_attn_scalar": 12}),
    }
    kind, values = known[family]
    found = kind(**values)
    return _of_pair(found).encoder if family == "t5gemma" else found


def _of_pair(config: PretrainedConfig) -> Any:
    small = config.to_dict()
    return T5GemmaConfig(encoder=small, decoder=small, vocab_size=WORDS, pad_token_id=1)


CONFIGS: dict[str, PretrainedConfig] = {
    family: config(family)
    for family in (
        "bert", "roberta", "xlm-roberta", "electra", "distilbert", "mpnet", "modernbert", "deberta-v2",
        "camembert", "ernie", "albert", "eurobert", "nomic_bert", "gte", "jina_embeddings_v3", "ultrabert", "t5gemma",
        "qwen3", "llama", "gemma3_text",
    )
    if family in NEWER or family not in ("gte", "ultrabert")
}  # fmt: skip


# Those whose layers have weights of their own, so that tasks can share some of them.
LAYERED = tuple(family for family in CONFIGS if family != "albert")


def built(config: PretrainedConfig) -> Any:
    """Return a stock encoder with random weights."""
    if isinstance(config, T5GemmaModuleConfig):
        return T5GemmaEncoder._from_config(config, dtype=torch.float32)
    return AutoModel.from_config(config, dtype=torch.float32)


def whole(config: PretrainedConfig) -> Any:
    """Return the model whose checkpoint an encoder is read from."""
    if isinstance(config, T5GemmaModuleConfig):
        return AutoModel.from_config(_of_pair(config), dtype=torch.float32)
    return built(config)


@cache
def _built(family: str, layers: int, more: tuple[tuple[str, Any], ...]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = built(config(family, layers, **dict(more)))
        for parameter in model.parameters():  # fresh biases are 0 and fresh norms 1: an exchange would not be seen
            parameter.data += 0.02 * torch.randn_like(parameter)
    return model.eval()


def original(family: str, layers: int = 3, **more: Any) -> nn.Module:
    """Return a Hugging Face model: always the same weights, a new object."""
    return copy.deepcopy(_built(family, layers, tuple(more.items())))
