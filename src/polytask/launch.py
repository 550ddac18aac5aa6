"""Start a command several times at once, as torchrun would on one machine, and end all of it together."""

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

# Seconds that the other processes have to end by themselves once one has failed, and then, when they are told to.
FAILED_S, TOLD_S = 5.0, 10.0
# Seconds for what was asked to finish its step and to save: a large checkpoint takes minutes on a slow disk.
SAVING_S = 600.0
# Exit codes that say nothing against the run: the device of a process has failed; it cannot reach the others.
DEVICE_LOST, UNREACHABLE = _LOST = (74, 75)
_LIFELINE = "POLYTASK_LIFELINE"
_KILL = signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM  # Windows has none


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `polytask <arguments>` in so many processes that know of each other; return the first failure's exit code."""
    return run_together([sys.executable, "-m", "polytask", *arguments], processes)


def run_together(command: Sequence[str], processes: int) -> int:
    """Run a command in so many processes, as torchrun would, and return the first failure's exit code.

    When one of them fails, the others are stopped. Ctrl-C and SIGTERM are passed on, and they stop together; asked
    twice, they stop at once. SIGUSR1 is passed on too: they save and go on. When this process is killed, they end as
    well.

    Raises ProcessLost when one of them was killed, lost its device, or could not reach the others; TrainingError where
    that happened after they were asked to stop.
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
    """A process that trains together with others, here or elsewhere; what `subprocess.Popen` has."""

    @property
    def returncode(self) -> int | None:
        """Its exit code as `poll` saw it last; less than 0 where a signal ended it."""
        ...

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        ...

    def send_signal(self, signal: int, /) -> None:
        """Send it a signal."""
        ...


def how_lost(rank: int, code: int) -> str:
    """Return how a process was lost, by its exit code."""
    del rank
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return "lost its device" if code == DEVICE_LOST else "could not reach the others"


def wait_together(processes: Sequence[Process], how: Callable[[int, int], str] = how_lost) -> int:
    """Wait for processes that train together, as `run_together` says, and return the first failure's exit code.

    Args:
        how: says of a rank that was lost, and its exit code, how.
    """
    ranks = _Ranks(processes, how)
    with on_signals(ranks.pass_on), on_signals(ranks.pass_saving_on, SAVING):
        return ranks.wait()


class _Ranks:
    """The processes, and how far their end has come."""

    def __init__(self, processes: Sequence[Process], how: Callable[[int, int], str]) -> None:
        self._processes = processes
        self._how = how
        self._asked = 0
        self._told = False  # to end, from here
        self._failed_at: float | None = None  # when one of them failed, or all were told to stop at once
        self._interrupted_at: float | None = None
        self._cause: tuple[int, int] | None = None  # of the end of all: a rank and its code

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on. They are in a process group of their own, so a terminal's Ctrl-C reaches them from here."""
        del frame
        self._asked += 1
        self._interrupted_at = self._interrupted_at or time.monotonic()
        if self._asked > 1:
            self._failed_at = self._failed_at or time.monotonic()
        for process in self._processes:
            process.send_signal(number)

    def pass_saving_on(self, number: int, frame: FrameType | None) -> None:
        """Pass a request to save on, after which all go on.

        One process is told, which asks the others: signals that reach two of them in different steps are two requests.
        """
        del frame
        self._processes[0].send_signal(number)

    def wait(self) -> int:
        """Wait for all; what does not end in time is told to, and then killed."""
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
        """Note the first failure, and which process it began with."""
        codes = [process.poll() or 0 for process in self._processes]
        failed = [(rank, code) for rank, code in enumerate(codes) if code not in (0, 130)]
        if not failed:
            return
        if self._failed_at is None:
            self._failed_at = time.monotonic()
        # One that cannot reach the others may be seen before the one that it cannot reach.
        unknown = self._cause is None or self._cause[1] == UNREACHABLE
        if unknown and not self._asked and not self._told:
            self._cause = min(failed, key=lambda one: _precedence(one[1]))

    def _overdue(self) -> float:
        """Return for how many seconds they should have ended; less than 0 while they have time."""
        now, found = time.monotonic(), [-1.0]
        if self._failed_at is not None:
            found.append(now - self._failed_at - FAILED_S)
        if self._interrupted_at is not None:
            found.append(now - self._interrupted_at - SAVING_S)
        return max(found)

    def _code(self) -> int:
        codes = [process.returncode or 0 for process in self._processes]
        if self._cause is not None and (self._cause[1] < 0 or self._cause[1] in _LOST):
            rank, code = self._cause
            what = f"process {rank + 1} of {len(codes)} {self._how(rank, code)}"
            message = f"{what}, and the others with it; go on with --resume from the last checkpoint"
            raise TrainingError(message) if self._asked else ProcessLost(what, message)
        failed = sorted((code for code in codes if code > 0), key=lambda code: code in _LOST)
        if failed:
            return 1 if failed[0] in _LOST else failed[0]
        return next((128 - code for code in codes if code), 0)


def _precedence(code: int) -> int:
    """Order exit codes that are seen together: what was ended from outside first, then what failed by itself."""
    return 0 if code < 0 or code == DEVICE_LOST else 2 if code == UNREACHABLE else 1


class Lifeline:
    """What ties processes to this one: the end of a pipe, which closes with it, however it ends."""

    def __init__(self, handle: int | None) -> None:
        self._handle = handle

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        output: IO[bytes] | None = None,
        *,
        piped: bool = False,
        read: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a process that ends with this one, in a process group of its own: signals reach it from here only.

        Args:
            output: where stdout and stderr go; by default where those of this process go.
            piped: whether its stdin and stdout are pipes of this process.
            read: whether its stdout and stderr are pipes of this process.
        """
        tied = self._handle is not None
        return subprocess.Popen(
            command,
            env={**environment, **({_LIFELINE: str(self._handle)} if tied else {})},
            pass_fds=() if self._handle is None else (self._handle,),
            process_group=0 if tied else None,
            stdin=subprocess.PIPE if piped else None,
            stdout=subprocess.PIPE if piped or read else output,
            stderr=subprocess.PIPE if read else None if output is None else subprocess.STDOUT,
        )


@contextmanager
def lifeline() -> Generator[Lifeline]:
    """Give what ties processes to this one for as long as the block runs."""
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
    """End when the process ends that started this one by a lifeline: save first where there is time, as on SIGTERM."""
    handle = os.environ.pop(_LIFELINE, None)
    if handle is None:
        return
    os.set_inheritable(int(handle), False)
    threading.Thread(target=_end_with, args=(int(handle),), daemon=True, name="lifeline").start()


def _end_with(handle: int) -> None:
    os.read(handle, 1)  # nothing is ever written: this returns when the other end is closed
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(TOLD_S)
    os.kill(os.getpid(), signal.SIGKILL)
