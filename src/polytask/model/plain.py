"""The layers that one task uses, as a plain Hugging Face encoder of its family."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from polytask.model.adapters import Adapter, LoraAdapter
from polytask.model.branches import AdapterLayer, BranchedLayer, CopiedLayer
from polytask.model.family import Convolved
from polytask.model.multitask import MultiTaskModel


def plain_state(model: MultiTaskModel, task: str) -> dict[str, Tensor]:
    """Return the weights of the encoder that a task reads, by their names in the family's own encoder class.

    LoRA adapters are merged into the weights; for other adapters and for mixing methods there is no such encoder.
    """
    assert model.sharing.way_of(task).mixing is None
    trunk = next(trunk for trunk in model.trunks if task in trunk.tasks)
    inside = ".".join(name for name in trunk.family.layers if name) + "."
    state = trunk.trunk_state()
    for number, level in enumerate(trunk.levels):
        for name, value in _layer_state(level, task):
            # The convolution that was moved into DeBERTa's first layer goes back next to the layers.
            is_convolution = name.startswith("conv.")
            state[f"{inside.partition('.')[0]}.{name}" if is_convolution else f"{inside}{number}.{name}"] = value
    return state


def _layer_state(level: BranchedLayer, task: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of the layer that a task's rows run through, by the names of the plain layer."""
    assert isinstance(level, CopiedLayer | AdapterLayer)
    place = next(index for index, part in enumerate(level.partition) if task in part)
    layer = level.parts[place] if isinstance(level, CopiedLayer) else level.layer
    merged = _merged(layer, place)
    # Names of the weights below an adapter: `query.base.weight` is `query.weight` of the plain layer.
    state: dict[str, Tensor] = layer.state_dict()
    for name, value in state.items():
        above, _, last = name.rpartition(".")
        if above.endswith(".base"):
            above = above.removesuffix(".base")
            value = merged.get(f"{above}.{last}", value)
        elif any(name.startswith(f"{adapter}.parts.") for adapter in _adapters(layer)):
            continue
        plain = f"{above}.{last}" if above else last
        yield (plain.removeprefix("layer.") if isinstance(layer, Convolved) else plain), value


def _adapters(layer: nn.Module) -> dict[str, Adapter]:
    return {name: module for name, module in layer.named_modules() if isinstance(module, Adapter)}


def _merged(layer: nn.Module, place: int) -> dict[str, Tensor]:
    """Return the weights with a part's LoRA adapters merged: W + alpha / rank * B A."""
    weights: dict[str, Tensor] = {}
    for name, adapter in _adapters(layer).items():
        if not len(adapter.parts):
            continue
        assert isinstance(adapter, LoraAdapter)
        down, up = adapter.parts[place].children()
        assert isinstance(down, nn.Linear)
        assert isinstance(up, nn.Linear)
        with torch.no_grad():
            delta = up.weight.double() @ down.weight.double() * (adapter.kind.alpha / adapter.kind.rank)
            weights[f"{name}.weight"] = (adapter.base.weight.double() + delta).to(adapter.base.weight.dtype)
    return weights
