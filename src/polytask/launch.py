"""Start several processes of a command, as torchrun does on one machine, and end them together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO, Protocol

from polytask.errors import ProcessLost, TrainingError
from polytask.signals import SAVING, on_signals

# Seconds that the other processes get to end by themselves once one has failed, and then after SIGTERM.
FAILED_S, TOLD_S = 5.0, 10.0
# Seconds for finishing a step and saving: a large checkpoint takes minutes on a slow disk.
SAVING_S = 600.0
# Exit codes that are not the run's fault: a process lost its device, or cannot reach the others.
DEVICE_LOST, UNREACHABLE = _LOST = (74, 75)
_LIFELINE = "POLYTASK_LIFELINE"
_KILL = signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM  # Windows has none


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `polytask <arguments>` in connected processes, and return the exit code of the first failure."""
    return run_together([sys.executable, "-m", "polytask", *arguments], processes)


def run_together(command: Sequence[str], processes: int) -> int:
    """Run a command in several processes, as torchrun does, and return the exit code of the first failure.

    If one process fails, the others are stopped. Ctrl-C and SIGTERM are passed on, and the processes stop together; a
    second signal stops them at once. SIGUSR1 is passed on too: they save and continue. If this process is killed, they
    end as well.

    Raises ProcessLost if a process was killed, lost its device, or could not reach the others; TrainingError if that
    happened after they were asked to stop.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    with lifeline() as tied:
        return wait_together(
            [
                tied.start(
                    command,
                    {"OMP_NUM_THREADS": threads, **os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                )
                for rank in range(processes)
            ]
        )


class Process(Protocol):
    """A process that trains together with others, on this or another machine: the interface of `subprocess.Popen`."""

    @property
    def returncode(self) -> int | None:
        """Its exit code at the last call of `poll`; negative if a signal ended it."""
        ...

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        ...

    def send_signal(self, signal: int, /) -> None:
        """Send it a signal."""
        ...


def describe_loss(rank: int, code: int) -> str:
    """Describe how a process was lost, from its exit code."""
    del rank
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return "lost its device" if code == DEVICE_LOST else "could not reach the others"


def wait_together(processes: Sequence[Process], describe: Callable[[int, int], str] = describe_loss) -> int:
    """Wait for processes that train together (see `run_together`), and return the exit code of the first failure.

    Args:
        describe: takes a lost rank and its exit code, and returns how it was lost.
    """
    ranks = _Ranks(processes, describe)
    with on_signals(ranks.pass_on), on_signals(ranks.pass_saving_on, SAVING):
        return ranks.wait()


class _Ranks:
    """Processes that train together, and the state of their shutdown."""

    def __init__(self, processes: Sequence[Process], describe: Callable[[int, int], str]) -> None:
        self._processes = processes
        self._describe = describe
        self._asked = 0
        self._told = False  # whether they were told to end
        self._failed_at: float | None = None  # when one of them failed, or all were told to stop at once
        self._interrupted_at: float | None = None
        self._cause: tuple[int, int] | None = None  # the rank that ended all, and its exit code

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on: the processes have their own process group, so Ctrl-C reaches them only from here."""
        del frame
        self._asked += 1
        self._interrupted_at = self._interrupted_at or time.monotonic()
        if self._asked > 1:
            self._failed_at = self._failed_at or time.monotonic()
        for process in self._processes:
            process.send_signal(number)

    def pass_saving_on(self, number: int, frame: FrameType | None) -> None:
        """Pass a request to save on; all processes continue afterwards.

        Only one process gets it and asks the others: signals that reach two of them in different steps would be two
        requests.
        """
        del frame
        self._processes[0].send_signal(number)

    def wait(self) -> int:
        """Wait for all processes; those that do not end in time get SIGTERM, and are then killed."""
        while any(process.poll() is None for process in self._processes):
            self._look()
            overdue = self._overdue()
            if overdue > TOLD_S:
                for process in self._processes:
                    process.send_signal(_KILL)
            elif overdue > 0 and not self._told:
                self._told = True
                for process in self._processes:
                    process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        self._look()
        return self._code()

    def _look(self) -> None:
        """Record the first failure, and the process that caused it."""
        codes = [process.poll() or 0 for process in self._processes]
        failed = [(rank, code) for rank, code in enumerate(codes) if code not in (0, 130)]
        if not failed:
            return
        if self._failed_at is None:
            self._failed_at = time.monotonic()
        # A process that cannot reach another may be seen before that other one.
        unknown = self._cause is None or self._cause[1] == UNREACHABLE
        if unknown and not self._asked and not self._told:
            self._cause = min(failed, key=lambda failure: _precedence(failure[1]))

    def _overdue(self) -> float:
        """Return for how many seconds the processes have been overdue; negative while they have time."""
        now, overdue = time.monotonic(), [-1.0]
        if self._failed_at is not None:
            overdue.append(now - self._failed_at - FAILED_S)
        if self._interrupted_at is not None:
            overdue.append(now - self._interrupted_at - SAVING_S)
        return max(overdue)

    def _code(self) -> int:
        codes = [process.returncode or 0 for process in self._processes]
        if self._cause is not None and (self._cause[1] < 0 or self._cause[1] in _LOST):
            rank, code = self._cause
            description = f"process {rank + 1} of {len(codes)} {self._describe(rank, code)}"
            message = f"{description}, and the others with it; go on with --resume from the last checkpoint"
            raise TrainingError(message) if self._asked else ProcessLost(description, message)
        failed = sorted((code for code in codes if code > 0), key=lambda code: code in _LOST)
        if failed:
            return 1 if failed[0] in _LOST else failed[0]
        return next((128 - code for code in codes if code), 0)


