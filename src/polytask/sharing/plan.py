"""The sharing plan: for the embeddings and every layer, which tasks use the same weights. A value without tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Part: TypeAlias = frozenset[str]
Partition: TypeAlias = tuple[Part, ...]


@dataclass(frozen=True)
class Plan:
    """A tree of parts: `levels[0]` divides the tasks at the embeddings, `levels[k]` at layer k.

    Each level covers every task once and refines the level below it.

    Attributes:
        tasks: all tasks, in the order in which they are shown.
        levels: number of layers + 1 partitions.
    """

    tasks: tuple[str, ...]
    levels: tuple[Partition, ...]

    def __post_init__(self) -> None:
        for number, level in enumerate(self.levels):
            where = f"layer {number}" if number else "the embeddings"
            listed = sorted(task for part in level for task in part)
            if listed != sorted(self.tasks):
                raise ValueError(f"{where}: the parts hold {listed}; each of {sorted(self.tasks)} stands in one part")
            if not all(level):
                raise ValueError(f"{where}: a part without tasks")
            below = self.levels[number - 1] if number else level
            for part in level:
                if not any(part <= other for other in below):
                    raise ValueError(
                        f"{where}: {sorted(part)} share weights above a layer that separates them; "
                        "tasks that part do not meet again"
                    )

    @property
    def trunks(self) -> Partition:
        """The parts of the embeddings: tasks in different trunks share nothing."""
        return self.levels[0]

    def picture(self) -> str:
        """Draw the plan, the top layer first.

        >>> print(global_plan(["a", "b"], 2).picture())
        layer 1-2   [a  b]
        embeddings  [a  b]
        """
        runs: list[tuple[int, int, Partition]] = []
        for number, level in enumerate(self.levels):
            if runs and number > 1 and runs[-1][2] == level:
                runs[-1] = (runs[-1][0], number, level)
            else:
                runs.append((number, number, level))
        rows = [(_name_of(first, last), self._draw(level)) for first, last, level in reversed(runs)]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {drawn}" for name, drawn in rows)

    def _draw(self, level: Partition) -> str:
        ordered = sorted(level, key=lambda part: min(self.tasks.index(task) for task in part))
        shown = ["  ".join(task for task in self.tasks if task in part) for part in ordered]
        return " ".join(f"[{names}]" for names in shown)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        levels = [[[task for task in self.tasks if task in part] for part in level] for level in self.levels]
        return {"tasks": list(self.tasks), "levels": levels}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        """Rebuild a plan from `to_json`."""
        levels = tuple(tuple(frozenset(part) for part in level) for level in data["levels"])
        return cls(tuple(data["tasks"]), levels)


def _name_of(first: int, last: int) -> str:
    if first == 0:
        return "embeddings"
    return f"layer {first}" if first == last else f"layer {first}-{last}"


def global_plan(tasks: Sequence[str], layers: int) -> Plan:
    """All tasks share everything."""
    return Plan(tuple(tasks), ((frozenset(tasks),),) * (layers + 1))


def independent_plan(tasks: Sequence[str], layers: int) -> Plan:
    """Each task has an encoder of its own: the baseline that sharing must beat."""
    return Plan(tuple(tasks), (tuple(frozenset([task]) for task in tasks),) * (layers + 1))
