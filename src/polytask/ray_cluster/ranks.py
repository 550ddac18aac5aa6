"""One training on several machines: each of its processes is a command in a Ray actor.

Ray Train's TorchTrainer is not used: it calls a function in a thread, where Python receives no signals, so Ctrl-C,
SIGTERM and SIGUSR1 would each need another way to a checkpoint; and it keeps results and checkpoints in a storage of
its own. A command in an actor is the process that `--processes` starts, with the same checkpoints, messages and exit
codes.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

from polytask.errors import ConfigError, ProcessLost
from polytask.launch import TOLD_S, describe_loss, wait_together
from polytask.ray_cluster.jobs import start_python
from polytask.ray_cluster.session import machines_of, ray_session
from polytask.restarts import Restarts

# Seconds that an actor waits for output before it returns without any.
QUIET_S = 0.5
# Seconds of waiting for free cores before a message says so.
BUSY_S = 5.0
_THREADS = "OMP_NUM_THREADS"
# Prefixes of environment variables that are passed on to the processes.
_PASSED_ON = ("POLYTASK_", "NCCL_", "GLOO_")
# Exit code of a process whose actor has ended; the message says how.
_LOST = -int(signal.SIGTERM)


@dataclass(frozen=True)
class RankStatus:
    """A process's output since the last call, and its exit code.

    Attributes:
        lines: (whether it went to stderr, text) of each line.
        code: the exit code; None while the process runs.
    """

    lines: Sequence[tuple[bool, str]]
    code: int | None


class RankActor:
    """An actor on the cluster that runs one of the processes of a training, which ends with the actor."""

    def __init__(self) -> None:
        self._cleanup = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[tuple[bool, str] | None] = queue.SimpleQueue()
        self._open = 2

    def address(self) -> tuple[str, int]:
        """Return the address of this machine in the cluster, and a free port."""
        host: str = import_module("ray").util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind(("", 0))
            return host, probe.getsockname()[1]

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], folder: str) -> str | None:
        """Run Python with arguments in a folder; return an error message if it cannot be started."""
        try:
            os.chdir(folder)
            self._process = start_python(self._cleanup, arguments, environment)
        except OSError as error:
            return f"{error.filename or folder}: {error.strerror}"
        for stream, is_error in ((self._process.stdout, False), (self._process.stderr, True)):
            assert stream is not None
            threading.Thread(target=self._listen, args=(stream, is_error), daemon=True).start()
        return None

    def _listen(self, stream: IO[bytes], is_error: bool) -> None:
        with TextIOWrapper(stream, "utf-8", errors="replace", newline="") as lines:  # type: ignore[type-var]
            for line in lines:
                self._lines.put((is_error, line))
        self._lines.put(None)

    def read(self) -> RankStatus:
        """Return the process's new output; waits up to half a second for it."""
        assert self._process is not None
        lines: list[tuple[bool, str] | None] = []
        with suppress(queue.Empty):
            lines.append(self._lines.get(timeout=QUIET_S))
            while True:
                lines.append(self._lines.get_nowait())
        self._open -= lines.count(None)
        # Child processes may keep the streams open after the process has ended.
        code = self._process.wait() if self._open == 0 else None if lines else self._process.poll()
        return RankStatus([line for line in lines if line is not None], code)

    def pass_on(self, number: int) -> None:
        """Forward a signal to the process."""
        if self._process is not None:
            self._process.send_signal(number)


class RayRank:
    """One of the processes, with the interface of `subprocess.Popen`; its output is printed here."""

    def __init__(self, ray: Any, actor: Any) -> None:  # noqa: ANN401
        self._ray, self._actor = ray, actor
        self._status = actor.read.remote()
        self.returncode: int | None = None
        self.lost = ""

    def poll(self) -> int | None:
        """Print the process's new output; return its exit code, or None while it runs."""
        while self.returncode is None and self._ray.wait([self._status], timeout=0)[0]:
            try:
                status: RankStatus = self._ray.get(self._status)
            except self._ray.exceptions.RayError as error:
                self.lost = type(error).__name__
                self.returncode = _LOST
                break
            for is_error, line in status.lines:
                stream = sys.stderr if is_error else sys.stdout
                stream.write(line)
                stream.flush()
            self.returncode = status.code
            if status.code is None:
                self._status = self._actor.read.remote()
        return self.returncode

    def describe_loss(self, rank: int, code: int) -> str:
        """Return how the process was lost, by its exit code."""
        return f"was lost with its Ray worker ({self.lost})" if self.lost else describe_loss(rank, code)

    def send_signal(self, number: int) -> None:
        """Send the process a signal."""
        with suppress(self._ray.exceptions.RayError):
            self._actor.pass_on.remote(int(number))


def launch_on_ray(arguments: Sequence[str], processes: int, restarts: Restarts, *, on_gpus: bool) -> int:
    """Run `polytask <arguments>` in several processes on a cluster that train together, as `launch` does on one
    machine; return the first failure's exit code.

    Args:
        restarts: restarts all processes after a loss, each time in new actors.
        on_gpus: whether each process gets a GPU, if the cluster has any.

    Raises as `ray_session` does; ConfigError if the cluster has too few cores or GPUs; ProcessLost if a process, or its
    machine, was lost and no restart is left.
    """
    with ray_session() as ray:
        return restarts.run(lambda current: _train_once(ray, current, processes, on_gpus=on_gpus), arguments)


