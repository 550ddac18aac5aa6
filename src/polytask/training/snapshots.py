"""The best models so far by dev scores: by the run's selection rule, and for each task if requested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from polytask.model.multitask import MultiTaskModel
from polytask.sharing import HeadGroups, Plan, groups_of
from polytask.terms import Scores
from polytask.training.checkpoint import Checkpoints
from polytask.training.selection import DevScores, Selection


@dataclass(frozen=True)
class Snapshot:
    """A model that was the best when it was evaluated.

    Attributes:
        step: step of the evaluation.
        score: the score by which it was the best.
        dev: its dev scores.
        plan: its sharing plan.
        heads: its groups of tasks that share a head.
        name: name of its weights among the checkpoints; None if they are not on disk.
    """

    step: int
    score: float
    dev: Scores
    plan: Plan
    heads: HeadGroups
    name: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the snapshot as JSON, without its weights."""
        return {**self.__dict__, "plan": self.plan.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Snapshot:
        """Rebuild a snapshot from `to_json`."""
        plan = Plan.from_json(data["plan"])
        return cls(data["step"], data["score"], data["dev"], plan, groups_of(data["heads"]), data["name"])


class Snapshots:
    """Keeps the best weights on disk, or in memory if there is no folder.

    Attributes:
        evaluations: each task's normalised dev score, by step of the evaluation.

    Args:
        selection: decides which evaluation is the best.
        each_task: whether to also keep each task's best model, which needs a folder.
    """

    def __init__(self, checkpoints: Checkpoints | None, selection: Selection, *, each_task: bool) -> None:
        self.selection = selection
        self.best: Snapshot | None = None
        self.by_task: dict[str, Snapshot] = {}
        self.evaluations: dict[int, dict[str, float]] = {}
        self._checkpoints = checkpoints
        self._each_task = each_task and checkpoints is not None
        self._in_memory: dict[str, Tensor] = {}

    def observe(self, step: int, dev: DevScores, model: MultiTaskModel) -> bool:
        """Process an evaluation, keep the weights if they are the best, and return whether they are by the rule."""
        best = self.selection.observe(step, dev)
        self.evaluations[step] = dict(dev.normalised)
        better = [task for task, score in dev.normalised.items() if self._improves(task, score)]
        name: str | None = None
        if self._checkpoints is not None and (best or (better and self._each_task)):
            name = self._checkpoints.save_best(step, model.state_dict())
        elif best:
            self._in_memory = {key: value.clone() for key, value in model.state_dict().items()}
        if best:
            self.best = Snapshot(step, self.selection.rule(dev), dev.scores, model.plan, model.sharing.heads, name)
        kept, heads = name if self._each_task else None, model.sharing.heads
        self.by_task |= {
            task: Snapshot(step, dev.normalised[task], dev.scores, model.plan, heads, kept) for task in better
        }
        return best

    def _improves(self, task: str, score: float) -> bool:
        return task not in self.by_task or score > self.by_task[task].score

    def load(self, model: MultiTaskModel, task: str | None = None) -> None:
        """Load the best weights, of all tasks or of one, into the model, with the plan that they were trained with."""
        snapshot = self.best if task is None else self.by_task[task]
        if snapshot is None:
            return
        if snapshot.name is not None and self._checkpoints is not None:
            weights = self._checkpoints.load_best(snapshot.name, model.state_dict())
        elif self._in_memory:
            weights = self._in_memory
        else:  # only the main process keeps them
            return
        if model.plan != snapshot.plan:
            model.follow(snapshot.plan)
        if model.sharing.heads != snapshot.heads:
            model.share_heads(snapshot.heads)
        model.load_state_dict(weights)

    @property
    def names(self) -> set[str]:
        """Names of the best weights on disk."""
        snapshots = (self.best, *self.by_task.values())
        return {snapshot.name for snapshot in snapshots if snapshot is not None and snapshot.name is not None}

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        return {
            "selection": self.selection.state_dict(),
            "best": None if self.best is None else self.best.to_json(),
            "by_task": {task: snapshot.to_json() for task, snapshot in self.by_task.items()},
            "evaluations": list(self.evaluations.items()),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, is_main: bool) -> None:
        """Restore a saved state; only a process that keeps the best weights restores the snapshots."""
        self.selection.load_state_dict(state["selection"])
        if is_main:
            self.best = None if state["best"] is None else Snapshot.from_json(state["best"])
            self.by_task = {task: Snapshot.from_json(snapshot) for task, snapshot in state["by_task"].items()}
            self.evaluations = dict(state["evaluations"])
