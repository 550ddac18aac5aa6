"""The runs of a search, with their costs and dev scores. They never see test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from polytask.assemble import assemble
from polytask.comparison.budget import planned
from polytask.comparison.predictions import read_record
from polytask.comparison.preparation import ArmModel, PlannedRun, TaskScoring, part_of
from polytask.comparison.runs import RunStore
from polytask.config import Config
from polytask.model.parameters import count_parameters


@dataclass(frozen=True)
class Trial:
    """One run of a search.

    Attributes:
        cost: cost in trainings of the configuration.
        size, passes: size and passes of its model, relative to one that shares everything.
    """

    name: str
    run: PlannedRun
    cost: float
    size: float
    passes: float
    judged: Mapping[str, TaskScoring]


@dataclass
class Trials:
    """The runs of a search, in a store that reuses complete ones.

    Attributes:
        rows: rows that pass the encoder in a training of the configuration.
        parameters: number of parameters of a model that shares everything.
        costs: costs of the runs so far, by identity.
        others: costs of work outside the store: the measurement of relatedness, steps of the ladder.
        failed: reasons of the runs that could not be trained, by identity.
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
        """Cost of the search so far, including reused runs."""
        return sum(self.costs.values()) + sum(self.others.values())

    def plan(self, name: str, config: Config, teachers: Sequence[Path] = ()) -> Trial:
        """Assemble a run and compute its cost. Raises UserError for invalid input."""
        key = str(config.to_json())
        if key not in self._known:
            assembly = assemble(config)
            budget = planned(assembly)
            size = count_parameters(assembly.model).total / self.parameters
            rows = budget.steps * budget.batch_size
            self._known[key] = part_of(name, assembly), rows, size, assembly.model.passes()
        model, rows, size, passes = self._known[key]
        arm_model = replace(model, label=name, config=config)
        return Trial(name, arm_model.seeded(self.seed, teachers), rows / self.rows, size, passes, model.judged)

    def train(self, trials: Sequence[Trial], *, keep_models: bool) -> None:
        """Train the missing runs; a run that cannot be trained is recorded as failed, and the others continue.

        Args:
            trials: the runs.
            keep_models: whether later stages read the models, and not only scores and predictions.

        Raises:
            Interrupted: stopped by Ctrl-C, after saving.
            UserError: an error that is not due to a single run.
        """
        for trial in trials:
            self.costs[trial.run.identity] = trial.cost
        self.store.train_all([trial.run for trial in trials], self.jobs, self.failed, keep_models=keep_models)

    def has_failed(self, trial: Trial) -> bool:
        """Whether a run could not be trained."""
        return trial.run.identity in self.failed

    def is_scored(self, trial: Trial) -> bool:
        """Whether a run is finished; its model may have been deleted."""
        return self.store.scored(self.folder(trial))

    def folder(self, trial: Trial) -> Path:
        """Return the folder of a run."""
        return self.store.place(trial.run)

    def scores(self, trial: Trial) -> dict[str, float | None]:
        """Return the main dev score of each task."""
        dev_scores: dict[str, Any] = read_record(self.folder(trial), "scores.json")["dev"]
        return {task: dev_scores[task][judged.metric] for task, judged in trial.judged.items()}

    def seconds_of_one(self) -> float | None:
        """Return the estimated seconds of one training of the configuration; None if unknown."""
        seconds, cost = 0.0, 0.0
        for identity, each in self.costs.items():
            for folder in self.store.folder.glob(f"*-{identity}"):
                if self.store.scored(folder):
                    seconds += float(read_record(folder, "run.json")["seconds"])
                    cost += each
        return seconds / cost if cost else None
