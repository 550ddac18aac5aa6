"""A trained model with fewer tasks: those that stay compute what they did, and what only the others used is gone."""

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
        heads: of these tasks; what they read is of these tasks too.
    """
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn for nothing
        backbone = Backbone.build(copy.deepcopy(old.config))
        model = MultiTaskModel(backbone, _within(old.sharing, tasks, backbone.layers), heads)
    for encoder in model.trunks:
        encoder.take(next(other for other in old.trunks if encoder.tasks <= other.tasks))
    for task in model.plan.tasks:
        model.head(task).load_state_dict(old.head(task).state_dict())
    share_tables(model, equal_tables(model))
    return model.train(old.training)


def _within(sharing: Sharing, tasks: Collection[str], layers: int) -> Sharing:
    """Return what the tasks share, with those towers of a mixing method that they depend on."""
    if sharing.trunks:
        kept = (trunk for trunk in sharing.trunks if not set(tasks).isdisjoint(trunk.plan.tasks))
        order = [task for task in sharing.plan.tasks if task in tasks]
        return Sharing.of_trunks([_within(trunk, tasks, layers) for trunk in kept], order, sharing.within(tasks).heads)
    found = sharing.within(tasks)
    if found.mixing is None:
        return found
    method = MIXERS[found.mixing.method]
    towers = Towers(found.mixing.towers, found.plan.tasks)
    needed = method.needed(towers, layers - found.mixing.from_layer + 1, found.mixing.options)
    return replace(found, mixing=replace(found.mixing, towers=() if set(needed) == set(tasks) else needed))
