"""Gates: when a task is ready for those that need it, based on rows seen and dev scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from polytask.tasks.gate import GateOptions
from polytask.tasks.metric import smaller_is_better

# Tolerance for rounding, in epochs.
SLACK = 1e-9
DevTable: TypeAlias = Mapping[str, Mapping[str, float | None]]


@dataclass
class Progress:
    """The progress of a gate's task.

    Attributes:
        rows: number of rows that the task has drawn.
        best: its best normalised dev score.
        since_best: evaluations since then, counting only those before which it trained.
        trained: whether it drew rows since the last evaluation.
        opened: reason why the gate opened, or None.
    """

    rows: int = 0
    best: float | None = None
    since_best: int = 0
    trained: bool = False
    opened: str | None = None


@dataclass
class Gate:
    """The gate of one task.

    Attributes:
        size: number of the task's training rows.
        limit: epochs over these rows after which the gate opens, or the run stops.
    """

    options: GateOptions
    size: int
    limit: float
    progress: Progress = field(default_factory=Progress)

    @property
    def is_open(self) -> bool:
        """Whether the task is ready for those that need it."""
        return self.progress.opened is not None

    @property
    def epochs(self) -> float:
        """Epochs over the task's rows."""
        return self.progress.rows / self.size

    @property
    def latest(self) -> float:
        """Epochs after which the gate is open regardless of scores."""
        return min(self.limit, self.limit if self.options.epochs is None else self.options.epochs)

    def describe(self) -> str:
        """Describe when the gate opens."""
        chosen = self.options
        conditions = [f"{metric} of {wanted:g} on dev" for metric, wanted in (chosen.score or {}).items()]
        if chosen.plateau is not None:
            conditions.append(f"{chosen.plateau} evaluations without a better dev score")
        if chosen.epochs is not None and chosen.epochs <= self.limit:
            return " or ".join([*conditions, f"{chosen.epochs:g} epochs"])
        end = "it counts as ready" if chosen.on_limit == "continue" else "the run ends"
        return f"{' or '.join(conditions)}; after {self.limit:g} epochs without, {end}"

    def count(self, rows: int) -> str | None:
        """Count drawn rows, and return the reason if the gate opens. The caller has to check the limit."""
        self.progress.rows += rows
        self.progress.trained = self.progress.trained or rows > 0
        wanted = self.options.epochs
        return self._open(f"{wanted:g} epochs") if wanted is not None and self.epochs >= wanted - SLACK else None

    def evaluated(self, scores: Mapping[str, float | None], normalised: float) -> str | None:
        """Process dev scores, and return the reason if the gate opens. An evaluation without training is ignored."""
        if not self.progress.trained or self.is_open:
            return None
        self.progress.trained = False
        if self.progress.best is None or normalised > self.progress.best:
            self.progress.best, self.progress.since_best = normalised, 0
        elif self.progress.best != 0:  # 0 is the majority baseline: the task has not begun to learn
            self.progress.since_best += 1
        for metric, wanted in (self.options.score or {}).items():
            score = scores.get(metric)
            if score is not None and (score <= wanted if smaller_is_better(metric) else score >= wanted):
                return self._open(f"{metric} {score:.4f} on dev")
        if self.options.plateau is not None and self.progress.since_best >= self.options.plateau:
            return self._open(f"no better dev score in {self.progress.since_best} evaluations")
        return None

    def at_limit(self) -> bool:
        """Whether the limit is reached and the gate is still closed."""
        return not self.is_open and self.epochs >= self.limit - SLACK

    def give_up(self) -> str:
        """Open at the limit."""
        return self._open(f"limit of {self.limit:g} epochs") or ""

    def _open(self, reason: str) -> str | None:
        if self.is_open:
            return None
        self.progress.opened = reason
        return reason


@dataclass(frozen=True)
class GateOpening:
    """A gate that opened, or one that ends the run."""

    task: str
    reason: str
    stops: bool = False


class Gates:
    """All gates of a run.

    Args:
        sizes: number of training rows of each task.
        needs: for each task, the tasks that it needs.
        options: the options of gates; the gate of a task without options opens after `default` epochs.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        needs: Mapping[str, Sequence[str]],
        options: Mapping[str, GateOptions],
        *,
        default: float,
    ) -> None:
        self._needs = needs
        self.gates: dict[str, Gate] = {}
        for task, size in sizes.items():
            chosen = options.get(task) or GateOptions(epochs=default)
            limit = chosen.limit if chosen.limit is not None else max(default, chosen.epochs or 0.0)
            self.gates[task] = Gate(chosen, size, limit)

    def ready(self) -> tuple[str, ...]:
        """Return the tasks for which the gates of all needed tasks are open."""
        return tuple(task for task in self.gates if all(self.gates[need].is_open for need in self._needs.get(task, ())))

    def awaited(self) -> set[str]:
        """Return the tasks that others wait for."""
        return {need for needs in self._needs.values() for need in needs if not self.gates[need].is_open}

    def count(self, rows: Mapping[str, int]) -> list[GateOpening]:
        """Count the rows of a step."""
        openings: list[GateOpening] = []
        for task, number in rows.items():
            gate = self.gates[task]
            reason = gate.count(number)
            if reason is not None:
                openings.append(GateOpening(task, reason))
            elif gate.at_limit():
                stops = gate.options.on_limit == "stop"
                openings.append(GateOpening(task, gate.give_up(), stops))
        return openings

    def evaluated(self, scores: DevTable, normalised: Mapping[str, float]) -> list[GateOpening]:
        """Process the dev scores of an evaluation."""
        reasons = {
            task: gate.evaluated(scores.get(task, {}), normalised[task])
            for task, gate in self.gates.items()
            if task in normalised
        }
        return [GateOpening(task, reason) for task, reason in reasons.items() if reason is not None]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        return {task: dict(gate.progress.__dict__) for task, gate in self.gates.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        for task, values in state.items():
            self.gates[task].progress = Progress(**values)
