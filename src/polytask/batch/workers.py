"""Workers: processes that answer shards, and what becomes of the shards of one that was killed."""

from __future__ import annotations

import os
import signal
import sys
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


class _Process:
    """A worker's process, with the shards that it holds."""

    def __init__(self, tied: Lifeline, options: WorkOptions, place: int, threads: int) -> None:
        self.place = place
        self.held: deque[Shard] = deque()
        self.loaded = self.ended = False
        environment = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", **os.environ}
        self.process = tied.start([sys.executable, "-m", "polytask.batch.process"], environment, piped=True)
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

    def end(self) -> int:
        """End the process at once, and return how it ended; a second time this does nothing."""
        if not self.ended:
            self.ended = True
            self.shards.close()
            self.answers.close()
            self.process.kill()
        return self.process.wait()


class Workers:
    """Processes of this machine, each with its part of the cores; they end with this one, however it ends.

    Args:
        facts: what each worker must say of the model that it loaded.
        tied: ties them to this process.
    """

    def __init__(self, options: WorkOptions, count: int, facts: Mapping[str, str], tied: Lifeline) -> None:
        if os.name != "posix":
            raise ConfigError("workers: need Linux or macOS; answer one file after another without --workers")
        self._options = options
        self._facts = dict(facts)
        self._tied = tied
        self._threads = max(1, (os.cpu_count() or 1) // count)
        self._again: deque[Shard] = deque()
        self._deaths: Counter[tuple[int, int]] = Counter()
        self._in_a_row = 0
        self._stopping = False
        self._processes = [self._start(place) for place in range(count)]

    def _start(self, place: int) -> _Process:
        return _Process(self._tied, self._options, place, self._threads)

    @property
    def busy(self) -> bool:
        """Whether shards are being answered."""
        return (bool(self._again) and not self._stopping) or any(one.held for one in self._processes)

    def ready(self) -> bool:
        """Whether one more shard can be given."""
        return not self._again and self._has_room()

    def _has_room(self) -> bool:
        return any(one.loaded and len(one.held) < _HELD for one in self._processes)

    def give(self, shard: Shard) -> None:
        """Have a shard answered."""
        process = min((one for one in self._processes if one.loaded), key=lambda one: len(one.held))
        process.held.append(shard)
        process.send(shard)

    def take(self, timeout_s: float) -> list[ShardAnswers]:
        """Return what was answered meanwhile. Raises what a worker failed with."""
        while self._again and not self._stopping and self._has_room():
            self.give(self._again.popleft())
        by_answers: dict[Any, _Process] = {one.answers: one for one in self._processes if not one.ended}
        answered: list[ShardAnswers] = []
        for connection in wait(list(by_answers), timeout_s):
            answers = self._receive(by_answers[connection])
            if answers is not None:
                answered.append(answers)
        return answered

    def _receive(self, process: _Process) -> ShardAnswers | None:
        try:
            told = process.answers.recv()
        except (EOFError, OSError):
            self._replace(process)
            return None
        if isinstance(told, Failure):
            raise told.raised()
        if isinstance(told, ShardAnswers):
            process.held.popleft()
            self._in_a_row = 0
            return told
        self._require_same_model(told)
        process.loaded = True
        return None

    def _require_same_model(self, facts: Mapping[str, str]) -> None:
        for name, value in self._facts.items():
            if facts.get(name) != value:
                raise PolytaskError(
                    f"{self._options.model}: a worker has another {name} than this process ({facts.get(name)}, "
                    f"and here {value}): it was changed meanwhile; name another folder, and begin anew"
                )

    def _replace(self, process: _Process) -> None:
        """Start another process in the place of one that has ended, unless it was told to end."""
        held = list(process.held)
        process.held.clear()
        with suppress(Exception):
            process.process.wait(1)  # its own code, before it is killed
        code = process.end()
        if self._stopping:
            return
        self._require_another(held, code)
        self._again.extendleft(reversed(held))
        self._processes[self._processes.index(process)] = self._start(process.place)

    def _require_another(self, held: Sequence[Shard], code: int) -> None:
        """Raise PolytaskError where another process would end as well."""
        self._in_a_row += 1
        if held:
            self._deaths[held[0].key] += 1
        if self._in_a_row < _DEATHS_IN_A_ROW and (not held or self._deaths[held[0].key] < _DEATHS_OVER_A_SHARD):
            return
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        over = held[0].told() if held else "no rows yet"
        raise PolytaskError(
            f"a worker {how}, as others did before, over {over}; where memory is short, take fewer --workers, or a "
            "smaller --shard-rows in another folder; the same command goes on from there"
        )

    def stop(self) -> None:
        """Have every worker finish the shard that it answers, and no other one."""
        self._stopping = True
        for one in self._processes:
            one.send(None)

    def close(self) -> None:
        """End all processes."""
        for one in self._processes:
            one.end()
