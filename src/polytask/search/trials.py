"""The runs of a search: what each costs, and what it scores on dev rows. They never see a test row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from polytask.assemble import assemble
from polytask.comparison.budget import planned
from polytask.comparison.preparation import ArmModel, PlannedRun, TaskScoring, part_of
from polytask.comparison.runs import RunStore
from polytask.config import Config
from polytask.files import read_json
from polytask.model.parameters import count_parameters


@dataclass(frozen=True)
class Trial:
    """One run of a search.

    Attributes:
        cost: in trainings of the configuration.
        size, passes: of its model, relative to one that shares everything.
    """

    name: str
    run: PlannedRun
    cost: float
    size: float
    passes: float
    judged: Mapping[str, TaskScoring]


@dataclass
class Trials:
    """The runs, in a store in which complete ones are reused.

    Attributes:
        rows: that pass the encoder in a training of the configuration.
        parameters: of one model that shares everything.
        costs: of the runs so far, by identity.
        others: costs of what is no run of the store: the measurement of relatedness, steps of the ladder.
        failed: why a run could not be trained, by identity.
    """

    store: RunStore
    seed: int
    jobs: int
    rows: int
    parameters: int
    console: Console
    costs: dict[str, float] = field(default_factory=dict[str, float])
    others: dict[str, float] = field(default_factory=dict[str, float])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    _known: dict[str, tuple[ArmModel, int, float, float]] = field(
        default_factory=dict[str, tuple[ArmModel, int, float, float]]
    )

    @property
    def spent(self) -> float:
        """What the search has cost so far; runs that were there already count as well."""
        return sum(self.costs.values()) + sum(self.others.values())

    def plan(self, name: str, config: Config, teachers: Sequence[Path] = ()) -> Trial:
        """Assemble a run and say what it costs. Raises UserError for what is wrong with it."""
        key = str(config.to_json())
        if key not in self._known:
            assembly = assemble(config)
            budget = planned(assembly)
            size = count_parameters(assembly.model).total / self.parameters
            rows = budget.steps * budget.batch_size
            self._known[key] = part_of(name, assembly), rows, size, assembly.model.passes()
        model, rows, size, passes = self._known[key]
        named = ArmModel(name, config, model.content, model.judged, model.shares)
        return Trial(name, named.seeded(self.seed, teachers), rows / self.rows, size, passes, model.judged)

    def train(self, trials: Sequence[Trial]) -> None:
        """Train what is not there yet; one that cannot be trained is set down as failed, and the others go on.

        Raises:
            Interrupted: stopped by Ctrl-C, after saving.
            UserError: what no run can be blamed for.
        """
        for trial in trials:
            self.costs[trial.run.identity] = trial.cost
        self.store.train_all([trial.run for trial in trials], self.jobs, self.failed)

    def has_failed(self, trial: Trial) -> bool:
        """Whether a run could not be trained."""
        return trial.run.identity in self.failed

    def folder(self, trial: Trial) -> Path:
        """Return the folder of a run."""
        return self.store.place(trial.run)

    def scores(self, trial: Trial) -> dict[str, float | None]:
        """Return each task's main dev score."""
        found: dict[str, Any] = read_json(self.folder(trial) / "scores.json")["dev"]
        return {task: found[task][judged.metric] for task, judged in trial.judged.items()}

    def seconds_of_one(self) -> float | None:
        """Return the seconds that one training of the configuration takes, as far as the runs tell."""
        seconds, cost = 0.0, 0.0
        for identity, each in self.costs.items():
            for folder in self.store.folder.glob(f"*-{identity}"):
                if self.store.complete(folder):
                    seconds += float(read_json(folder / "run.json")["seconds"])
                    cost += each
        return seconds / cost if cost else None
