"""Mixing methods: several towers above a shared trunk. A new one is one file and one row here (and its options)."""

from __future__ import annotations

from polytask.model.mixing.cross_stitch import CrossStitch
from polytask.model.mixing.mixer import MixingSlot, Towers
from polytask.model.mixing.mmoe import Mmoe
from polytask.model.mixing.ple import Ple

MIXERS: dict[str, type[MixingSlot]] = {"mmoe": Mmoe, "ple": Ple, "cross_stitch": CrossStitch}

__all__ = ["MIXERS", "MixingSlot", "Towers"]
