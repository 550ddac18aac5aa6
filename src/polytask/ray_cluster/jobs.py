"""Commands that run on the machines of a Ray cluster, in place of processes of this one."""

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
    held: ExitStack, arguments: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start this Python with arguments on the machine of an actor.

    Args:
        held: ends it when it is closed, and when its process ends.
        environment: beside the actor's own.
        output: where stdout and stderr go; by default they are two pipes.
    """
    tied = held.enter_context(lifeline())
    # Ray blocks SIGINT in all that it starts, and what is started from there inherits it.
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    try:
        command = [sys.executable, *arguments]
        return tied.start(command, {**os.environ, **environment}, output, captured=output is None)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class CommandActor:
    """What runs on the cluster: one command, which ends with this actor."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, arguments: Sequence[str], environment: Mapping[str, str], folder: str, log: str) -> int:
        """Run Python with arguments, in a folder, until it ends; return its exit code."""
        os.chdir(folder)
        with Path(log).open("ab") as file:
            self._process = start_python(self._held, arguments, environment, file)
        return self._process.wait()

    def pass_on(self, number: int) -> None:
        """Pass a signal on to the command; one that comes before it began ends it at its beginning."""
        if self._process is None:
            raise SystemExit
        self._process.send_signal(number)


class RayCommand:
    """A command on the cluster, as `subprocess.Popen` shows it."""

    def __init__(self, ray: Any, actor: Any, code: Any, log: Path) -> None:  # noqa: ANN401
        self._ray, self._actor, self._asked, self._log = ray, actor, code, log
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        if self._code is None and self._ray.wait([self._asked], timeout=0)[0]:
            try:
                self._code = self._ray.get(self._asked)
            except self._ray.exceptions.RayError as error:
                self._code = 1
                cause = getattr(error, "cause", None) or type(error).__name__
                with self._log.open("a", encoding="utf-8") as file:
                    file.write(f"\nerror: the worker of Ray that ran this has ended ({cause})\n")
            self._ray.kill(self._actor)  # which gives its cores to the next one
        return self._code

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        with suppress(self._ray.exceptions.RayError):
            self._actor.pass_on.remote(int(signal.Signals(number)))


class RayStarter:
    """Starts commands on the cluster; each has its part of the cores and GPUs, and waits until they are free."""

    def __init__(self, ray: Any, jobs: int) -> None:  # noqa: ANN401
        self._ray = ray
        self._cores, gpus = share_of(machines_of(ray), jobs, "--jobs")
        # Two calls at once: a signal reaches what runs.
        self._kind = ray.remote(num_cpus=self._cores, num_gpus=gpus, max_concurrency=2)(CommandActor)

    def start(self, command: Sequence[str], environment: Mapping[str, str], output: IO[bytes]) -> RayCommand:
        """Start a command of this Python on the cluster, in this folder, which its machines need at the same place.

        Args:
            environment: of which polytask's own variables are taken along.
            output: the file where stdout and stderr go.
        """
        own = {name: value for name, value in environment.items() if name.startswith("POLYTASK_")}
        log = Path(output.name).absolute()
        actor = self._kind.remote()
        told = {**own, _THREADS: str(self._cores)}
        return RayCommand(self._ray, actor, actor.run.remote(list(command[1:]), told, str(Path.cwd()), str(log)), log)


@contextmanager
def ray_starter(jobs: int) -> Generator[RayStarter]:
    """Give what starts commands on the cluster, which end with this process. Raises what `ray_session` does."""
    with ray_session() as ray:
        yield RayStarter(ray, jobs)
