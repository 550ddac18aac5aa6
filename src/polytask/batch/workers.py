"""Workers: who answers shards, what becomes of the shards of one that was killed."""

from __future__ import annotations

import os
import signal
import sys
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from polytask.batch.shards import Shard
from polytask.batch.worker import Failure, ShardAnswers, WorkOptions
from polytask.errors import ConfigError, PolytaskError
from polytask.launch import Lifeline

# Shards that a worker holds: the one that it answers, and the next.
_HELD = 2
# Deaths of workers after which no other one is started: over one shard, and in a row without an answer.
_DEATHS_OVER_A_SHARD, _DEATHS_IN_A_ROW = 2, 3


class Workers(ABC):
    """Answer shards, several at once.

    Args:
        facts: what each worker must say of the model that it loaded.
    """

    def __init__(self, options: WorkOptions, count: int, facts: Mapping[str, str]) -> None:
        self.options = options
        self.count = count
        self._facts = dict(facts)
        self._again: deque[Shard] = deque()
        self._deaths: Counter[tuple[int, int]] = Counter()
        self._in_a_row = 0

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether shards are being answered."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether one more shard can be given."""

    @abstractmethod
    def give(self, shard: Shard) -> None:
        """Have a shard answered."""

    @abstractmethod
    def take(self, timeout_s: float) -> list[ShardAnswers]:
        """Return what was answered meanwhile. Raises what a worker failed with."""

    @abstractmethod
    def stop(self) -> None:
        """Have every worker finish the shard that it answers, and no other one."""

    @abstractmethod
    def close(self) -> None:
        """End all workers."""

    def require_same_model(self, facts: Mapping[str, str]) -> None:
        """Raise PolytaskError where a worker has loaded another model than the one that was asked for."""
        for name, value in self._facts.items():
            if facts.get(name) != value:
                raise PolytaskError(
                    f"a worker has another {name} than this process ({facts.get(name)}, and here {value}): the folder "
                    f"{self.options.model} was changed meanwhile, or is not the same on every machine"
                )

    def lost(self, shards: Sequence[Shard], how: str) -> None:
        """Take back the shards of a worker that died, to be answered by another one.

        Args:
            shards: the one that it was answering first.

        Raises PolytaskError where this does not help.
        """
        self._in_a_row += 1
        if shards:
            self._deaths[shards[0].key] += 1
        over = shards[0].told() if shards else "the model was being loaded"
        if self._in_a_row == _DEATHS_IN_A_ROW or (shards and self._deaths[shards[0].key] == _DEATHS_OVER_A_SHARD):
            raise PolytaskError(
                f"a worker {how}, as another one did before ({over}); where memory is short, take fewer --workers, or "
                "a smaller --shard-rows in another folder; the same command goes on from there"
            )
        self._again.extendleft(reversed(shards))

    def answered(self) -> None:
        """Take in that a shard was answered."""
        self._in_a_row = 0


class _Process:
    """A worker's process, with the shards that it holds."""

    def __init__(self, tied: Lifeline, options: WorkOptions, place: int, threads: int) -> None:
        self.place = place
        self.held: deque[Shard] = deque()
        self.stopped = False
        environment = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", **os.environ}
        command = [sys.executable, "-m", "polytask.batch.process"]
        self.process = tied.start(command, environment, piped=True)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.shards = Connection(os.dup(self.process.stdin.fileno()), readable=False)
        self.answers = Connection(os.dup(self.process.stdout.fileno()), writable=False)
        self.process.stdin.close()
        self.process.stdout.close()
        self.send((options, place))

    def send(self, value: Any) -> None:  # noqa: ANN401
        """Send a value; that the process has died is told by what comes from it."""
        with suppress(OSError):
            self.shards.send(value)

    def end(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.wait()
        self.shards.close()
        self.answers.close()


class LocalWorkers(Workers):
    """Processes of this machine, each with its part of the cores; they end with this one, however it ends."""

    def __init__(self, options: WorkOptions, count: int, facts: Mapping[str, str], tied: Lifeline) -> None:
        if os.name != "posix":
            raise ConfigError("workers: need Linux or macOS; answer one file after another without --workers")
        super().__init__(options, count, facts)
        self._tied = tied
        self._threads = max(1, (os.cpu_count() or 1) // count)
        self._processes = [self._start(place) for place in range(count)]
        self._stopping = False

    def _start(self, place: int) -> _Process:
        return _Process(self._tied, self.options, place, self._threads)

    @property
    def busy(self) -> bool:
        return (bool(self._again) and not self._stopping) or any(one.held for one in self._processes)

    def ready(self) -> bool:
        return not self._again and any(len(one.held) < _HELD for one in self._processes)

    def give(self, shard: Shard) -> None:
        process = min(self._processes, key=lambda one: len(one.held))
        process.held.append(shard)
        process.send(shard)

    def take(self, timeout_s: float) -> list[ShardAnswers]:
        found: list[ShardAnswers] = []
        self._give_again()
        by_answers = {one.answers: one for one in self._processes if not one.stopped}
        for connection in wait(list(by_answers), timeout_s):
            process = by_answers[connection]  # pyright: ignore[reportArgumentType]
            try:
                told = process.answers.recv()
            except (EOFError, OSError):
                self._ended(process)
                continue
            if isinstance(told, Failure):
                raise told.raised()
            if isinstance(told, ShardAnswers):
                process.held.popleft()
                self.answered()
                found.append(told)
            else:
                self.require_same_model(told)
        return found

    def _give_again(self) -> None:
        while self._again and not self._stopping and any(len(one.held) < _HELD for one in self._processes):
            self.give(self._again.popleft())

    def _ended(self, process: _Process) -> None:
        """Start another process in the place of one that has ended, unless it was told to end."""
        code = process.process.wait()
        held = list(process.held)
        process.held.clear()
        if self._stopping:
            process.stopped = True
            return
        process.end()
        self._processes[self._processes.index(process)] = self._start(process.place)
        self.lost(held, _how(code))

    def stop(self) -> None:
        self._stopping = True
        for one in self._processes:
            one.send(None)

    def close(self) -> None:
        for one in self._processes:
            one.end()


def _how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

