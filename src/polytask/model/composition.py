"""Composition of several models into one: each task's outputs stay the same, and equal parts are kept once."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from polytask.model.branches import AdapterLayer, BranchedLayer, CopiedLayer
from polytask.model.encoder import Backbone, Encoder
from polytask.model.multitask import MultiTaskModel
from polytask.model.word_tables import equal_tables, share_tables
from polytask.sharing.plan import Part, Partition, Plan
from polytask.sharing.sharing import PartKind, Sharing
from polytask.terms import HeadSpec


@dataclass(frozen=True)
class _Trunk:
    """A trunk of one of the models.

    Attributes:
        key: trunks with equal keys can be merged.
        layers: for each layer, a hash of the weights of each part; empty if the trunk cannot be merged.
    """

    sharing: Sharing
    key: Hashable
    layers: tuple[Mapping[Part, str], ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.sharing.plan.tasks

    def within(self, tasks: Part) -> _Trunk:
        """Return the trunk with some of its tasks; the weights stay as they are."""
        if tasks.issuperset(self.tasks):
            return self
        layers = tuple(
            {part & tasks: weights for part, weights in layer.items() if part & tasks} for layer in self.layers
        )
        return replace(self, sharing=self.sharing.within(tasks), layers=layers)


def composed(models: Sequence[MultiTaskModel], heads: Mapping[str, HeadSpec]) -> MultiTaskModel:
    """Return one model with the tasks of several, whose encoders have the same shape.

    Parts of the encoders with equal weights, from the embeddings up, become one part: a text passes through them once.
    If only the word embeddings are equal, they are kept once. A task that several models have, since others read it,
    is taken from the first; its weights must be equal in all of them.

    Args:
        heads: head specifications of all tasks.
    """
    trunks: dict[Hashable, list[_Trunk]] = {}
    order, groups = list[str](), list[tuple[str, ...]]()
    for model in models:
        new = frozenset(model.plan.tasks).difference(order)
        for encoder in (encoder for encoder in model.trunks if not new.isdisjoint(encoder.tasks)):
            trunk = _described(encoder, model.sharing.trunk(encoder.tasks)).within(new)
            trunks.setdefault(trunk.key, []).append(trunk)
        groups += [group for group in model.sharing.heads if new.issuperset(group)]
        order += [task for task in model.plan.tasks if task in new]
    sharing = Sharing.of_trunks([_joined(equal) for equal in trunks.values()], order, tuple(groups))
    with torch.random.fork_rng(devices=[]):  # the initial weights will be overwritten
        backbone = Backbone.build(copy.deepcopy(models[0].config))
        merged = MultiTaskModel(backbone, sharing, heads)
    for encoder in merged.trunks:
        for old in (old for model in models for old in model.trunks if not encoder.tasks.isdisjoint(old.tasks)):
            encoder.take(old)
    for model in models:
        for task in model.plan.tasks:
            merged.head(task).load_state_dict(model.head(task).state_dict())
    share_tables(merged, equal_tables(merged))
    return merged.eval()


def _described(encoder: Encoder, sharing: Sharing) -> _Trunk:
    if sharing.mixing is not None or len(encoder.levels) != sharing.plan.layers:
        return _Trunk(sharing, encoder)
    below = _digest([encoder.trunk_state()])
    if not sharing.kind.shares_layer:
        return _Trunk(replace(sharing, kind=PartKind()), (PartKind(), below), tuple(map(_copies, encoder.levels)))
    # All parts of a level share its one layer, so trunks can be merged only if all of these are equal.
    bases = _digest(dict(enumerate(_delta(level).base_parameters())) for level in encoder.levels)
    counted = enumerate(sharing.plan.levels)
    adds = tuple(sharing.kind.adds(number, len(partition)) for number, partition in counted)
    kind = replace(sharing.kind, alone_from=adds.index(True) if any(adds) else None)
    return _Trunk(replace(sharing, kind=kind), (kind, adds, below, bases), tuple(map(_adapters, encoder.levels)))


def _copies(level: BranchedLayer) -> dict[Part, str]:
    assert isinstance(level, CopiedLayer)
    return {part: _digest([level.layer_of(part).state_dict()]) for part in level.partition}


def _adapters(level: BranchedLayer) -> dict[Part, str]:
    layer = _delta(level)
    return {part: _digest([dict(enumerate(layer.own(part)))]) for part in layer.partition}


def _delta(level: BranchedLayer) -> AdapterLayer:
    assert isinstance(level, AdapterLayer)
    return level


def _digest(states: Iterable[Mapping[Any, Tensor]]) -> str:
    """Return a hash of weights and their names."""
    digest = hashlib.sha256()
    for state in states:
        for name, value in state.items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _joined(trunks: Sequence[_Trunk]) -> Sharing:
    """Return the sharing of trunks with equal keys: parts are merged if their weights and all below them are equal."""
    first = trunks[0]
    if len(trunks) == 1:
        return first.sharing
    levels: list[Partition] = [(frozenset(task for trunk in trunks for task in trunk.tasks),)]
    for layer in range(first.sharing.plan.layers):
        parts: dict[tuple[Part, str], Part] = {}
        for trunk in trunks:
            for part, weights in trunk.layers[layer].items():
                below = next(lower for lower in levels[-1] if part <= lower)
                parts[below, weights] = parts.get((below, weights), frozenset()) | part
        levels.append(tuple(parts.values()))
    plan = Plan(tuple(task for trunk in trunks for task in trunk.tasks), tuple(levels))
    return replace(first.sharing, plan=plan)
