"""Sharing strategies. A new strategy is one file (its options and its plan) and one row here."""

from __future__ import annotations

from polytask.registry import Table
from polytask.sharing.adaptive import Adaptive, AdaptiveOptions
from polytask.sharing.affinity import FromAffinityOptions
from polytask.sharing.fixed import GlobalOptions, IndependentOptions
from polytask.sharing.head_evidence import HeadGroups, groups_of
from polytask.sharing.mixing import CrossStitchOptions, MmoeOptions, PleOptions
from polytask.sharing.partial import PartialOptions
from polytask.sharing.plan import Plan
from polytask.sharing.policy import Decision, SharingPolicy
from polytask.sharing.sharing import Mixing, PartKind, Sharing, SharingOptions

_STRATEGIES: dict[str, type[SharingOptions]] = {
    "global": GlobalOptions,
    "independent": IndependentOptions,
    "partial": PartialOptions,
    "adaptive": AdaptiveOptions,
    "from_affinity": FromAffinityOptions,
    "mmoe": MmoeOptions,
    "ple": PleOptions,
    "cross_stitch": CrossStitchOptions,
}
SHARING = Table("sharing strategy", _STRATEGIES, base=SharingOptions, tag="strategy")

__all__ = [
    "SHARING",
    "Adaptive",
    "Decision",
    "GlobalOptions",
    "HeadGroups",
    "Mixing",
    "PartKind",
    "Plan",
    "Sharing",
    "SharingOptions",
    "SharingPolicy",
    "groups_of",
]
