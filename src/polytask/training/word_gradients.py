"""Gradients of word embeddings on a CPU, in a table that is kept from update to update.

The gradient of a lookup has the size of the whole vocabulary and is zero nearly everywhere. Allocated anew and filled
with zeros in every update, it took a tenth of the time of an update of MiniLM; here only the rows of the previous
update are set to zero again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from polytask.model.cpu_kernels import Bf16Embedding
from polytask.model.multitask import MultiTaskModel


class WordGradients:
    """The gradients of a model's word embeddings.

    The table of a parameter is its `grad` until the optimizer drops it, so a gradient that outlives the update has to
    be copied.
    """

    def __init__(self, model: MultiTaskModel) -> None:
        encoders = zip(model.plan.trunks, model.trunks, strict=True)
        self._modules: Mapping[frozenset[str], Any] = {
            trunk: encoder.model.get_input_embeddings()  # type: ignore[operator]
            for trunk, encoder in encoders
        }
        self._tables: dict[nn.Parameter, tuple[Tensor, list[Tensor]]] = {}

    def takes(self, trunk: frozenset[str]) -> bool:
        """Whether a trunk's word embeddings are a plain table on a CPU; some families scale what they look up."""
        module = self._modules[trunk]
        return type(module) in (nn.Embedding, Bf16Embedding) and module.weight.device.type == "cpu"

    def add(self, trunk: frozenset[str], ids: Tensor, gradient: Tensor) -> None:
        """Add the gradient of a lookup, of shape (ids, features), to the table's gradient."""
        module = self._modules[trunk]
        parameter: nn.Parameter = module.weight
        if module.padding_idx is not None:
            gradient = gradient.masked_fill((ids == module.padding_idx)[:, None], 0.0)
        gradient = gradient.to(parameter.dtype)
        kept, used = self._tables.get(parameter, (None, []))
        if parameter.grad is not None and parameter.grad is not kept:  # of a head that is tied to the table
            parameter.grad = parameter.grad.index_add(0, ids, gradient)
            return
        if kept is None:
            kept = torch.zeros_like(parameter)
            self._tables[parameter] = kept, used
        if parameter.grad is None:
            for rows in used:
                kept.index_fill_(0, rows, 0.0)
            used.clear()
            parameter.grad = kept
        kept.index_add_(0, ids, gradient)
        used.append(ids)
