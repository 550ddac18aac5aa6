"""A trained model with fewer tasks: the outputs of the rest stay the same, and unused weights are removed."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import replace

import torch

from polytask.model.encoder import Backbone
from polytask.model.mixing import MIXERS, Towers
from polytask.model.multitask import MultiTaskModel
from polytask.model.word_tables import equal_tables, share_tables
from polytask.sharing.sharing import Sharing
from polytask.terms import HeadSpec


def pruned(old: MultiTaskModel, tasks: Collection[str], heads: Mapping[str, HeadSpec]) -> MultiTaskModel:
    """Return a new model for some of the tasks, with the old one's weights.

    Args:
        heads: head specifications of these tasks, which may read only one another.
    """
    with torch.random.fork_rng(devices=[]):  # the initial weights will be overwritten
        backbone = Backbone.build(copy.deepcopy(old.config))
        model = MultiTaskModel(backbone, _within(old.sharing, tasks, backbone.layers), heads)
    for encoder in model.trunks:
        encoder.take(next(other for other in old.trunks if encoder.tasks <= other.tasks))
    for task in model.plan.tasks:
        model.head(task).load_state_dict(old.head(task).state_dict())
    share_tables(model, equal_tables(model))
    return model.train(old.training)


def _within(sharing: Sharing, tasks: Collection[str], layers: int) -> Sharing:
    """Return the sharing of the tasks, with the towers of a mixing method that they depend on."""
    if sharing.trunks:
        kept = (trunk for trunk in sharing.trunks if not set(tasks).isdisjoint(trunk.plan.tasks))
        order = [task for task in sharing.plan.tasks if task in tasks]
        return Sharing.of_trunks([_within(trunk, tasks, layers) for trunk in kept], order, sharing.within(tasks).heads)
    remaining = sharing.within(tasks)
    if remaining.mixing is None:
        return remaining
    method = MIXERS[remaining.mixing.method]
    towers = Towers(remaining.mixing.towers, remaining.plan.tasks)
    needed = method.needed(towers, layers - remaining.mixing.from_layer + 1, remaining.mixing.options)
    return replace(remaining, mixing=replace(remaining.mixing, towers=() if set(needed) == set(tasks) else needed))
