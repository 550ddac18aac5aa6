"""Workers that answer shards, and what becomes of the shards of one that has ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from polytask.batch.shards import Shard
from polytask.batch.worker import Failure, ShardAnswers, WorkOptions
from polytask.errors import PolytaskError

# Shards that a worker holds: the one that it answers, and the next.
_HELD = 2
# Deaths of workers after which no other one is started: over one shard, and in a row without an answer.
_DEATHS_OVER_A_SHARD, _DEATHS_IN_A_ROW = 2, 3


class Worker(ABC):
    """Answers shards in the order in which it is given them.

    Attributes:
        place: its number, by which several share the GPUs of a machine.
        held: the shards that it was given and has not answered.
        loaded: whether it has loaded the model.
    """

    def __init__(self, place: int) -> None:
        self.place = place
        self.held: deque[Shard] = deque()
        self.loaded = False

    @abstractmethod
    def give(self, shard: Shard) -> None:
        """Have a shard answered after those that it holds."""

    @abstractmethod
    def finish(self) -> None:
        """Finish the shard that it answers, and no other one."""

    @abstractmethod
    def end(self) -> None:
        """End it at once; a second time this does nothing."""


W = TypeVar("W", bound=Worker)


class Workers(ABC, Generic[W]):
    """Workers with one model; a subclass says where they are.

    Args:
        facts: what each worker must say of the model that it loaded.
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
        """Return what workers tell: facts of the model, answers, failures, and how one has ended (an `WorkerEnded`)."""

    @property
    def busy(self) -> bool:
        """Whether shards are being answered."""
        return (bool(self._again) and not self._stopping) or any(one.held for one in self.workers)

    def ready(self) -> bool:
        """Whether one more shard can be given."""
        return not self._again and self._has_room()

    def _has_room(self) -> bool:
        return any(one.loaded and len(one.held) < _HELD for one in self.workers)

    def give(self, shard: Shard) -> None:
        """Have a shard answered."""
        worker = min((one for one in self.workers if one.loaded), key=lambda one: len(one.held))
        worker.held.append(shard)
        worker.give(shard)

    def take(self, timeout_s: float) -> list[ShardAnswers]:
        """Return what was answered meanwhile. Raises what a worker failed with."""
        while self._again and not self._stopping and self._has_room():
            self.give(self._again.popleft())
        answers = [self._receive(worker, told) for worker, told in self.events(timeout_s)]
        return [one for one in answers if one is not None]

    def _receive(self, worker: W, told: Any) -> ShardAnswers | None:  # noqa: ANN401
        if isinstance(told, Failure):
            raise told.raised()
        if isinstance(told, WorkerEnded):
            self._replace(worker, told)
            return None
        if isinstance(told, ShardAnswers):
            worker.held.popleft()
            self._in_a_row = 0
            return told
        self._require_same_model(told)
        worker.loaded = True
        return None

    def _require_same_model(self, facts: Mapping[str, str]) -> None:
        for name, value in self._facts.items():
            if facts.get(name) != value:
                raise PolytaskError(
                    f"{self.options.model}: a worker has another {name} than this process ({facts.get(name)}, "
                    f"and here {value}): it was changed meanwhile; name another folder, and begin anew"
                )

    def _replace(self, worker: W, ended: WorkerEnded) -> None:
        """Start another worker in the place of one that has ended, unless it was told to end."""
        held = list(worker.held)
        worker.held.clear()
        worker.loaded = False
        worker.end()
        if self._stopping:
            return
        self._require_another(held, ended)
        self._again.extendleft(reversed(held))
        self.workers[self.workers.index(worker)] = self.start(worker.place)

    def _require_another(self, held: Sequence[Shard], ended: WorkerEnded) -> None:
        """Raise PolytaskError where another worker would end as well."""
        self._in_a_row += 1
        if held:
            self._deaths[held[0].key] += 1
        if self._in_a_row < _DEATHS_IN_A_ROW and (not held or self._deaths[held[0].key] < _DEATHS_OVER_A_SHARD):
            return
        over = held[0].told() if held else "no rows yet"
        raise PolytaskError(
            f"a worker {ended.how}, as others did before, over {over}; where memory is short, take fewer --workers, or "
            "a smaller --shard-rows in another folder; the same command goes on from there"
        )

    def stop(self) -> None:
        """Have every worker finish the shard that it answers, and no other one."""
        self._stopping = True
        for one in self.workers:
            one.finish()

    def close(self) -> None:
        """End all workers."""
        for one in self.workers:
            one.end()


class WorkerEnded:
    """That a worker has ended without being asked to.

    Attributes:
        how: such as "was ended by SIGKILL".
    """

    def __init__(self, how: str) -> None:
        self.how = how
