"""Starting the processes of a training again after one of them was lost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from polytask.errors import ProcessLost


class Restarts:
    """Starts a training again from its last checkpoint; each new checkpoint makes the number of restarts full again.

    Args:
        limit: restarts without a new checkpoint in between.
        run: the folder of the run.
        resume: whether the command goes on with a run that may be there.
    """

    def __init__(self, limit: int, run: Path, *, resume: bool) -> None:
        self._limit = limit
        self._run = run
        self._resumes = resume
        # Where a run is there already, and nobody asked to go on with it, the first process refuses it, each time.
        self._own = not _holds_a_run(run)

    def run(self, start: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
        """Start a training until it ends by itself, and return its exit code.

        Args:
            start: starts `polytask <arguments>`, waits for its end, and raises ProcessLost where a process was lost.

        Raises ProcessLost when no restart is left.
        """
        left, reached = self._limit, newest_step(self._run)
        while True:
            try:
                return start(arguments)
            except ProcessLost as error:
                step = newest_step(self._run)
                if step > reached:
                    left, reached = self._limit, step
                if not left or _is_complete(self._run):
                    raise
                left -= 1
                place = f"go on from the checkpoint of step {step}" if step else "begin again: there is no checkpoint"
                sys.stderr.write(f"{error.what}: all processes {place} (restarts left: {left} of {self._limit})\n")
                sys.stderr.flush()
            if self._own and not self._resumes:
                self._resumes = True
                arguments = [arguments[0], "--resume", *arguments[1:]]


def newest_step(run: Path) -> int:
    """Return the step of the newest checkpoint in the folder of a run; 0 where there is none."""
    steps = [path.name.removeprefix("step-") for path in run.glob("checkpoints/step-*")]
    return max((int(step) for step in steps if step.isdecimal()), default=0)


def _holds_a_run(run: Path) -> bool:
    return (run / "events.jsonl").exists() or (run / "config.yaml").exists()


def _is_complete(run: Path) -> bool:
    return (run / "model").exists()
