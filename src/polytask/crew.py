"""Parallel runs: one process each with its share of the cores, here or on a Ray cluster; they stop together."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Generic, Protocol, TypeVar

from rich.console import Console

from polytask.errors import Interrupted, TrainingError, UserError
from polytask.launch import Lifeline, lifeline
from polytask.ray_cluster.jobs import ray_starter
from polytask.signals import SAVING, on_signals

GO_ON = "the same command continues from there"
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class ProcessJob(Generic[Key]):
    """A process to start.

    Attributes:
        key: identifier of the job.
        arguments: command-line arguments of `polytask`.
        log: file for its output.
    """

    key: Key
    arguments: tuple[str, ...]
    log: Path


def interrupted(name: str, error: Interrupted) -> Interrupted:
    """Return the error of a run that was stopped as the error of a command that trains several."""
    return Interrupted(f"{name}: {str(error).removesuffix('; go on with --resume')}; {GO_ON}")


class Process(Protocol):
    """A process on this or on another machine."""

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        ...

    def send_signal(self, number: int, /) -> None:
        """Send it a signal."""
        ...


class Starter(Protocol):
    """Starts processes that end together with this one."""

    def start(self, command: Sequence[str], environment: Mapping[str, str], output: IO[bytes], /) -> Process:
        """Start a process and write its stdout and stderr to a file."""
        ...


class Crew(ABC, Generic[Key]):
    """Runs jobs in parallel until none is left; a subclass supplies the jobs and handles their end.

    Args:
        jobs: number of jobs to run at the same time.
        console: where to print messages.
        ray: whether the jobs run on a Ray cluster.
    """

    def __init__(self, jobs: int, console: Console, *, ray: bool = False) -> None:
        self._jobs, self.console, self._ray = jobs, console, ray
        self._running: dict[Process, ProcessJob[Key]] = {}
        self._starter: Starter = Lifeline(None)
        self._over = False  # no further job is to start
        self._stopping = False
        self._failed: tuple[ProcessJob[Key], int] | None = None

    @abstractmethod
    def next_job(self) -> ProcessJob[Key] | None:
        """Return the next job; None if none is left."""

    @abstractmethod
    def end(self, job: ProcessJob[Key], code: int) -> bool:
        """Handle the end of a job, and return whether the others may continue."""

    def work(self) -> None:
        """Run all jobs. Raises Interrupted after a requested stop, and UserError or TrainingError if a job failed."""
        starter = ray_starter(self._jobs) if self._ray else lifeline()
        with starter as self._starter, on_signals(self._stop), on_signals(self._save, SAVING):
            while self._running or not self._over:
                self._fill()
                self._collect()
                time.sleep(0.05)
        if self._failed is not None:
            job, code = self._failed
            raise (UserError if code == 2 else TrainingError)(f"{reason_in(job.log)}; then {GO_ON}")
        if self._stopping:
            raise Interrupted(f"stopped, and saved; {GO_ON}")

    def _fill(self) -> None:
        threads = str(max(1, (os.cpu_count() or 1) // self._jobs))
        while not self._over and len(self._running) < self._jobs:
            job = self.next_job()
            if job is None:
                self._over = True
                return
            job.log.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "polytask", *job.arguments]
            with job.log.open("ab") as log:
                self._running[self._starter.start(command, {**os.environ, "OMP_NUM_THREADS": threads}, log)] = job

    def _collect(self) -> None:
        for process, job in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            del self._running[process]
            if not (code == 130 and self._stopping) and not self.end(job, code) and self._failed is None:
                self._failed, self._over = (job, code), True

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Ask every run to finish its step and save; a second signal stops them at once."""
        del frame
        self._stopping = self._over = True
        self.console.print("stopping after each run's step; press Ctrl-C again to stop at once without saving")
        for process in self._running:
            process.send_signal(number)

    def _save(self, number: int, frame: FrameType | None) -> None:
        """Ask every run to save and continue."""
        del frame
        for process in self._running:
            process.send_signal(number)


def reason_in(log: Path) -> str:
    """Return why a run failed, from its log."""
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    last = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")
    return f"{log.parent}: {last.removeprefix('error: ')}; its full output is in {log}"
