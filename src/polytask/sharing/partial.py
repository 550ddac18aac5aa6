"""Partial: some layers are shared, the others are each task's own; given by a number, branches, or layer by layer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from polytask.errors import ConfigError
from polytask.options import Options
from polytask.sharing.plan import Partition, Plan, global_plan
from polytask.sharing.sharing import TreeOptions, require_layer, require_partition

Groups: TypeAlias = tuple[tuple[str, ...], ...]

_RANGE = re.compile(r"^(\d+)(?:-(\d+))?$")


class Branch(Options):
    """The groups of tasks that share layers, from a layer up."""

    from_layer: int = Field(ge=1, description="lowest layer that is split, from 1")
    groups: Groups = Field(description="groups of tasks; each task is in one of them")


class PartialOptions(TreeOptions):
    """Some layers shared: `shared_layers: 4`, or `branches`, or a table of all `layers`."""

    strategy: Literal["partial"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    shared_layers: int | None = Field(
        default=None, ge=0, description="layers 1 to this one are shared by all tasks, those above are each task's own"
    )
    branches: tuple[Branch, ...] | None = Field(
        default=None, min_length=1, description="where the plan branches; several branches may be stacked"
    )
    layers: dict[str, Groups] | None = Field(
        default=None, description="every layer's groups, by layer or range: {embeddings: ..., 1-4: ..., 5-6: ...}"
    )

    @model_validator(mode="after")
    def _one_form(self) -> PartialOptions:
        given = [name for name in ("shared_layers", "branches", "layers") if getattr(self, name) is not None]
        if len(given) != 1:
            names = " and ".join(given) if given else "none"
            raise ValueError(f"found {names}; expected one of shared_layers, branches, layers")
        return self

    def plan(self, tasks: Sequence[str], layers: int) -> Plan:
        if self.shared_layers is not None:
            require_layer(self.shared_layers, layers, "sharing.shared_layers", least=0)
            own = tuple(frozenset([task]) for task in tasks)
            return Plan(
                tuple(tasks), global_plan(tasks, self.shared_layers).levels + (own,) * (layers - self.shared_layers)
            )
        if self.branches is not None:
            return _from_branches(self.branches, tasks, layers)
        assert self.layers is not None
        return _from_table(self.layers, tasks, layers)


def _from_branches(branches: Sequence[Branch], tasks: Sequence[str], layers: int) -> Plan:
    levels = list(global_plan(tasks, layers).levels)
    places: dict[int, str] = {}
    for index, branch in enumerate(branches):
        place = f"sharing.branches[{index}]"
        require_layer(branch.from_layer, layers, f"{place}.from_layer")
        require_partition(branch.groups, tasks, f"{place}.groups")
        if branch.from_layer in places:
            raise ConfigError(
                f"{place}.from_layer: layer {branch.from_layer} is already split by {places[branch.from_layer]}"
            )
        places[branch.from_layer] = place
    for place, branch in sorted(zip(places.values(), branches, strict=True), key=lambda pair: pair[1].from_layer):
        level = _partition(branch.groups)
        _require_tree(level, levels[branch.from_layer], f"{place}.groups")
        levels[branch.from_layer :] = [level] * (layers + 1 - branch.from_layer)
    return Plan(tuple(tasks), tuple(levels))


def _from_table(table: dict[str, Groups], tasks: Sequence[str], layers: int) -> Plan:
    levels: dict[int, Partition] = {}
    for key, groups in table.items():
        place = f"sharing.layers.{key}"
        require_partition(groups, tasks, place)
        for number in _numbers(key, layers, place):
            if number in levels:
                raise ConfigError(f"{place}: layer {number} is listed twice")
            levels[number] = _partition(groups)
    missing = [number for number in range(1, layers + 1) if number not in levels]
    if missing:
        listed = ", ".join(str(number) for number in missing)
        raise ConfigError(f"sharing.layers: layers without an entry: {listed}; the encoder has {layers} layers")
    levels.setdefault(0, global_plan(tasks, 0).levels[0])
    for number in range(1, layers + 1):
        _require_tree(levels[number], levels[number - 1], f"sharing.layers: layer {number}")
    return Plan(tuple(tasks), tuple(levels[number] for number in range(layers + 1)))


def _numbers(key: str, layers: int, place: str) -> range:
    if key == "embeddings":
        return range(1)
    match = _RANGE.match(key)
    if match is None:
        raise ConfigError(f"{place}: found {key!r}; expected a layer (4), a range (1-4), or embeddings")
    first, last = int(match[1]), int(match[2] or match[1])
    require_layer(first, layers, place)
    require_layer(last, layers, place)
    if last < first:
        raise ConfigError(f"{place}: the range ends before it begins")
    return range(first, last + 1)


def _partition(groups: Groups) -> Partition:
    return tuple(frozenset(group) for group in groups)


def _require_tree(level: Partition, below: Partition, place: str) -> None:
    for part in level:
        if not any(part <= other for other in below):
            names = ", ".join(sorted(part))
            raise ConfigError(
                f"{place}: {names} share weights above a layer that separates them; separated tasks cannot be joined "
                "again"
            )
