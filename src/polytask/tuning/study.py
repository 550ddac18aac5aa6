"""The trials of a search, in Optuna's journal: a file that several processes append to, and that survives crashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from polytask.files import write_text
from polytask.regular import read_bytes
from polytask.tuning.space import Choices, SearchAxis

JOURNAL = "journal.log"
_NAME = "polytask"
# Number of random trials before the sampler uses results, and number of trials before any is pruned.
RANDOM_TRIALS = 8
UNPRUNED_TRIALS = 5
# Least number of complete trials for computing importances.
FEWEST_FOR_IMPORTANCE = 4


@contextmanager
def quiet() -> Generator[None]:
    """Keep Optuna from printing a line for each trial; polytask prints its own."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def distribution_of(axis: SearchAxis) -> BaseDistribution:
    """Return the Optuna distribution of an axis."""
    values = axis.values
    if isinstance(values, Choices):
        return CategoricalDistribution(values.texts)
    if values.kind == "int":
        last = values.examples()[-1]  # the greatest number that the steps reach
        return IntDistribution(int(values.low), int(last), step=values.step)
    return FloatDistribution(values.low, values.high, log=values.kind == "log")


class Study:
    """The trials so far: suggests the next one, and records the results.

    A suggestion only depends on the seed, the number of the trial and the trials before it, so an interrupted search
    continues as if it had not been interrupted.
    """

    def __init__(self, folder: Path, axes: Sequence[SearchAxis], seed: int, *, prune: bool) -> None:
        self.axes = tuple(axes)
        self._seed = seed
        storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        self._study = optuna.create_study(
            storage=storage, study_name=_NAME, direction="maximize", load_if_exists=True, pruner=_pruner(prune=prune)
        )

    def trials(self) -> list[FrozenTrial]:
        """Return all trials in the order of their numbers."""
        return self._study.get_trials(deepcopy=False)

    def running(self) -> list[int]:
        """Return the trials that were begun but have not ended."""
        return [trial.number for trial in self.trials() if trial.state == TrialState.RUNNING]

    def values(self, number: int) -> dict[str, Any]:
        """Return the values of a trial's options by path, as used in its configuration."""
        parameters = self.trials()[number].params
        return {axis.path: axis.values.value_of(parameters[axis.path]) for axis in self.axes}

    def begin(self, first: Mapping[str, Any] | None) -> int:
        """Add a trial and return its number. It is one line of the journal, so there is never an incomplete trial.

        Args:
            first: parameters of trial 0; without them, and for all other trials, the sampler suggests parameters.
        """
        trials = self.trials()
        space = {axis.path: distribution_of(axis) for axis in self.axes}
        parameters = dict(first) if first is not None and not trials else self._suggest(trials, space)
        self._study.add_trial(create_trial(state=TrialState.RUNNING, params=parameters, distributions=space))
        return len(trials)

    def _suggest(self, trials: Sequence[FrozenTrial], space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
        digest = hashlib.sha256(f"{self._seed}/{len(trials)}".encode()).digest()
        seed = int.from_bytes(digest[:4])
        sampler = TPESampler(seed=seed, multivariate=True, n_startup_trials=RANDOM_TRIALS)
        # A copy in memory, since suggestions must not reach the journal one option at a time.
        copy = optuna.create_study(direction="maximize", sampler=sampler)
        copy.add_trials(trials)
        return copy.ask(dict(space)).params

    def report(self, number: int, evaluation: int, value: float) -> bool:
        """Record the rating of an evaluation, and return whether to stop the trial."""
        trial = Trial(self._study, self.trials()[number]._trial_id)  # pyright: ignore[reportPrivateUsage]
        if (
            evaluation not in self.trials()[number].intermediate_values
        ):  # an interrupted run may have reported it already
            trial.report(value, evaluation)
        return trial.should_prune()

    def complete(self, number: int, value: float) -> None:
        """End a trial with the best value of its evaluations."""
        self._study.tell(number, value)

    def prune(self, number: int, reason: str) -> None:
        """End a trial that is not worth continuing, with the reason."""
        trial = self.trials()[number]
        self._study._storage.set_trial_user_attr(trial._trial_id, "reason", reason)  # pyright: ignore[reportPrivateUsage]
        self._study.tell(number, state=TrialState.PRUNED)

    def importance(self) -> dict[str, float] | None:
        """Return the share of the values' variance over complete trials that each option explains (fANOVA).

        None if too few trials are complete, or all have the same value.
        """
        complete = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        if len(complete) < FEWEST_FOR_IMPORTANCE or len({trial.value for trial in complete}) == 1:
            return None
        evaluator = FanovaImportanceEvaluator(seed=self._seed % 2**32)
        try:
            importances = get_param_importances(self._study, evaluator=evaluator)
        except RuntimeError:  # no tree of the forest found anything to divide
            return None
        return {path: round(float(share), 4) for path, share in importances.items()}


def _pruner(*, prune: bool) -> BasePruner:
    # Median rather than Hyperband: a search has tens of trials with a handful of evaluations each, and Hyperband's
    # brackets would each be too small for comparisons.
    return MedianPruner(n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=0) if prune else NopPruner()


def mend_journal(folder: Path) -> None:
    """Repair what a killed process may leave behind: an incomplete line at the end of the journal, and a lock on it.

    The caller holds the folder's lock, so no other process writes.
    """
    path = folder / JOURNAL
    for lock in folder.glob(f"{JOURNAL}.lock*"):
        with suppress(OSError):
            lock.unlink()
    try:
        text = read_bytes(path)
    except FileNotFoundError:
        return
    complete_lines = [line for line in text.split(b"\n")[:-1] if _is_record(line)]
    repaired = b"".join(line + b"\n" for line in complete_lines)
    if repaired != text:
        write_text(path, repaired.decode("utf-8"))


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
