"""A trained model with more tasks or layers: old outputs stay the same, new tasks start from an old one's layers."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from polytask.model.branches import CopiedLayer
from polytask.model.encoder import Backbone
from polytask.model.family import layers_of
from polytask.model.multitask import MultiTaskModel
from polytask.sharing.growth import Growth
from polytask.terms import HeadSpec


def extended(old: MultiTaskModel, growth: Growth, heads: Mapping[str, HeadSpec]) -> MultiTaskModel:
    """Return a new model with the old one's weights; new tasks' heads are random, new layers are copies of old ones.

    Args:
        heads: head specifications of all tasks, old and new.
    """
    backbone = Backbone.build(copy.deepcopy(old.config))
    weights = dict(old.state_dict())
    if growth.joined.kind.shares_layer != old.sharing.kind.shares_layer:
        _fill(backbone, old)  # before adapters are inserted into the layers, which renames their weights
        weights = {name: value for name, value in weights.items() if name.startswith("heads.")}
    model = MultiTaskModel(backbone, growth.joined, heads)
    result = model.load_state_dict(weights, strict=False)
    assert not result.unexpected_keys
    if growth.plan != growth.joined.plan:
        model.follow(growth.plan)
    if growth.heads != growth.joined.heads:
        model.share_heads(growth.heads)
    return model


def _fill(backbone: Backbone, old: MultiTaskModel) -> None:
    """Load the weights of a model whose tasks share the whole encoder into a plain encoder."""
    (trunk,) = old.trunks
    inside = ".".join(name for name in backbone.family.layers if name) + "."
    outside = {name: value for name, value in trunk.model.state_dict().items() if not name.startswith(inside)}
    backbone.model.load_state_dict(outside, strict=False)
    for layer, level in zip(layers_of(backbone.model, backbone.family), trunk.levels, strict=True):
        assert isinstance(level, CopiedLayer)
        layer.load_state_dict(level.parts[0].state_dict())
