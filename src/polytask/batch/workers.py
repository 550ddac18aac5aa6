"""Workers that predict shards; the shards of a worker that has ended go to another one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from polytask.batch.shards import Shard
from polytask.batch.worker import Failure, ShardAnswers, WorkOptions
from polytask.errors import PolytaskError

# Number of shards that a worker holds: the current one, and the next.
_HELD = 2
# Maximum number of worker deaths: on the same shard, and in a row without a result.
_DEATHS_OVER_A_SHARD, _DEATHS_IN_A_ROW = 2, 3


class Worker(ABC):
    """Predicts shards in the order in which it receives them.

    Attributes:
        place: number of the worker, which distributes workers over the GPUs of a machine.
        held: the shards that it has received but not finished.
        loaded: whether it has loaded the model.
    """

    def __init__(self, place: int) -> None:
        self.place = place
        self.held: deque[Shard] = deque()
        self.loaded = False

    @abstractmethod
    def give(self, shard: Shard) -> None:
        """Queue a shard after those that it holds."""

    @abstractmethod
    def finish(self) -> None:
        """Finish only the current shard."""

    @abstractmethod
    def end(self) -> None:
        """End the worker at once; does nothing the second time."""


W = TypeVar("W", bound=Worker)


class Workers(ABC, Generic[W]):
    """Workers with one model; a subclass determines where they run.

    Args:
        options: how rows are predicted and written.
        count: number of workers.
        facts: values that each worker must report about its model.
    """

    def __init__(self, options: WorkOptions, count: int, facts: Mapping[str, str]) -> None:
        self.options = options
        self._facts = dict(facts)
        self._again: deque[Shard] = deque()
        self._deaths: Counter[tuple[int, int]] = Counter()
        self._in_a_row = 0
        self._stopping = False
        self.workers: list[W] = []
        try:
            for place in range(count):
                self.workers.append(self.start(place))
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def start(self, place: int) -> W:
        """Start a worker."""

    @abstractmethod
    def events(self, timeout_s: float) -> list[tuple[W, Any]]:
        """Return messages of workers: facts about the model, results, failures, and the end of one (`WorkerEnded`)."""

    @property
    def busy(self) -> bool:
        """Whether shards are being predicted."""
        return (bool(self._again) and not self._stopping) or any(worker.held for worker in self.workers)

    def ready(self) -> bool:
        """Whether another shard can be queued."""
        return not self._again and self._has_room()

    def _has_room(self) -> bool:
        return any(worker.loaded and len(worker.held) < _HELD for worker in self.workers)

    def give(self, shard: Shard) -> None:
        """Queue a shard."""
        worker = min(
            (candidate for candidate in self.workers if candidate.loaded), key=lambda candidate: len(candidate.held)
        )
        worker.held.append(shard)
        worker.give(shard)

    def take(self, timeout_s: float) -> list[ShardAnswers]:
        """Return the results so far. Raises the error of a worker that failed."""
        while self._again and not self._stopping and self._has_room():
            self.give(self._again.popleft())
        answers = [self._receive(worker, message) for worker, message in self.events(timeout_s)]
        return [answer for answer in answers if answer is not None]

    def _receive(self, worker: W, message: Any) -> ShardAnswers | None:  # noqa: ANN401
        if isinstance(message, Failure):
            raise message.raised()
        if isinstance(message, WorkerEnded):
            self._replace(worker, message)
            return None
        if isinstance(message, ShardAnswers):
            worker.held.popleft()
            self._in_a_row = 0
            return message
        self._require_same_model(message)
        worker.loaded = True
        return None

    def _require_same_model(self, facts: Mapping[str, str]) -> None:
        for name, value in self._facts.items():
            if facts.get(name) != value:
                raise PolytaskError(
                    f"{self.options.model}: a worker has another {name} than this process ({facts.get(name)}, "
                    f"and here {value}): it was changed meanwhile; name another folder, and start over"
                )

    def _replace(self, worker: W, ended: WorkerEnded) -> None:
        """Start a new worker in place of one that has ended, unless it was asked to end."""
        shards = list(worker.held)
        worker.held.clear()
        worker.loaded = False
        worker.end()
        if self._stopping:
            return
        self._require_another(shards, ended)
        self._again.extendleft(reversed(shards))
        self.workers[self.workers.index(worker)] = self.start(worker.place)

    def _require_another(self, shards: Sequence[Shard], ended: WorkerEnded) -> None:
        """Raise PolytaskError if another worker would end too."""
        self._in_a_row += 1
        if shards:
            self._deaths[shards[0].key] += 1
        if self._in_a_row < _DEATHS_IN_A_ROW and (not shards or self._deaths[shards[0].key] < _DEATHS_OVER_A_SHARD):
            return
        rows = shards[0].describe() if shards else "no rows yet"
        raise PolytaskError(
            f"a worker {ended.how}, as others did before, over {rows}; if memory is short, use fewer --workers, or "
            "a smaller --shard-rows in another folder; the same command continues from there"
        )

    def stop(self) -> None:
        """Let every worker finish only its current shard."""
        self._stopping = True
        for worker in self.workers:
            worker.finish()

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.end()


class WorkerEnded:
    """A worker has ended without being asked to.

    Attributes:
        how: how it ended, such as "was ended by SIGKILL".
    """

    def __init__(self, how: str) -> None:
        self.how = how
