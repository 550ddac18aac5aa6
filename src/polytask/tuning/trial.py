"""One trial: an ordinary run that reports its evaluations to the study, which may stop it early."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polytask.api import train
from polytask.config import Config
from polytask.errors import OutputError, TrainingError, UserError
from polytask.tuning.folder import evaluations_of, is_complete, keep_only, trial_folder
from polytask.tuning.study import Study


class TrialPruned(Exception):
    """The trial is not worth continuing."""


class Reporter:
    """A callback of a run that reports the rating of each evaluation to the study.

    Attributes:
        diverged: whether the run reported that it cannot be trained.
    """

    def __init__(self, study: Study, number: int, run: Path) -> None:
        self._study, self._number, self._run = study, number, run
        self._steps = 0
        self.diverged = False

    def __call__(self, event: str, step: int, values: Mapping[str, Any], /) -> None:
        if event in ("start", "resume"):
            self._steps = int(values["steps"])
        self.diverged = self.diverged or event == "failed"
        if event != "evaluation":
            return
        # The log holds all earlier evaluations, including those before an interruption.
        stop = self._study.report(self._number, len(evaluations_of(self._run)) + 1, float(values["rating"]))
        if stop and step < self._steps:  # after the last one nothing is saved by stopping
            raise TrialPruned(f"worse than the median of the trials before it after step {step} of {self._steps}")


def run_trial(folder: Path, study: Study, number: int, config: Config) -> None:
    """Train or resume a trial, and report the result to the study.

    Raises:
        Interrupted: stopped by Ctrl-C, after saving.
        TrainingError: for a reason other than the trial's values, such as a full disk; the trial can be resumed.
    """
    run = trial_folder(folder, number)
    if not is_complete(run):
        reporter = Reporter(study, number, run)
        try:
            train(config, run, resume=run.is_dir(), callbacks=[reporter])
        except TrialPruned as ended:
            study.prune(number, str(ended))
        except TrainingError as error:
            if not reporter.diverged:
                raise
            study.prune(number, f"failed: {error}")
        except OutputError:
            raise
        except UserError as error:
            if run.is_dir() and evaluations_of(run):  # it was trained before, so its values are valid
                raise
            study.prune(number, f"refused: {error}")
        if not is_complete(run):
            keep_only(folder, (), [number])
            return
    study.complete(number, max(evaluations_of(run)))
