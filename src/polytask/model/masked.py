"""The pretrained masked language modelling head of an encoder's checkpoint, if it has one."""

from __future__ import annotations

from pathlib import Path

import torch

from polytask.model.heads import MaskedHead
from polytask.model.multitask import MultiTaskModel

# Names of the dense layer, norm and bias of this head in the families; the first match in the checkpoint is used.
_PLACES = (
    ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),
    ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    ("lm_head.dense", "lm_head.norm", "lm_head.decoder.bias"),
    ("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
    ("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias"),
    ("head.dense", "head.norm", "decoder.bias"),
    ("cls.predictions.transform.dense", "cls.predictions.transform.layer_norm", "cls.predictions.bias"),
    ("predictions.dense", "predictions.LayerNorm", "predictions.bias"),
    ("lm_predictions.lm_head.dense", "lm_predictions.lm_head.LayerNorm", "lm_predictions.lm_head.bias"),
)


def load_pretrained_heads(model: MultiTaskModel, location: str) -> bool:
    """Load pretrained weights into the masked language modelling heads; return whether both exist.

    Args:
        location: the encoder's folder, or its hub id, whose files are already in the cache.
    """
    heads = [head for task in model.head_names if isinstance(head := model.head(task), MaskedHead)]
    weights = _weights(location) if heads else None
    if weights is None:
        return False
    from safetensors import safe_open

    with safe_open(str(weights), "pt") as file:
        names = set(file.keys())
        for dense, norm, bias in _PLACES:
            if {f"{dense}.weight", f"{norm}.weight"} <= names:
                wanted = {
                    "transform.weight": f"{dense}.weight", "transform.bias": f"{dense}.bias",
                    "norm.weight": f"{norm}.weight", "norm.bias": f"{norm}.bias", "bias": bias,
                }  # fmt: skip
                tensors = {own: file.get_tensor(name).float() for own, name in wanted.items() if name in names}
                return all([_load(head, tensors) for head in heads])
    return False


def _weights(location: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    folder = Path(location)
    path = folder / "model.safetensors" if folder.is_dir() else try_to_load_from_cache(location, "model.safetensors")
    return Path(path) if isinstance(path, str | Path) and Path(path).is_file() else None


def _load(head: MaskedHead, weights: dict[str, torch.Tensor]) -> bool:
    """Load weights; those missing in the checkpoint become 0, such as biases that a family does not have."""
    own = head.state_dict()
    if any(tensor.shape != own[name].shape for name, tensor in weights.items()):
        return False
    head.load_state_dict({name: weights.get(name, torch.zeros_like(tensor)) for name, tensor in own.items()})
    return True
