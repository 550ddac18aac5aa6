"""Workers as processes on this machine."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from polytask.batch.shards import Shard
from polytask.batch.worker import WorkOptions
from polytask.batch.workers import Worker, WorkerEnded, Workers
from polytask.errors import ConfigError
from polytask.launch import Lifeline


class WorkerProcess(Worker):
    """A worker's process, which ends with this one."""

    def __init__(self, tied: Lifeline, options: WorkOptions, place: int, threads: int) -> None:
        super().__init__(place)
        self.ended = False
        environment = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", **os.environ}
        self.process = tied.start([sys.executable, "-m", "polytask.batch.process"], environment, piped=True)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.shards = Connection(os.dup(self.process.stdin.fileno()), readable=False)
        self.answers = Connection(os.dup(self.process.stdout.fileno()), writable=False)
        self.process.stdin.close()
        self.process.stdout.close()
        self._send((options, place))

    def give(self, shard: Shard) -> None:
        self._send(shard)

    def finish(self) -> None:
        self._send(None)

    def _send(self, value: Any) -> None:  # noqa: ANN401
        """Send a value; `receive` reports if the process has died."""
        with suppress(OSError):
            self.shards.send(value)

    def receive(self) -> Any:  # noqa: ANN401
        """Return the next message of the process, or how it has ended."""
        try:
            return self.answers.recv()
        except (EOFError, OSError):
            with suppress(Exception):
                self.process.wait(1)  # get its own exit code before it is killed
            self.end()
            code = self.process.wait()
            return WorkerEnded(f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}")

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self.shards.close()
            self.answers.close()
            self.process.kill()
        self.process.wait()


class WorkerProcesses(Workers[WorkerProcess]):
    """Processes on this machine, each with a share of the cores; they end with this one, however it ends.

    Args:
        options: how rows are predicted and written.
        count: number of processes.
        facts: values that each worker must report about its model.
        tied: ties them to this process.
    """

    def __init__(self, options: WorkOptions, count: int, facts: Mapping[str, str], tied: Lifeline) -> None:
        if os.name != "posix":
            raise ConfigError("workers: need Linux or macOS; answer one file after another without --workers")
        self._tied = tied
        self._threads = max(1, (os.cpu_count() or 1) // count)
        super().__init__(options, count, facts)

    def start(self, place: int) -> WorkerProcess:
        return WorkerProcess(self._tied, self.options, place, self._threads)

    def events(self, timeout_s: float) -> list[tuple[WorkerProcess, Any]]:
        by_answers: dict[Any, WorkerProcess] = {worker.answers: worker for worker in self.workers if not worker.ended}
        ready = wait(list(by_answers), timeout_s)
        return [(by_answers[connection], by_answers[connection].receive()) for connection in ready]
