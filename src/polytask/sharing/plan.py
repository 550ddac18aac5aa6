"""The sharing plan: for the embeddings and every layer, which tasks use the same weights. A value without tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

Part: TypeAlias = frozenset[str]
Partition: TypeAlias = tuple[Part, ...]


class InvalidPlan(ValueError):
    """The levels of a plan are no tree of its tasks."""


@dataclass(frozen=True)
class Plan:
    """A tree of parts: `levels[0]` is the partition of the tasks at the embeddings, `levels[k]` that at layer k.

    Each level covers every task once and refines the level below it. The parts of a level are sorted by their first
    tasks, so that equal trees are equal plans.

    Attributes:
        tasks: all tasks, in display order.
        levels: partitions, one more than there are layers.
    """

    tasks: tuple[str, ...]
    levels: tuple[Partition, ...]

    def __post_init__(self) -> None:
        for number, level in enumerate(self.levels):
            where = name_of(number)
            listed = sorted(task for part in level for task in part)
            if listed != sorted(self.tasks):
                raise InvalidPlan(
                    f"{where}: the parts hold {listed}; each of {sorted(self.tasks)} has to be in one part"
                )
            if not all(level):
                raise InvalidPlan(f"{where}: a part without tasks")
            below = self.levels[number - 1] if number else level
            part_below = {task: place for place, part in enumerate(below) for task in part}
            for part in level:
                if len({part_below[task] for task in part}) > 1:
                    raise InvalidPlan(
                        f"{where}: {sorted(part)} share weights above a layer that separates them; "
                        "separated tasks cannot be joined again"
                    )
        place = {task: index for index, task in enumerate(self.tasks)}
        ordered = (tuple(sorted(level, key=lambda part: min(place[task] for task in part))) for level in self.levels)
        object.__setattr__(self, "levels", tuple(ordered))

    @property
    def trunks(self) -> Partition:
        """The parts of the embeddings: tasks in different trunks share nothing."""
        return self.levels[0]

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.levels) - 1

    def part(self, level: int, task: str) -> Part:
        """Return the part of a level that contains a task."""
        return next(part for part in self.levels[level] if task in part)

    def split(self, level: int, group: Iterable[str]) -> Plan:
        """Return the plan in which a group of tasks has its own weights at a level and above.

        Raises ValueError if the group is not a proper subset of one part of the level.
        """
        apart = frozenset(group)
        if not any(apart < part for part in self.levels[level]) or not apart:
            raise ValueError(
                f"{name_of(level)}: {sorted(apart)} is not a proper subset of one part, so there is nothing to split"
            )
        upper = (
            tuple(piece for part in above for piece in (part & apart, part - apart) if piece)
            for above in self.levels[level:]
        )
        return Plan(self.tasks, (*self.levels[:level], *upper))

    def merge(self, level: int, left: Iterable[str], right: Iterable[str]) -> Plan:
        """Return the plan with two parts of a level merged.

        Raises ValueError if they are not parts of the level, or are separate below it already.
        """
        first, second = frozenset(left), frozenset(right)
        for part in (first, second):
            if part not in self.levels[level] or first == second:
                raise ValueError(f"{name_of(level)}: {sorted(part)} is not one of two parts that could be merged")
        joined = tuple(part for part in self.levels[level] if part not in (first, second))
        return Plan(self.tasks, (*self.levels[:level], (*joined, first | second), *self.levels[level + 1 :]))

    def within(self, tasks: Iterable[str]) -> Plan:
        """Return the plan of some of the tasks."""
        kept = frozenset(tasks)
        levels = (tuple(part & kept for part in level if part & kept) for level in self.levels)
        return Plan(tuple(task for task in self.tasks if task in kept), tuple(levels))

    def picture(self) -> str:
        """Draw the plan as text, top layer first; the embeddings have a line only if they differ from layer 1.

        >>> plan = global_plan(["a", "b", "c"], 3).split(3, ["c"])
        >>> print(plan.picture())
        layer 3    [a, b] [c]
        layer 1-2  [a, b,  c]
        """
        runs: list[tuple[int, int, Partition]] = []
        for number, level in enumerate(self.levels):
            if runs and runs[-1][2] == level:
                runs[-1] = (runs[-1][0], number, level)
            else:
                runs.append((number, number, level))
        order = self._columns()
        parted = {pair for level in self.levels for pair in pairwise(order) if not _together(pair, level)}
        rows = [(_name_of_run(first, last), _draw(order, level, parted)) for first, last, level in reversed(runs)]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {drawn}" for name, drawn in rows)

    def _columns(self) -> list[str]:
        """Order the tasks so that every part of every level is contiguous."""
        place = {task: index for index, task in enumerate(self.tasks)}

        def key(task: str) -> list[int]:
            return [min(place[other] for other in self.part(number, task)) for number in range(len(self.levels))]

        return sorted(self.tasks, key=lambda task: (*key(task), place[task]))

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        place = {task: index for index, task in enumerate(self.tasks)}
        levels = [[sorted(part, key=place.__getitem__) for part in level] for level in self.levels]
        return {"tasks": list(self.tasks), "levels": levels}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        """Rebuild a plan from `to_json`."""
        levels = tuple(tuple(frozenset(part) for part in level) for level in data["levels"])
        return cls(tuple(data["tasks"]), levels)


# Maps a level and its number of parts to their number of parameters.
Sizes: TypeAlias = Callable[[int, int], int]


def encoder_size(plan: Plan, sizes: Sizes) -> int:
    """Return the number of parameters of all parts of all levels."""
    return sum(sizes(number, len(level)) for number, level in enumerate(plan.levels))


def name_of(level: int) -> str:
    """Name a level for a person."""
    return f"layer {level}" if level else "the embeddings"


def _name_of_run(first: int, last: int) -> str:
    if last == 0:
        return "embeddings"
    first = max(first, 1)
    return f"layer {first}" if first == last else f"layer {first}-{last}"


def _draw(order: Sequence[str], level: Partition, parted: Collection[tuple[str, str]]) -> str:
    """Draw the parts of a level; neighbours that are separated in another level are spaced equally in all levels."""
    drawn = f"[{order[0]}"
    for pair in pairwise(order):
        between = ", " if _together(pair, level) else "] ["
        drawn += f"{between:<{3 if pair in parted else 2}}{pair[1]}"
    return f"{drawn}]"


def _together(pair: tuple[str, str], level: Partition) -> bool:
    return any(pair[0] in part and pair[1] in part for part in level)


def global_plan(tasks: Sequence[str], layers: int) -> Plan:
    """Return the plan in which all tasks share everything."""
    return Plan(tuple(tasks), ((frozenset(tasks),),) * (layers + 1))


def independent_plan(tasks: Sequence[str], layers: int) -> Plan:
    """Return the plan in which each task has its own encoder: the baseline that sharing must beat."""
    return Plan(tuple(tasks), (tuple(frozenset([task]) for task in tasks),) * (layers + 1))
