"""Training what is not there yet: complete runs are reused, interrupted ones go on, several may train at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import yaml
from rich.console import Console

from polytask.api import train
from polytask.comparison.preparation import Planned, Prepared
from polytask.errors import Interrupted, PolytaskError, TrainingError, UserError
from polytask.files import write_text
from polytask.launch import Lifeline, lifeline
from polytask.terminal import PlainConsole

_GO_ON = "the same command goes on from there"


@dataclass
class RunStore:
    """The folder of all runs of comparisons, each named by what it is and by the hash of what determines it.

    Attributes:
        trained: runs that this comparison trained.
        reused: runs that were complete before it.
    """

    folder: Path
    trained: int = 0
    reused: int = 0

    def place(self, run: Planned) -> Path:
        """Return the folder of a run; an equal one of another arm is the same run."""
        found = sorted(self.folder.glob(f"*-{run.identity}"))
        return found[0] if found else self.folder / f"{run.label}-{run.identity}"

    def complete(self, folder: Path) -> bool:
        """Whether a run has all that a finished one has."""
        return (folder / "scores.json").is_file() and (folder / "model").is_dir()

    def train_all(self, runs: Sequence[Planned], jobs: int, failed: dict[str, str] | None = None) -> dict[str, Path]:
        """Train what is not complete, and return each run's folder by its hash.

        Args:
            failed: is given, by hash, why a run cannot go on, and the others are trained; without it that is raised.

        Raises:
            Interrupted: stopped by Ctrl-C, after saving.
            PolytaskError: what a run raised, with its name.
        """
        waiting: dict[Path, Planned] = {}
        places: dict[str, Path] = {}
        for run in runs:
            place = places.setdefault(run.identity, self.place(run))
            if not self.complete(place):
                waiting.setdefault(place, run)
        self.reused += len(places) - len(waiting)
        self.trained += len(waiting)
        console = PlainConsole(stderr=True, soft_wrap=True)
        if jobs > 1:
            _Crew(waiting, jobs, console, failed).work()
        else:
            for number, (place, run) in enumerate(waiting.items(), start=1):
                _tell(console, f"run {number} of {len(waiting)}: {place.name}, seed {run.config.train.seed}")
                try:
                    _train_here(run, place)
                except TrainingError as error:
                    if failed is None:
                        raise
                    failed[run.identity] = str(error)
        return places


def _tell(console: Console, text: str) -> None:
    console.print(text)


def _train_here(run: Planned, place: Path) -> None:
    try:
        train(run.config, place, resume=place.is_dir())
    except Interrupted as error:
        raise Interrupted(f"{place.name}: {str(error).removesuffix('; go on with --resume')}; {_GO_ON}") from None
    except PolytaskError as error:
        raise type(error)(f"{place}: {error}") from None


class _Crew:
    """Several subprocesses, each with its part of the processor's cores."""

    def __init__(
        self, waiting: Mapping[Path, Planned], jobs: int, console: Console, excused: dict[str, str] | None = None
    ) -> None:
        self._left = list(waiting.items())
        self._identities = {place: run.identity for place, run in waiting.items()}
        self._excused = excused
        self._total, self._jobs, self._console = len(waiting), jobs, console
        self._running: dict[Path, subprocess.Popen[bytes]] = {}
        self._tied = Lifeline(None)
        self._stopping = False
        self._failed: tuple[Path, int] | None = None

    def work(self) -> None:
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
            raise Interrupted(f"stopped, and saved; {_GO_ON}")

    def _work(self) -> None:
        while self._running or (self._left and not self._stopping and self._failed is None):
            while self._left and len(self._running) < self._jobs and not self._stopping and self._failed is None:
                self._start()
            self._collect()
            time.sleep(0.05)

    def _start(self) -> None:
        place, run = self._left.pop(0)
        number = self._total - len(self._left)
        _tell(self._console, f"run {number} of {self._total}: {place.name}, seed {run.config.train.seed}")
        place.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(run.config.to_json(), sort_keys=False, allow_unicode=True)
        write_text(place / "config.yaml", text)
        threads = str(max(1, (os.cpu_count() or 1) // self._jobs))
        command = [sys.executable, "-m", "polytask", "train", str(place / "config.yaml"), "--out", str(place)]
        with (place / "log.txt").open("ab") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": threads}
            self._running[place] = self._tied.start([*command, "--resume"], environment, log)

    def _collect(self) -> None:
        for place, process in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            del self._running[place]
            if code == 0:
                _tell(self._console, f"done: {place.name}")
            elif code == 130 and self._stopping:
                continue
            elif code == 1 and self._excused is not None:
                self._excused[self._identities[place]] = self._reason(place)
            elif self._failed is None:
                self._failed = (place, code)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Ask every run to finish its step and to save; asked twice, they stop at once."""
        del frame
        self._stopping = True
        _tell(self._console, "stopping after each run's step; press Ctrl-C again to stop at once without saving")
        for process in self._running.values():
            process.send_signal(number)

    def _explain(self, place: Path, code: int) -> None:
        kind = UserError if code == 2 else TrainingError
        raise kind(self._reason(place))

    def _reason(self, place: Path) -> str:
        """Return why a run failed, as its log says."""
        lines = (place / "log.txt").read_text("utf-8", errors="replace").strip().splitlines()
        last = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")
        return f"{place}: {last.removeprefix('error: ')}; all it said is in {place / 'log.txt'}"


def plan_arm(arm: Prepared, seed: int, teachers: Sequence[Path]) -> list[Planned]:
    """Return an arm's runs with a seed, one a model."""
    return [part.seeded(seed, teachers) for part in arm.parts]


def run_arms(
    prepared: Mapping[str, Prepared], seeds: Mapping[str, Sequence[int]], store: RunStore, jobs: int
) -> dict[str, dict[int, list[Path]]]:
    """Train every arm with each of its seeds, and return the folders: by arm, by seed, one a model of the arm.

    Args:
        seeds: by arm; the baseline has those of all arms.
    """
    planned: dict[str, dict[int, list[Planned]]] = {}
    places: dict[str, Path] = {}

    def plan(name: str, teachers: Mapping[int, Sequence[Path]]) -> list[Planned]:
        planned[name] = {seed: plan_arm(prepared[name], seed, teachers.get(seed, ())) for seed in seeds[name]}
        return [run for runs in planned[name].values() for run in runs]

    def folders(name: str) -> dict[int, list[Path]]:
        return {seed: [places[run.identity] for run in runs] for seed, runs in planned[name].items()}

    # Teachers first: what they teach cannot begin before they are done.
    first = [run for name, found in prepared.items() if not found.arm.has_teachers for run in plan(name, {})]
    places |= store.train_all(first, jobs)
    second = [
        run for name, found in prepared.items() if found.arm.has_teachers for run in plan(name, folders("single"))
    ]
    places |= store.train_all(second, jobs) if second else {}
    return {name: folders(name) for name in prepared}