def _train_once(ray: Any, arguments: Sequence[str], processes: int, *, on_gpus: bool) -> int:  # noqa: ANN401
    ranks: list[RayRank] = []
    try:
        with _actors(ray, processes, on_gpus=on_gpus) as (cores, actors):
            ranks += _start(ray, actors, arguments, cores)
            return wait_together(ranks, lambda rank, code: ranks[rank].describe_loss(rank, code))
    except ProcessLost:
        if any(rank.lost for rank in ranks):
            # The process of a lost actor may take this long to end, and holds the run's folder until then.
            time.sleep(TOLD_S)
        raise


@contextmanager
def _actors(ray: Any, count: int, *, on_gpus: bool) -> Generator[tuple[int, list[Any]]]:  # noqa: ANN401
    """Yield the number of cores per actor and the actors, once the cluster has room for all of them."""
    cores, gpus = place_of_each(machines_of(ray), count, on_gpus=on_gpus)
    place = {"CPU": cores, **({"GPU": gpus} if gpus else {})}
    # All or none: two trainings with half of their processes each would wait forever.
    group = ray.util.placement_group([place] * count, strategy="PACK")
    actors: list[Any] = []
    try:
        if not group.wait(BUSY_S):
            kind = f"{cores} cores" + (" and a GPU" if gpus else "")
            sys.stderr.write(f"waiting until Ray has {count} times {kind} free\n")
            while not group.wait(BUSY_S):
                pass
        scheduling = import_module("ray.util.scheduling_strategies").PlacementGroupSchedulingStrategy
        # Two concurrent calls, so that a signal reaches a running process.
        kind = ray.remote(num_cpus=cores, num_gpus=gpus, max_restarts=0, max_concurrency=2)(RankActor)
        actors += [
            kind.options(scheduling_strategy=scheduling(group, placement_group_bundle_index=rank)).remote()
            for rank in range(count)
        ]
        yield cores, actors
    finally:
        with suppress(ray.exceptions.RayError):
            for actor in actors:
                ray.kill(actor)
            ray.util.remove_placement_group(group)


def _start(ray: Any, actors: Sequence[Any], arguments: Sequence[str], cores: int) -> list[RayRank]:  # noqa: ANN401
    """Start the processes in the current folder, which their machines need at the same path."""
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    threads = os.environ.get(_THREADS, str(cores))
    try:
        host, port = ray.get(actors[0].address.remote())
        common = {"MASTER_ADDR": host, "MASTER_PORT": str(port), "WORLD_SIZE": str(len(actors))}
        # Each process only sees its own GPU, as the first one.
        environments = [{**passed_on, **common, _THREADS: threads, "RANK": str(rank), "LOCAL_RANK": "0"}
               for rank in range(len(actors))]  # fmt: skip
        command = ["-m", "polytask", *arguments]
        errors = ray.get(
            [
                actor.start.remote(command, environment, str(Path.cwd()))
                for actor, environment in zip(actors, environments, strict=True)
            ]
        )
    except ray.exceptions.RayError as error:
        problem = f"a Ray worker ended before it began ({str(error).strip().splitlines()[-1]})"
        needed = "every machine of the cluster needs polytask and Python in the same versions"
        raise ProcessLost(problem, f"--ray: {problem}; {needed}") from None
    for message in filter(None, errors):
        raise ConfigError(
            f"--ray: {message}, on a machine of the cluster; every one needs this folder, the data and the output "
            "folder at the same paths"
        )
    return [RayRank(ray, actor) for actor in actors]


def place_of_each(machines: Sequence[tuple[float, float]], count: int, *, on_gpus: bool) -> tuple[int, int]:
    """Return the number of cores, and of GPUs (one or none), for each process of a training.

    >>> place_of_each([(8, 2), (8, 2)], 4, on_gpus=True)
    (4, 1)
    >>> place_of_each([(8, 2), (8, 2)], 3, on_gpus=False)  # 5 would leave no place for the third
    (4, 0)

    Args:
        machines: cores and GPUs of each machine.
        count: number of processes.
        on_gpus: whether each gets a GPU, if there are any.

    Raises ConfigError if there are more processes than cores, or than GPUs.
    """
    cores, gpus = (int(sum(machine[kind] for machine in machines)) for kind in (0, 1))
    per_gpu = on_gpus and gpus > 0

    def places(each: int) -> int:
        return sum(
            min(int(machine_cores // each), int(machine_gpus) if per_gpu else count)
            for machine_cores, machine_gpus in machines
        )

    fitting = [each for each in range(1, cores // count + 1) if places(each) >= count]
    if not fitting and per_gpu:
        raise ConfigError(
            f"--ray: found {count}, and Ray has {cores} cores and {gpus} GPUs; each process takes one of both on one "
            "machine, so ask for fewer, or train without GPUs: --set train.device=cpu"
        )
    if not fitting:
        raise ConfigError(f"--ray: found {count}, and Ray has {cores} cores; each process takes one, so ask for fewer")
    return max(fitting), int(per_gpu)
