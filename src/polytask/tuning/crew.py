"""Several trials in parallel: each in a process of its own, with a share of the CPU cores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml
from rich.console import Console

from polytask.config import Config, load_config
from polytask.crew import Crew, ProcessJob
from polytask.files import read_json, write_text
from polytask.tuning.folder import SETTINGS, trial_folder
from polytask.tuning.study import Study, quiet
from polytask.tuning.trial import run_trial


class TrialCrew(Crew[int]):
    """The processes of a search.

    Args:
        next_trial: returns the next trial and its configuration, or None if no trial is left.
        ended: called with the number of each trial that has ended.
    """

    def __init__(
        self,
        folder: Path,
        jobs: int,
        console: Console,
        next_trial: Callable[[], tuple[int, Config] | None],
        ended: Callable[[int], None],
        *,
        ray: bool,
    ) -> None:
        super().__init__(jobs, console, ray=ray)
        self._folder, self._next_trial, self._ended = folder, next_trial, ended

    def next_job(self) -> ProcessJob[int] | None:
        trial = self._next_trial()
        if trial is None:
            return None
        number, config = trial
        run = trial_folder(self._folder, number)
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / "config.yaml", yaml.safe_dump(config.to_json(), sort_keys=False, allow_unicode=True))
        return ProcessJob(number, ("tune-trial", str(self._folder), str(number)), run / "log.txt")

    def end(self, job: ProcessJob[int], code: int) -> bool:
        if code == 0:
            self._ended(job.key)
        return code == 0


def work_on_trial(folder: Path, number: int) -> None:
    """Train one trial of a search, which the process that holds the folder's lock has added."""
    with quiet():
        study = Study(folder, (), 0, prune=read_json(folder / SETTINGS)["prune"])
        run_trial(folder, study, number, load_config(trial_folder(folder, number) / "config.yaml"))
