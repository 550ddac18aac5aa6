"""Learning rates in a search: every model is tried at multiples of the rates that it would use without one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from searching import tasks_on

import polytask
from polytask.assemble import assemble
from polytask.config import validate
from polytask.search.outline import RATES
from polytask.search.plans import with_rates
from polytask.search.trials import Trial, Trials
from samples import corpus_rows
from vectors import pairs

ROWS = corpus_rows(12)
Given = tuple[dict[str, Any], Path]


class _Planned(Exception):
    """Raised in place of training."""


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """Collect the runs of the first stage, at which the search ends."""
    trials: list[Trial] = []

    def train(self: Trials, planned: Sequence[Trial], *, keep_models: bool) -> None:
        del self, keep_models
        trials.extend(planned)
        raise _Planned

    monkeypatch.setattr(Trials, "train", train)
    return trials


def rates(trial: Trial) -> tuple[Any, ...]:
    """Return the learning rates that a run would train with, and those that its tasks set."""
    config = assemble(trial.run.config).config
    own = [(task.learning_rate, task.head_learning_rate) for task in config.tasks.values()]
    return (config.train.learning_rate, config.train.head_learning_rate, *own)


def test_multiples_are_of_what_each_model_would_use_itself(given: Given, tmp_path: Path, tried: list[Trial]) -> None:
    values, folder = given
    near = {"type": "embedding", "data": {"train": pairs(24), "dev": pairs(12, start=24)}}
    tasks = {"near": near, "topic": tasks_on(folder)["topic"]}
    with pytest.raises(_Planned):
        polytask.auto({**values, "tasks": tasks}, tmp_path / "out", budget=20)
    by_name = {
        name: [rates(trial) for trial in tried if trial.name == name] for name in ("single-near", "single-topic")
    }
    assert by_name["single-near"][0] != by_name["single-topic"][0]  # `auto` keeps embeddings from forgetting
    for found in by_name.values():
        plain = found[0]
        assert [rate[:2] for rate in found] == [
            (pytest.approx(factor * plain[0]), pytest.approx(factor * plain[1])) for factor in RATES
        ]


def test_rates_of_single_tasks_are_multiplied_too(given: Given, tmp_path: Path, tried: list[Trial]) -> None:
    values, folder = given
    tasks = tasks_on(folder)
    tasks["topic"] |= {"learning_rate": 2e-4, "head_learning_rate": 3e-3}
    with pytest.raises(_Planned):
        polytask.auto({**values, "tasks": tasks}, tmp_path / "out", budget=20)
    singles = [rates(trial)[2] for trial in tried if trial.name == "single-topic"]
    assert singles == [(pytest.approx(factor * 2e-4), pytest.approx(factor * 3e-3)) for factor in RATES]
    joint = [rates(trial)[3] for trial in tried if not trial.name.startswith("single")]
    assert joint == singles
    assert len({trial.run.identity for trial in tried}) == len(tried)


def test_the_configuration_itself_is_factor_1(given: Given) -> None:
    config = validate(given[0])
    assert with_rates(config, (1e-4, 1e-3), 1.0) is config


def test_rows_given_in_python_are_searched(given: Given, tmp_path: Path, tried: list[Trial]) -> None:
    values, folder = given
    tasks = {name: {**task, "data": {"train": ROWS, "dev": ROWS}} for name, task in tasks_on(folder).items()}
    with pytest.raises(_Planned):
        polytask.auto({**values, "tasks": tasks}, tmp_path / "out", budget=20)
    assert tried
