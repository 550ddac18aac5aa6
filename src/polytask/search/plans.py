"""Builds the runs of a search: single and joint models at a fraction of the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.comparison.arms import BASELINE, single_config
from polytask.comparison.budget import Budget
from polytask.comparison.preparation import TaskScoring
from polytask.config import Config, validate, values_of, with_fold
from polytask.search.candidates import Candidate
from polytask.search.options import AutoOptions
from polytask.search.outline import FOLDS
from polytask.search.trials import Trial, Trials


@dataclass(frozen=True, kw_only=True)
class SearchInputs:
    """Inputs of a search.

    Attributes:
        config: configuration without test rows.
        budget: rows and updates of the configuration.
        rates: learning rates of the encoder and of the heads, by task for the single models, and under "" for joint
            ones: `auto` may choose different ones.
        parameters: number of parameters of a model that shares everything.
        words: number of parameters of its word embeddings.
    """

    config: Config
    budget: Budget
    rates: Mapping[str, tuple[float, float]]
    layers: int
    parameters: int
    words: int
    judged: Mapping[str, TaskScoring]
    options: AutoOptions

    @property
    def frozen_words(self) -> float:
        """Size of the weights common to all trunks of a model, relative to one shared encoder."""
        return self.words / self.parameters if self.config.train.freeze_embeddings else 0.0

    @property
    def metrics(self) -> dict[str, str]:
        """Main metric of each task."""
        return {task: judged.metric for task, judged in self.judged.items()}


@dataclass(frozen=True)
class TrialPlans:
    """Builds trials from the inputs of a search."""

    inputs: SearchInputs
    trials: Trials

    def single(self, task: str, share: float, factor: float, fold: int | None = None) -> Trial:
        """Return the trial of a task's single model.

        Args:
            task: name of the task.
            share: fraction of the budget.
            factor: multiple of the learning rates.
            fold: fold of the training rows that it predicts instead of training on it.
        """
        limits = self.inputs.budget.alone(task)
        config = single_config(self.inputs.config, task, {**limits, "epochs": limits["epochs"] * share})
        config = with_rates(config, self.inputs.rates[task], factor)
        return self.trials.plan(f"{BASELINE}-{task}", _without(config, fold))

    def joint(
        self,
        candidate: Candidate,
        share: float,
        factor: float,
        teachers: Sequence[Path] = (),
        fold: int | None = None,
    ) -> Trial:
        """Return the trial of a joint model.

        Args:
            candidate: the way to share.
            share, factor, fold: as in `single`.
            teachers: folders of teachers.
        """
        train = dict[str, Any]()
        options = self.inputs.config.train
        if share < 1:
            train["epochs"] = options.epochs * share
        updates = share if fold is None else share * (1 - 1 / FOLDS)
        if updates < 1 and options.max_steps is not None:
            train["max_steps"] = max(1, round(options.max_steps * updates))
        config = with_rates(candidate.config(self.inputs.config, train), self.inputs.rates[""], factor)
        return self.trials.plan(candidate.name, _without(config, fold), teachers)


def with_rates(config: Config, rates: tuple[float, float], factor: float) -> Config:
    """Return a configuration with learning rates multiplied by a factor, those that single tasks set included.

    Args:
        rates: learning rates of the encoder and of the heads without the factor.
    """
    if factor == 1.0:
        return config
    values, options = values_of(config), ("learning_rate", "head_learning_rate")
    train = {name: _times(rate, factor) for name, rate in zip(options, rates, strict=True)}
    for task in values["tasks"].values():
        task.update({name: _times(task[name], factor) for name in options if task.get(name) is not None})
    return validate({**values, "train": {**values.get("train", {}), **train}})


def _times(rate: float, factor: float) -> float:
    return float(f"{factor * rate:.6g}")


def _without(config: Config, fold: int | None) -> Config:
    return config if fold is None else with_fold(config, fold, FOLDS)
