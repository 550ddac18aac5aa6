"""Growth: which layers new tasks share with the tasks of a trained model, and which old tasks get their own."""

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
    """Options of the new tasks' own layers; by default they have only heads."""

    own: tuple[str, ...] = Field(
        default=(),
        description="old tasks that get a head and, above `shared_layers`, layers of their own, which start as copies "
        "of those that they use; in the mode frozen they are the only old tasks that train",
    )
    follow: str | None = Field(
        default=None,
        description="the old task whose layers the new tasks use; required if the tasks' layers differ",
    )
    shared_layers: int | None = Field(
        default=None, ge=0, description="layers 1 to this one are shared with the followed task, those above are new"
    )
    kind: Literal["copy", "lora", "adapter"] | None = Field(
        default=None, description="kind of the new tasks' parts; by default that of the model's parts"
    )
    rank: int | None = Field(
        default=None, ge=1, le=4096, description="rank of LoRA, or width of the bottleneck adapters"
    )
    alpha: float | None = Field(default=None, gt=0, description="LoRA's outputs are scaled by alpha / rank")
    targets: tuple[str, ...] | None = Field(default=None, description="the linear modules with an adapter")

    @property
    def part(self) -> dict[str, object]:
        """The given options of the new tasks' part, by the field names of `PartKind`."""
        options = {"name": self.kind, "rank": self.rank, "alpha": self.alpha, "targets": self.targets}
        return {key: value for key, value in options.items() if value is not None}


@dataclass(frozen=True)
class Growth:
    """How a model's sharing grows.

    Attributes:
        joined: the sharing in which the new tasks are in all parts of the task that they follow: only heads are new.
        plan: the plan in which the own layers of new and old tasks are split off, as copies.
        heads: groups of tasks that share one head.
    """

    joined: Sharing
    plan: Plan
    heads: tuple[tuple[str, ...], ...]


def grow(old: Sharing, new: Sequence[str], options: ExtendOptions) -> Growth:
    """Add new tasks to the sharing of a trained model, or give old ones their own layers.

    The new tasks of one extension share their own layers; each of the old tasks has its own. Without any of them the
    plan is unchanged.

    Raises ConfigError naming the place.
    """
    if old.mixing is not None:
        raise ConfigError(
            f"the model uses {old.mixing.method}, whose gates and towers are made for exactly its tasks; "
            "only a model with a tree of shared and own layers can be extended: train all tasks together instead"
        )
    if old.trunks:
        raise ConfigError(
            "the model is composed of trunks with different kinds of sharing, so new tasks fit into none of them; "
            "extend one of the models that it was composed of, and compose again"
        )
    if not new and not options.own:
        return Growth(old, old.plan, old.heads)
    joined = replace(old, plan=_joined(old.plan, new, options), kind=_kind(old, options))
    plan, layers = joined.plan, options.shared_layers
    if layers is not None:
        require_layer(layers, plan.layers, "extend.shared_layers", least=0)
    if layers is not None and layers < plan.layers:
        apart = [frozenset(new)] * bool(new) + [frozenset([task]) for task in options.own]
        for group in (group for group in apart if group not in plan.levels[layers + 1]):
            plan = plan.split(layers + 1, group)
    own_heads = (tuple(task for task in group if task not in options.own) for group in old.heads)
    return Growth(joined, plan, tuple(group for group in own_heads if len(group) > 1))


def _joined(plan: Plan, new: Sequence[str], options: ExtendOptions) -> Plan:
    """Return the plan in which new tasks take the path of the task that they follow."""
    if not new:
        return plan
    followed = _followed(plan, options.follow)
    levels = (tuple(part | frozenset(new) if followed in part else part for part in level) for level in plan.levels)
    return Plan((*plan.tasks, *new), tuple(levels))


def _followed(plan: Plan, named: str | None) -> str:
    if named is not None:
        require_task(named, plan.tasks, "extend.follow")
        return named
    if any(len(level) > 1 for level in plan.levels):
        raise ConfigError(
            f"extend.follow: the model's tasks use different layers:\n{plan.picture()}\n"
            f"name the task whose layers the new ones use: {', '.join(plan.tasks)}"
        )
    return plan.tasks[0]


def _kind(old: Sharing, options: ExtendOptions) -> PartKind:
    """Return the kind of the new parts: all parts of a model are of the same kind."""
    given = options.part
    if given and options.shared_layers is None:
        raise ConfigError(
            f"extend: found {', '.join('kind' if key == 'name' else key for key in given)} without shared_layers; "
            "set shared_layers to where the new tasks' own layers begin, or leave these out for heads only"
        )
    divided = any(len(level) > 1 for level in old.plan.levels)
    if not divided and not old.kind.shares_layer:
        return replace(PartKind(), **given)  # type: ignore[arg-type]
    for key, value in given.items():
        existing = getattr(old.kind, key)
        if value != existing:
            name = "kind" if key == "name" else key
            raise ConfigError(
                f"extend.{name}: found {value}, but the parts of the model's layers have {existing}; "
                f"all parts of a model are of the same kind: leave {name} out"
            )
    return old.kind
