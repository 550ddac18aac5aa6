"""Restarts of a training run after one of its processes was lost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from polytask.errors import ProcessLost


class Restarts:
    """Restarts a training run from its last checkpoint; each new checkpoint resets the number of restarts.

    Args:
        limit: maximum number of restarts without a new checkpoint in between.
        run: folder of the run.
        resume: whether the command was given --resume.
    """

    def __init__(self, limit: int, run: Path, *, resume: bool) -> None:
        self._limit = limit
        self._run = run
        self._resumes = resume
        # If the folder holds a run already and --resume was not given, the first process refuses it each time.
        self._own = not _holds_a_run(run)

    def run(self, start: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
        """Run a training to its end, restarting it where needed, and return its exit code.

        Args:
            start: runs `polytask <arguments>` and raises ProcessLost if a process was lost.
            arguments: command-line arguments of `polytask`.

        Raises ProcessLost if no restart is left.
        """
        restarts_left, last_step = self._limit, newest_step(self._run)
        while True:
            try:
                return start(arguments)
            except ProcessLost as error:
                step = newest_step(self._run)
                if step > last_step:
                    restarts_left, last_step = self._limit, step
                if not restarts_left or _is_complete(self._run):
                    raise
                restarts_left -= 1
                action = (
                    f"continue from the checkpoint of step {step}" if step else "start over: there is no checkpoint"
                )
                sys.stderr.write(
                    f"{error.description}: all processes {action} (restarts left: {restarts_left} of {self._limit})\n"
                )
                sys.stderr.flush()
            if self._own and not self._resumes:
                self._resumes = True
                arguments = [arguments[0], "--resume", *arguments[1:]]


def newest_step(run: Path) -> int:
    """Return the step of the newest checkpoint in the folder of a run; 0 if there is none."""
    steps = [path.name.removeprefix("step-") for path in run.glob("checkpoints/step-*")]
    return max((int(step) for step in steps if step.isdecimal()), default=0)


def _holds_a_run(run: Path) -> bool:
    return (run / "events.jsonl").exists() or (run / "config.yaml").exists()


def _is_complete(run: Path) -> bool:
    return (run / "model").exists()
