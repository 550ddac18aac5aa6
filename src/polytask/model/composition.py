"""One model from the tasks of several: each task computes what it did, and equal parts are there once."""

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
        key: trunks with equal keys can be one.
        layers: for each layer what identifies the weights of each part; empty where the trunk can be no other's.
    """

    sharing: Sharing
    key: Hashable
    layers: tuple[Mapping[Part, str], ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.sharing.plan.tasks


def composed(models: Sequence[MultiTaskModel], heads: Mapping[str, HeadSpec]) -> MultiTaskModel:
    """Return one model with the tasks of several, which have encoders of one shape and no task in common.

    Parts of the encoders with equal weights, from the embeddings up, become one part: a text passes through them once.
    Where only the word embeddings are equal, they are there once.

    Args:
        heads: of all tasks.
    """
    found: dict[Hashable, list[_Trunk]] = {}
    for model in models:
        for encoder in model.trunks:
            trunk = _described(encoder, model.sharing.trunk(encoder.tasks))
            found.setdefault(trunk.key, []).append(trunk)
    groups = tuple(group for model in models for group in model.sharing.heads)
    order = tuple(task for model in models for task in model.plan.tasks)
    sharing = Sharing.of_trunks([_joined(trunks) for trunks in found.values()], order, groups)
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn for nothing
        backbone = Backbone.build(copy.deepcopy(models[0].config))
        made = MultiTaskModel(backbone, sharing, heads)
    for encoder in made.trunks:
        for old in (old for model in models for old in model.trunks if not encoder.tasks.isdisjoint(old.tasks)):
            encoder.take(old)
    for model in models:
        for task in model.plan.tasks:
            made.head(task).load_state_dict(model.head(task).state_dict())
    share_tables(made, equal_tables(made))
    return made.eval()


def _described(encoder: Encoder, sharing: Sharing) -> _Trunk:
    if sharing.mixing is not None or len(encoder.levels) != sharing.plan.layers:
        return _Trunk(sharing, encoder)
    below = _digest([encoder.trunk_state()])
    if not sharing.kind.shares_layer:
        return _Trunk(replace(sharing, kind=PartKind()), (PartKind(), below), tuple(map(_copies, encoder.levels)))
    # All parts of a level stand on its one layer, so trunks are one where all of these are equal.
    bases = _digest({str(i): one for i, one in enumerate(_delta(level).base_parameters())} for level in encoder.levels)
    counted = enumerate(sharing.plan.levels)
    adds = tuple(sharing.kind.adds(number, len(partition)) for number, partition in counted)
    kind = replace(sharing.kind, alone_from=adds.index(True) if any(adds) else None)
    return _Trunk(replace(sharing, kind=kind), (kind, adds, below, bases), tuple(map(_adapters, encoder.levels)))


def _copies(level: BranchedLayer) -> dict[Part, str]:
    assert isinstance(level, CopiedLayer)
    return {part: _digest([level.layer_of(part).state_dict()]) for part in level.partition}


def _adapters(level: BranchedLayer) -> dict[Part, str]:
    found = _delta(level)
    return {part: _digest([dict(enumerate(found.own(part)))]) for part in found.partition}


def _delta(level: BranchedLayer) -> AdapterLayer:
    assert isinstance(level, AdapterLayer)
    return level


def _digest(states: Iterable[Mapping[Any, Tensor]]) -> str:
    """Return what identifies weights with their names."""
    found = hashlib.sha256()
    for state in states:
        for name, value in state.items():
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _joined(trunks: Sequence[_Trunk]) -> Sharing:
    """Return what the tasks of trunks with equal keys share: parts whose weights are equal, as all below them are."""
    first = trunks[0]
    if len(trunks) == 1:
        return first.sharing
    levels: list[Partition] = [(frozenset(task for trunk in trunks for task in trunk.tasks),)]
    for layer in range(first.sharing.plan.layers):
        found: dict[tuple[Part, str], Part] = {}
        for trunk in trunks:
            for part, weights in trunk.layers[layer].items():
                below = next(one for one in levels[-1] if part <= one)
                found[below, weights] = found.get((below, weights), frozenset()) | part
        levels.append(tuple(found.values()))
    plan = Plan(tuple(task for trunk in trunks for task in trunk.tasks), tuple(levels))
    return replace(first.sharing, plan=plan)
