"""Growth: where tasks that are added to a trained model stand among those that it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from polytask.errors import ConfigError
from polytask.options import Options
from polytask.sharing.plan import Plan
from polytask.sharing.sharing import PartKind, Sharing, require_layer, require_task


class ExtendOptions(Options):
    """Where the new tasks' own layers begin; by default they have none, only heads."""

    follow: str | None = Field(
        default=None,
        description="the old task whose path through the layers the new tasks take; required where there are several",
    )
    shared_layers: int | None = Field(
        default=None, ge=0, description="layers 1 to this one are those of the followed task, those above are new ones"
    )
    kind: Literal["copy", "lora", "adapter"] | None = Field(
        default=None, description="what the new tasks' parts are made of; by default as the model's own parts"
    )
    rank: int | None = Field(
        default=None, ge=1, le=4096, description="rank of lora's deltas, or width of the bottleneck adapters"
    )
    alpha: float | None = Field(default=None, gt=0, description="lora's deltas are scaled by alpha / rank")
    targets: tuple[str, ...] | None = Field(default=None, description="the linear modules with an adapter")

    @property
    def part(self) -> dict[str, object]:
        """What is said of the new tasks' part, by the names that a kind has for it."""
        found = {"name": self.kind, "rank": self.rank, "alpha": self.alpha, "targets": self.targets}
        return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True)
class Growth:
    """How a model's sharing grows.

    Attributes:
        joined: the new tasks stand wherever the task stands that they follow: only their heads are new.
        plan: the new tasks' own layers are split off; what they compute does not change at that moment.
    """

    joined: Sharing
    plan: Plan


def grow(old: Sharing, new: Sequence[str], options: ExtendOptions) -> Growth:
    """Put new tasks into what the tasks of a trained model share. Raises ConfigError naming the place.

    The new tasks of one extension share their own layers. Without a new task the plan stays.
    """
    if old.mixing is not None:
        raise ConfigError(
            f"the model mixes its tasks by {old.mixing.method}, whose gates and towers are made for exactly them; "
            "only a model with a tree of shared and own layers can be extended: train all tasks together instead"
        )
    if old.trunks:
        raise ConfigError(
            "the model is composed of trunks that share in different ways, so new tasks fit into none of them; extend "
            "one of the models that it was composed of, and compose again"
        )
    if not new:
        return Growth(old, old.plan)
    followed = _followed(old.plan, options.follow)
    levels = tuple(
        tuple(part | frozenset(new) if followed in part else part for part in level) for level in old.plan.levels
    )
    plan = Plan((*old.plan.tasks, *new), levels)
    joined = replace(old, plan=plan, kind=_kind(old, options))
    if options.shared_layers is None:
        return Growth(joined, plan)
    require_layer(options.shared_layers, plan.layers, "extend.shared_layers", least=0)
    whole = options.shared_layers == plan.layers
    return Growth(joined, plan if whole else plan.split(options.shared_layers + 1, new))


def _followed(plan: Plan, named: str | None) -> str:
    if named is not None:
        require_task(named, plan.tasks, "extend.follow")
        return named
    if any(len(level) > 1 for level in plan.levels):
        raise ConfigError(
            f"extend.follow: the model's tasks take several ways through its layers:\n{plan.picture()}\n"
            f"name the task whose way the new ones take: {', '.join(plan.tasks)}"
        )
    return plan.tasks[0]


def _kind(old: Sharing, options: ExtendOptions) -> PartKind:
    """Return what the parts of a layer are: all parts of a model are of one kind."""
    said = options.part
    if said and options.shared_layers is None:
        raise ConfigError(
            f"extend: found {', '.join('kind' if key == 'name' else key for key in said)} without shared_layers; "
            "say with shared_layers where the new tasks' own layers begin, or leave it out for heads only"
        )
    divided = any(len(level) > 1 for level in old.plan.levels)
    if not divided and not old.kind.shares_layer:
        return replace(PartKind(), **said)  # type: ignore[arg-type]
    for key, value in said.items():
        has = getattr(old.kind, key)
        if value != has:
            name = "kind" if key == "name" else key
            raise ConfigError(
                f"extend.{name}: found {value}, and the parts of the model's layers have {has}; "
                f"all parts of a model are alike: leave {name} out"
            )
    return old.kind
