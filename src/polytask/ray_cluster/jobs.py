"""Runs commands on the machines of a Ray cluster, in place of local processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from polytask.launch import lifeline
from polytask.ray_cluster.session import machines_of, ray_session, share_of
from polytask.signals import STOPPING

_THREADS = "OMP_NUM_THREADS"


def start_python(
    cleanup: ExitStack, arguments: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start this Python with arguments on the machine of an actor.

    Args:
        cleanup: the process ends when this is closed, and when the actor's process ends.
        environment: variables added to the actor's environment.
        output: file for stdout and stderr; by default they are two pipes.
    """
    tied = cleanup.enter_context(lifeline())
    # Ray blocks SIGINT in its workers, and child processes inherit that.
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    try:
        command = [sys.executable, *arguments]
        return tied.start(command, {**os.environ, **environment}, output, captured=output is None)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class CommandActor:
    """An actor on the cluster that runs one command, which ends with the actor."""

    def __init__(self) -> None:
        self._cleanup = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, arguments: Sequence[str], environment: Mapping[str, str], folder: str, log: str) -> int:
        """Run Python with arguments, in a folder, until it ends; return its exit code."""
        os.chdir(folder)
        with Path(log).open("ab") as file:
            self._process = start_python(self._cleanup, arguments, environment, file)
        return self._process.wait()

    def pass_on(self, number: int) -> None:
        """Forward a signal to the command; a signal before the start prevents the start."""
        if self._process is None:
            raise SystemExit
        self._process.send_signal(number)


class RayCommand:
    """A command on the cluster, with the interface of `subprocess.Popen`."""

    def __init__(self, ray: Any, actor: Any, code: Any, log: Path) -> None:  # noqa: ANN401
        self._ray, self._actor, self._result, self._log = ray, actor, code, log
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code; None while the command runs."""
        if self._code is None and self._ray.wait([self._result], timeout=0)[0]:
            try:
                self._code = self._ray.get(self._result)
            except self._ray.exceptions.RayError as error:
                self._code = 1
                cause = getattr(error, "cause", None) or type(error).__name__
                with self._log.open("a", encoding="utf-8") as file:
                    file.write(f"\nerror: the Ray worker that ran this has ended ({cause})\n")
            self._ray.kill(self._actor)  # frees its cores for the next one
        return self._code

    def send_signal(self, number: int) -> None:
        """Send the command a signal."""
        with suppress(self._ray.exceptions.RayError):
            self._actor.pass_on.remote(int(signal.Signals(number)))


class RayStarter:
    """Starts commands on the cluster; each gets a share of the cores and GPUs, and waits until they are free."""

    def __init__(self, ray: Any, jobs: int) -> None:  # noqa: ANN401
        self._ray = ray
        self._cores, gpus = share_of(machines_of(ray), jobs, "--jobs")
        # Two concurrent calls, so that a signal reaches a running command.
        self._kind = ray.remote(num_cpus=self._cores, num_gpus=gpus, max_concurrency=2)(CommandActor)

    def start(self, command: Sequence[str], environment: Mapping[str, str], output: IO[bytes]) -> RayCommand:
        """Start a command of this Python in the current folder, which the cluster's machines need at the same path.

        Args:
            environment: environment variables, of which polytask's own are passed on.
            output: file for stdout and stderr.
        """
        variables = {name: value for name, value in environment.items() if name.startswith("POLYTASK_")}
        log = Path(output.name).absolute()
        actor = self._kind.remote()
        variables[_THREADS] = str(self._cores)
        code = actor.run.remote(list(command[1:]), variables, str(Path.cwd()), str(log))
        return RayCommand(self._ray, actor, code, log)


@contextmanager
def ray_starter(jobs: int) -> Generator[RayStarter]:
    """Yield a starter of commands on the cluster, which end with this process. Raises as `ray_session` does."""
    with ray_session() as ray:
        yield RayStarter(ray, jobs)
