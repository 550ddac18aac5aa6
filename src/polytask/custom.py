"""Building blocks for your own methods: the tables, and the base classes of their rows (docs/extending.md).

Each name is loaded when it is first used, since heads need torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polytask.balance import BALANCERS
    from polytask.balance.balancer import Aggregator, BalanceOptions, GramOptions, Statistic, Weighting
    from polytask.comparison.arms import ARMS, Arm
    from polytask.comparison.budget import Budget
    from polytask.exports import EXPORTS
    from polytask.exports.exporter import Exported, Exporter
    from polytask.heads import HEADS, POOLINGS
    from polytask.model.family import FAMILIES, Family
    from polytask.model.heads import Head, RowHead, WordHead
    from polytask.model.mixing import MIXERS, MixingLayer
    from polytask.relatedness.evidence import Measure
    from polytask.relatedness.measures import MEASURES
    from polytask.schedule import SCHEDULES
    from polytask.schedule.parallel import Mixed, MixedOptions
    from polytask.schedule.policies import POLICIES, Policy
    from polytask.schedule.proportions import PROPORTIONS, MixingParams
    from polytask.schedule.schedule import Change, Feedback, Schedule, ScheduleOptions, Stage, Workload
    from polytask.sharing import SHARING
    from polytask.sharing.plan import Plan
    from polytask.sharing.sharing import Mixing, PartKind, Sharing, SharingOptions, TreeOptions
    from polytask.tasks import METRICS, TASKS, LabelStats, Metric, Task, TaskOptions
    from polytask.tasks.classification import Classification
    from polytask.tasks.losses import LOSSES
    from polytask.tasks.multilabel import Multilabel
    from polytask.tasks.regression import Regression
    from polytask.tasks.tagging import Tagging
    from polytask.tasks.word import WordOptions
    from polytask.terms import HeadSpec
    from polytask.training.optimizers import OPTIMIZERS
    from polytask.training.selection import RULES, DevScores, Rule

_HOMES = {
    "polytask.sharing.plan": ("Plan",),
    "polytask.relatedness.evidence": ("Measure",),
    "polytask.comparison.budget": ("Budget",),
    "polytask.tasks.word": ("WordOptions",),
    "polytask.relatedness.measures": ("MEASURES",),
    "polytask.model.mixing": ("MIXERS", "MixingLayer"),
    "polytask.model.family": ("FAMILIES", "Family"),
    "polytask.comparison.arms": ("ARMS", "Arm"),
    "polytask.balance": ("BALANCERS",),
    "polytask.balance.balancer": ("BalanceOptions", "Aggregator", "GramOptions", "Statistic", "Weighting"),
    "polytask.exports": ("EXPORTS",),
    "polytask.exports.exporter": ("Exported", "Exporter"),
    "polytask.model.heads": ("Head", "RowHead", "WordHead"),
    "polytask.schedule": ("SCHEDULES",),
    "polytask.schedule.policies": ("POLICIES", "Policy"),
    "polytask.schedule.parallel": ("Mixed", "MixedOptions"),
    "polytask.schedule.proportions": ("PROPORTIONS", "MixingParams"),
    "polytask.schedule.schedule": ("Change", "Feedback", "Schedule", "ScheduleOptions", "Stage", "Workload"),
    "polytask.sharing": ("SHARING",),
    "polytask.sharing.sharing": ("Mixing", "PartKind", "Sharing", "SharingOptions", "TreeOptions"),
    "polytask.tasks": ("METRICS", "TASKS", "Metric", "LabelStats", "Task", "TaskOptions"),
    "polytask.tasks.classification": ("Classification",),
    "polytask.heads": ("HEADS", "POOLINGS"),
    "polytask.tasks.multilabel": ("Multilabel",),
    "polytask.tasks.regression": ("Regression",),
    "polytask.tasks.tagging": ("Tagging",),
    "polytask.terms": ("HeadSpec",),
    "polytask.tasks.losses": ("LOSSES",),
    "polytask.training.optimizers": ("OPTIMIZERS",),
    "polytask.training.selection": ("RULES", "DevScores", "Rule"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "ARMS",
    "BALANCERS",
    "EXPORTS",
    "FAMILIES",
    "HEADS",
    "LOSSES",
    "MEASURES",
    "METRICS",
    "MIXERS",
    "OPTIMIZERS",
    "POLICIES",
    "POOLINGS",
    "PROPORTIONS",
    "RULES",
    "SCHEDULES",
    "SHARING",
    "TASKS",
    "Aggregator",
    "Arm",
    "BalanceOptions",
    "Budget",
    "Change",
    "Classification",
    "DevScores",
    "Exported",
    "Exporter",
    "Family",
    "Feedback",
    "GramOptions",
    "Head",
    "HeadSpec",
    "LabelStats",
    "Measure",
    "Metric",
    "Mixed",
    "MixedOptions",
    "Mixing",
    "MixingLayer",
    "MixingParams",
    "Multilabel",
    "PartKind",
    "Plan",
    "Policy",
    "Regression",
    "RowHead",
    "Rule",
    "Schedule",
    "ScheduleOptions",
    "Sharing",
    "SharingOptions",
    "Stage",
    "Statistic",
    "Tagging",
    "Task",
    "TaskOptions",
    "TreeOptions",
    "Weighting",
    "WordHead",
    "WordOptions",
    "Workload",
]  # fmt: skip


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOME_OF:
        raise AttributeError(f"module 'polytask.custom' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
