"""Several trials at once: each in a process of its own, with its part of the processor's cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import yaml
from rich.console import Console

from polytask.config import Config, load_config
from polytask.errors import Interrupted, TrainingError, UserError
from polytask.files import read_json, write_text
from polytask.launch import Lifeline, lifeline
from polytask.tuning.folder import SETTINGS, trial_folder
from polytask.tuning.study import Study, quiet
from polytask.tuning.trial import run_trial

GO_ON = "the same command goes on from there"


class Crew:
    """The processes of a search.

    Args:
        next_trial: gives the next trial and its configuration; None when there is none left.
        ended: is told each trial that has ended.
    """

    def __init__(
        self,
        folder: Path,
        jobs: int,
        console: Console,
        next_trial: Callable[[], tuple[int, Config] | None],
        ended: Callable[[int], None],
    ) -> None:
        self._folder, self._jobs, self._console = folder, jobs, console
        self._next_trial, self._ended = next_trial, ended
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._tied = Lifeline(None)
        self._over = False  # no further trial is to begin
        self._stopping = False
        self._failed: tuple[int, int] | None = None

    def work(self) -> None:
        """Run all trials. Raises Interrupted after a requested stop, and what a trial failed with."""
        before = [(number, signal.signal(number, self._stop)) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            with lifeline() as self._tied:
                self._work()
        finally:
            for number, handler in before:
                signal.signal(number, handler)
        if self._failed is not None:
            self._explain(*self._failed)
        if self._stopping:
            raise Interrupted(f"stopped, and saved; {GO_ON}")

    def _work(self) -> None:
        while self._running or not self._over:
            while not self._over and len(self._running) < self._jobs:
                trial = self._next_trial()
                if trial is None:
                    self._over = True
                else:
                    self._start(*trial)
            self._collect()
            time.sleep(0.05)

    def _start(self, number: int, config: Config) -> None:
        run = trial_folder(self._folder, number)
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / "config.yaml", yaml.safe_dump(config.to_json(), sort_keys=False, allow_unicode=True))
        threads = str(max(1, (os.cpu_count() or 1) // self._jobs))
        command = [sys.executable, "-m", "polytask", "tune-trial", str(self._folder), str(number)]
        with (run / "log.txt").open("ab") as log:
            self._running[number] = self._tied.start(command, {**os.environ, "OMP_NUM_THREADS": threads}, log)

    def _collect(self) -> None:
        for number, process in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            del self._running[number]
            if code == 0:
                self._ended(number)
            elif not (code == 130 and self._stopping) and self._failed is None:
                self._failed, self._over = (number, code), True

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Ask every trial to finish its step and to save; asked twice, they stop at once."""
        del frame
        self._stopping = self._over = True
        self._console.print(
            "stopping after each trial's step; press Ctrl-C again to stop at once without saving", soft_wrap=True
        )
        for process in self._running.values():
            process.send_signal(number)

    def _explain(self, number: int, code: int) -> None:
        log = trial_folder(self._folder, number) / "log.txt"
        lines = log.read_text("utf-8", errors="replace").strip().splitlines()
        last = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")
        kind = UserError if code == 2 else TrainingError
        raise kind(f"trial {number}: {last.removeprefix('error: ')}; all it said is in {log}; then {GO_ON}")


def work_on_trial(folder: Path, number: int) -> None:
    """Train one trial of a search, which the process that holds the folder has begun."""
    with quiet():
        study = Study(folder, (), 0, prune=read_json(folder / SETTINGS)["prune"])
        run_trial(folder, study, number, load_config(trial_folder(folder, number) / "config.yaml"))
