"""Mixing methods: several towers above a shared trunk. A new method is one file and one row here, and its options."""

from __future__ import annotations

from polytask.model.mixing.cross_stitch import CrossStitch
from polytask.model.mixing.mixer import MixingLayer, Towers
from polytask.model.mixing.mmoe import Mmoe
from polytask.model.mixing.ple import Ple
from polytask.registry import Table

_METHODS: dict[str, type[MixingLayer]] = {"mmoe": Mmoe, "ple": Ple, "cross_stitch": CrossStitch}
MIXERS = Table("mixing method", _METHODS, base=MixingLayer)

__all__ = ["MIXERS", "MixingLayer", "Towers"]
