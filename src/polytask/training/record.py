"""What is counted while a run goes on: what each task has seen, and the losses between two lines of the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from polytask.data.encode import Source
from polytask.data.stream import Drawn


@dataclass
class Exposure:
    """What one task has seen."""

    rows: int = 0
    tokens: int = 0


@dataclass
class Window:
    """What was measured since the last line of the event log."""

    losses: dict[str, float] = field(default_factory=dict[str, float])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    norm: float = 0.0

    def add(self, losses: Mapping[str, float], norm: float) -> None:
        """Count one step."""
        for task, loss in losses.items():
            self.losses[task] = self.losses.get(task, 0.0) + loss
            self.counts[task] = self.counts.get(task, 0) + 1
        self.norm = norm

    def means(self) -> dict[str, float]:
        """Return each task's mean loss."""
        return {task: loss / self.counts[task] for task, loss in self.losses.items()}


class Exposures:
    """What all tasks have seen."""

    def __init__(self, tasks: Sequence[str], sources: Sequence[Source]) -> None:
        self._sources = sources
        self._seen = {task: Exposure() for task in tasks}

    def count(self, drawn: Sequence[Drawn]) -> int:
        """Count the rows of a step, and return its tokens."""
        tokens = 0
        for one in drawn:
            length = int(self._sources[one.source].lengths[one.row])
            tokens += length
            for task in one.tasks:
                self._seen[task].rows += 1
                self._seen[task].tokens += length
        return tokens

    def to_json(self) -> dict[str, dict[str, float]]:
        """Return rows, tokens and epochs of its own data that each task has seen."""
        sizes = {task: len(source.carries[task]) for source in self._sources for task in source.tasks}
        return {
            task: {"rows": seen.rows, "tokens": seen.tokens, "epochs": round(seen.rows / sizes[task], 4)}
            for task, seen in self._seen.items()
        }

    def state_dict(self) -> dict[str, list[int]]:
        """Return the counts as JSON."""
        return {task: [seen.rows, seen.tokens] for task, seen in self._seen.items()}

    def load_state_dict(self, state: Mapping[str, Sequence[int]]) -> None:
        """Go on from saved counts."""
        self._seen = {task: Exposure(*seen) for task, seen in state.items()}
