"""Sharing of equal word embedding tables between trunks.

Frozen embeddings (`train.freeze_embeddings`) stay equal in models that are trained separately. They are half of the
parameters of MiniLM and most of those of a multilingual encoder: a second trunk then costs little more than its layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from polytask.model.multitask import MultiTaskModel


def equal_tables(model: MultiTaskModel) -> dict[str, str]:
    """Return the names of the tables that equal that of an earlier trunk, each with the name of the earlier one."""
    equal: dict[str, str] = {}
    first: dict[str, Tensor] = {}
    for name, module in _tables(model):
        table = module.weight
        same = next((earlier for earlier, other in first.items() if _equal(table, other)), None)
        if same is None:
            first[name] = table
        else:
            equal[name] = same
    return equal


def share_tables(model: MultiTaskModel, equal: Mapping[str, str]) -> None:
    """Replace each named table by the equal table of another trunk. Only for models that are not trained further."""
    tables = dict(_tables(model))
    for name, same in equal.items():
        tables[name].weight = tables[same].weight


def table_names(model: MultiTaskModel) -> list[str]:
    """Return the names of the trunks' tables."""
    return [name for name, _ in _tables(model)]


def _tables(model: MultiTaskModel) -> Iterator[tuple[str, nn.Embedding]]:
    names = {module: name for name, module in model.named_modules()}
    for encoder in model.trunks:
        module = encoder.model.get_input_embeddings()  # type: ignore[operator]
        yield f"{names[module]}.weight", module


def _equal(first: Tensor, second: Tensor) -> bool:
    return first is second or (
        first.shape == second.shape and first.dtype == second.dtype and torch.equal(first, second)
    )
