"""The sharing of a model: its plan, the kind of its parts, a mixing method above it, and shared heads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from polytask.errors import ConfigError, nearest
from polytask.inputs import describe
from polytask.options import Options
from polytask.sharing.plan import InvalidPlan, Part, Plan, global_plan
from polytask.sharing.policy import SharingPolicy

PartKindName: TypeAlias = Literal["copy", "lora", "soft", "adapter"]


@dataclass(frozen=True)
class PartKind:
    """The kind of weights of a part, at a level with several parts.

    Attributes:
        name: copy: each part has its own copy of the layer; soft: the same, with a penalty on their differences; lora,
            adapter: one layer for all parts, and a small adapter for each.
        rank: rank of LoRA, or width of the bottleneck adapters.
        alpha: LoRA's outputs are scaled by alpha / rank.
        targets: names of the linear modules that get an adapter; empty for the kind's default.
        frozen: whether the layer under the adapters is frozen.
        strength: strength of the penalty for `soft`.
        alone_from: from this layer on, a single part has an adapter too, because the other parts have been pruned;
            None: in no layer.
    """

    name: PartKindName = "copy"
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ()
    frozen: bool = False
    strength: float = 0.01
    alone_from: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))  # JSON has lists only

    def adds(self, layer: int, parts: int) -> bool:
        """Whether each part of a layer with `parts` parts has an adapter."""
        return self.shares_layer and (parts > 1 or (self.alone_from is not None and layer >= self.alone_from))

    @property
    def shares_layer(self) -> bool:
        """Whether the parts of a level share one layer."""
        return self.name in ("lora", "adapter")


@dataclass(frozen=True)
class Mixing:
    """A method that mixes several towers, from a layer to the top.

    Attributes:
        method: name of a mixing method.
        from_layer: lowest layer that it replaces, from 1.
        options: options of the method.
        towers: tasks with towers and gates, if some of them have been pruned; empty: those of the plan.
    """

    method: str
    from_layer: int
    options: Mapping[str, float] = field(default_factory=dict[str, float])
    towers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "towers", tuple(self.towers))  # JSON has lists only


@dataclass(frozen=True)
class Sharing:
    """What the tasks of a model share.

    Attributes:
        plan: the sharing plan, of the layers below the mixing method if there is one.
        kind: kind of the parts.
        mixing: the mixing method, if any.
        heads: groups of tasks that share one head.
        trunks: in a model composed of several, the sharing of each trunk, unless one kind holds for all of them. The
            plan's levels above a mixing method then repeat the one below it.
    """

    plan: Plan
    kind: PartKind = PartKind()
    mixing: Mixing | None = None
    heads: tuple[tuple[str, ...], ...] = ()
    trunks: tuple[Sharing, ...] = ()

    @classmethod
    def of_trunks(
        cls, trunks: Sequence[Sharing], order: Sequence[str], heads: tuple[tuple[str, ...], ...] = ()
    ) -> Sharing:
        """Return the sharing of several trunks that have no task in common.

        Args:
            order: all tasks, in display order.
        """
        if len(trunks) == 1:
            return replace(trunks[0], heads=heads)
        layers = max(trunk.plan.layers for trunk in trunks)
        levels = [(*trunk.plan.levels, *trunk.plan.levels[-1:] * (layers - trunk.plan.layers)) for trunk in trunks]
        joined = tuple(tuple(part for partition in level for part in partition) for level in zip(*levels, strict=True))
        plan = Plan(tuple(order), joined)
        kinds = {trunk.kind for trunk in trunks}
        # The adapters of a trunk depend on its parts, so trunks with adapters are kept separate.
        if len(kinds) == 1 and all(trunk.mixing is None and not trunk.kind.shares_layer for trunk in trunks):
            return cls(plan, kinds.pop(), heads=heads)
        return cls(plan, heads=heads, trunks=tuple(replace(trunk, heads=()) for trunk in trunks))

    def trunk(self, tasks: Part) -> Sharing:
        """Return the sharing of a trunk's tasks."""
        for trunk in self.trunks:
            if tasks <= set(trunk.plan.tasks):
                return trunk
        return self.following(self.plan.within(tasks))

    def way_of(self, task: str) -> Sharing:
        """Return the sharing that a task belongs to: that of its trunk, or this one."""
        return next((trunk for trunk in self.trunks if task in trunk.plan.tasks), self)

    def head_of(self, task: str) -> str:
        """Return the task that names a task's head."""
        return next((group[0] for group in self.heads if task in group), task)

    def following(self, plan: Plan) -> Sharing:
        """Return the same with another plan."""
        return replace(self, plan=plan)

    def within(self, tasks: Collection[str]) -> Sharing:
        """Return the sharing of some of the tasks; towers of mixing methods and adapters are kept."""
        kept = tuple(tuple(task for task in group if task in tasks) for group in self.heads)
        heads = tuple(group for group in kept if len(group) > 1)
        if self.trunks or (self.kind.shares_layer and len(self.plan.trunks) > 1):
            trunks = self.trunks or [self.trunk(part) for part in self.plan.trunks]
            remaining = (trunk for trunk in trunks if not set(tasks).isdisjoint(trunk.plan.tasks))
            order = [task for task in self.plan.tasks if task in tasks]
            return Sharing.of_trunks([trunk.within(tasks) for trunk in remaining], order, heads)
        divided = (number for number, level in enumerate(self.plan.levels) if self.kind.adds(number, len(level)))
        kind = replace(self.kind, alone_from=next(divided, None)) if self.kind.shares_layer else self.kind
        mixing = self.mixing and replace(self.mixing, towers=self.mixing.towers or self.plan.tasks)
        return Sharing(self.plan.within(tasks), kind, mixing, heads)

    def picture(self) -> str:
        """Draw the sharing as text."""
        if self.trunks:
            heads = [f"one head for {', '.join(group)}" for group in self.heads]
            return "\n".join([*(trunk.picture() for trunk in self.trunks), *heads])
        lines = [self.plan.picture()]
        if self.mixing is not None:
            top = f"{self.mixing.method} from layer {self.mixing.from_layer}"
            options = ", ".join(f"{key} {value:g}" for key, value in self.mixing.options.items())
            lines.insert(0, f"{top} ({options})" if options else top)
        elif self.kind.name != "copy" and any(len(level) > 1 for level in self.plan.levels):
            lines.insert(0, f"parts of a layer: {self.kind.name}")
        lines.extend(f"one head for {', '.join(group)}" for group in self.heads)
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return the sharing as JSON."""
        mixing = None if self.mixing is None else asdict(self.mixing)
        data = {"plan": self.plan.to_json(), "kind": asdict(self.kind), "mixing": mixing, "heads": list(self.heads)}
        return {**data, "trunks": [trunk.to_json() for trunk in self.trunks]} if self.trunks else data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Sharing:
        """Rebuild a sharing from `to_json`."""
        kind = PartKind(**data["kind"])
        mixing = None if data["mixing"] is None else Mixing(**data["mixing"])
        heads = tuple(tuple(group) for group in data["heads"])
        trunks = tuple(cls.from_json(trunk) for trunk in data.get("trunks", ()))
        return cls(Plan.from_json(data["plan"]), kind, mixing, heads, trunks)


class SharingOptions(Options, ABC):
    """Options of every strategy."""

    strategy: str = ""
    share_heads: tuple[tuple[str, ...], ...] = Field(
        default=(), description="groups of tasks with the same label space that share one head"
    )

    @abstractmethod
    def build(self, tasks: Sequence[str], layers: int) -> Sharing:
        """Return the sharing of these tasks in an encoder with `layers` layers. Raises ConfigError naming the place."""

    def policy(
        self, start: Sharing, size: Callable[[Plan], int], single: int, passes: float, compares: int | None = None
    ) -> SharingPolicy | None:
        """Return the policy that changes the plan in training; most strategies have none.

        Args:
            start: the initial sharing.
            size: returns the number of parameters of the model under a plan.
            single: number of parameters of a model in which all tasks share everything.
            passes: average number of tasks that read an encoded row.
            compares: interval in updates at which the balancer computes gradients task by task anyway; None if it does
                not.
        """
        del start, size, single, passes, compares
        return None

    def heads(self, tasks: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Check and return the groups that share a head."""
        seen: set[str] = set()
        for index, group in enumerate(self.share_heads):
            place = f"sharing.share_heads[{index}]"
            for task in group:
                require_task(task, tasks, place)
                if task in seen:
                    raise ConfigError(f"{place}: {task!r} is listed twice; a task has one head")
                seen.add(task)
            if len(group) < 2:
                raise ConfigError(f"{place}: found {len(group)} task; expected two or more tasks that share a head")
        return self.share_heads