def _precedence(code: int) -> int:
    """Return the sort key of exit codes seen together: killed processes first, then failures of their own."""
    return 0 if code < 0 or code == DEVICE_LOST else 2 if code == UNREACHABLE else 1


class Lifeline:
    """Ties processes to this one by a pipe, which closes when this process ends, however it ends."""

    def __init__(self, handle: int | None) -> None:
        self._handle = handle

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        output: IO[bytes] | None = None,
        *,
        piped: bool = False,
        captured: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a process that ends with this one, in its own process group: signals reach it only from here.

        Args:
            output: file for stdout and stderr; by default those of this process.
            piped: whether its stdin and stdout are pipes to this process.
            captured: whether its stdout and stderr are pipes to this process.
        """
        tied = self._handle is not None
        return subprocess.Popen(
            command,
            env={**environment, **({_LIFELINE: str(self._handle)} if tied else {})},
            pass_fds=() if self._handle is None else (self._handle,),
            process_group=0 if tied else None,
            stdin=subprocess.PIPE if piped else None,
            stdout=subprocess.PIPE if piped or captured else output,
            stderr=subprocess.PIPE if captured else None if output is None else subprocess.STDOUT,
        )


@contextmanager
def lifeline() -> Generator[Lifeline]:
    """Yield a lifeline that ties processes to this one while the block runs."""
    if os.name != "posix":
        yield Lifeline(None)
        return
    reading, writing = os.pipe()
    try:
        yield Lifeline(reading)
    finally:
        os.close(reading)
        os.close(writing)


def follow() -> None:
    """End when the process that started this one by a lifeline ends; save first if there is time, as on SIGTERM."""
    handle = os.environ.pop(_LIFELINE, None)
    if handle is None:
        return
    os.set_inheritable(int(handle), False)
    threading.Thread(target=_end_with, args=(int(handle),), daemon=True, name="lifeline").start()


def _end_with(handle: int) -> None:
    os.read(handle, 1)  # nothing is ever written; returns when the other end closes
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(TOLD_S)
    os.kill(os.getpid(), signal.SIGKILL)