# The kinds that use an option.
_READ_BY: dict[str, tuple[PartKindName, ...]] = {
    "rank": ("lora", "adapter"),
    "alpha": ("lora",),
    "targets": ("lora", "adapter"),
    "base": ("lora", "adapter"),
    "strength": ("soft",),
}


class TreeOptions(SharingOptions, ABC):
    """The options of strategies that build a tree."""

    kind: PartKindName = Field(
        default="copy",
        description="the weights of a part: copy: its own layer; soft: its own layer, with a penalty on the distance "
        "from the others; lora, adapter: the shared layer and its own small module",
    )
    rank: int = Field(
        default=PartKind.rank, ge=1, le=4096, description="rank of LoRA, or width of the bottleneck adapters"
    )
    alpha: float = Field(default=PartKind.alpha, gt=0, description="LoRA's outputs are scaled by alpha / rank")
    targets: tuple[str, ...] = Field(
        default=(),
        description="names of the linear modules with an adapter, such as query; by default those of the kind",
    )
    base: Literal["trained", "frozen"] = Field(
        default="trained", description="train or freeze the shared layers under the adapters"
    )
    strength: float = Field(default=PartKind.strength, ge=0, description="soft: strength of the penalty on distances")

    @model_validator(mode="after")
    def _options_fit_the_kind(self) -> TreeOptions:
        for name, kinds in _READ_BY.items():
            if name in self.model_fields_set and self.kind not in kinds:
                raise ValueError(f"found {name!r} with kind {self.kind!r}; only {' and '.join(kinds)} use it")
        return self

    @model_serializer(mode="wrap")
    def _omit_unset_values(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Options that the kind does not use are refused as input, so they must not be written either.
        values = super()._omit_unset_values(dump)
        return {key: value for key, value in values.items() if self.kind in _READ_BY.get(key, (self.kind,))}

    @abstractmethod
    def plan(self, tasks: Sequence[str], layers: int) -> Plan:
        """Return the plan. Raises ConfigError naming the place."""

    def build(self, tasks: Sequence[str], layers: int) -> Sharing:
        plan = self.plan(tasks, layers)
        if not isinstance(plan, Plan):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"sharing.strategy: the plan of {self.strategy!r} is {describe(plan)}; expected a Plan")
        kind = PartKind(self.kind, self.rank, self.alpha, self.targets, self.base == "frozen", self.strength)
        if kind.shares_layer:  # adapters belong to layers; the embeddings have none, and are shared
            plan = Plan(plan.tasks, (global_plan(tasks, 0).levels[0], *plan.levels[1:]))
        return Sharing(plan, kind, None, self.heads(tasks))


def built(options: SharingOptions, tasks: Sequence[str], layers: int) -> Sharing:
    """Return the sharing of a strategy. Raises ConfigError naming the strategy if its plan does not fit the run."""
    place = f"sharing.strategy: the plan of {options.strategy!r}"
    try:
        sharing = options.build(tasks, layers)
    except InvalidPlan as error:
        raise ConfigError(f"{place} is no tree of the tasks: {error}") from None
    plan = sharing.plan
    if sorted(plan.tasks) != sorted(tasks):
        expected = ", ".join(tasks)
        raise ConfigError(f"{place} has the tasks {', '.join(plan.tasks)}; expected those of the run: {expected}")
    if plan.layers != layers and sharing.mixing is None:
        raise ConfigError(
            f"{place} has {plan.layers} layers; the encoder has {layers}, so {layers + 1} levels are expected: one for "
            "the embeddings, and one for each layer"
        )
    return sharing


def require_task(task: str, tasks: Sequence[str], place: str) -> None:
    """Raise ConfigError with the nearest name if there is no such task."""
    if task not in tasks:
        raise ConfigError(f"{place}: found the task {task!r}; {nearest(task, tasks)}")


def require_layer(layer: int, layers: int, place: str, *, least: int = 1) -> None:
    """Raise ConfigError with the encoder's number of layers if there is no such layer."""
    if not least <= layer <= layers:
        raise ConfigError(
            f"{place}: found layer {layer}; the encoder has {layers} layers, accepted: {least} to {layers}"
        )


def require_partition(groups: Sequence[Sequence[str]], tasks: Sequence[str], place: str) -> None:
    """Raise ConfigError unless the groups hold every task once."""
    seen: set[str] = set()
    for group in groups:
        if not group:
            raise ConfigError(f"{place}: found an empty group; leave it out")
        for task in group:
            require_task(task, tasks, place)
            if task in seen:
                raise ConfigError(f"{place}: {task!r} is listed twice; a task has to be in one group")
            seen.add(task)
    missing = [task for task in tasks if task not in seen]
    if missing:
        raise ConfigError(f"{place}: {', '.join(missing)} missing; every task has to be in one group")
