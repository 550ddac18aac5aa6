"""Workers that are Ray actors, on the machines of a cluster; this process reads the rows, and writes the answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from polytask.batch.shards import Shard
from polytask.batch.worker import Failure, ShardAnswers, ShardPredictor, WorkOptions
from polytask.batch.workers import Worker, WorkerEnded, Workers
from polytask.errors import PolytaskError
from polytask.ray_cluster.session import machines_of, share_of


class ShardActor:
    """What runs on the cluster: loads the model once, and answers shards."""

    def __init__(self, options: WorkOptions, place: int) -> None:
        self._options = options
        self._place = place
        self._predictor: ShardPredictor | None = None

    def load(self) -> dict[str, str] | Failure:
        """Load the model, and say which one it is."""
        try:
            self._predictor = ShardPredictor(self._options, self._place)
        except PolytaskError as error:
            return Failure.of(error)
        return self._predictor.facts

    def answer(self, shard: Shard) -> ShardAnswers | Failure:
        """Answer a shard."""
        assert self._predictor is not None
        try:
            return self._predictor.answer(shard)
        except PolytaskError as error:
            return Failure.of(error)


class _Actor(Worker):
    """An actor's handle, and what it was asked and has not answered, the oldest first."""

    def __init__(self, ray: Any, actor: Any, place: int) -> None:  # noqa: ANN401
        super().__init__(place)
        self._ray = ray
        self._actor = actor
        self.asked: deque[Any] = deque([actor.load.remote()])

    def give(self, shard: Shard) -> None:
        self.asked.append(self._actor.answer.remote(shard))

    def finish(self) -> None:
        """Have it answer no shard that it has not begun; what is being answered cannot be cancelled."""
        for asked in list(self.asked)[1:]:
            self._ray.cancel(asked)

    def receive(self) -> Any:  # noqa: ANN401
        """Return what became of the oldest that it was asked; None where that was cancelled."""
        asked = self.asked.popleft()
        try:
            return self._ray.get(asked)
        except self._ray.exceptions.TaskCancelledError:
            self.held.popleft()
            return None
        except self._ray.exceptions.RayTaskError as error:  # a fault of ours; it holds the traceback
            over = self.held[0].told() if self.held else "no rows yet"
            raise PolytaskError(f"a worker failed over {over}; the same command goes on from there\n{error}") from None
        except self._ray.exceptions.RayError as error:
            self.asked.clear()
            return WorkerEnded(f"has ended ({type(error).__name__})")

    def end(self) -> None:
        self.asked.clear()
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._actor)


class RayActors(Workers[_Actor]):
    """Actors, each with its part of the cluster's cores and GPUs.

    Args:
        ray: Ray, connected.
    """

    def __init__(self, options: WorkOptions, count: int, facts: Mapping[str, str], ray: Any) -> None:  # noqa: ANN401
        self._ray = ray
        cores, gpus = share_of(machines_of(ray), count, "--workers")
        resources = {"num_cpus": cores, "num_gpus": 0 if options.device == "cpu" else gpus}
        self._kind = ray.remote(**resources, max_restarts=0)(ShardActor)
        super().__init__(replace(options, model=str(Path(options.model).absolute())), count, facts)

    def start(self, place: int) -> _Actor:
        return _Actor(self._ray, self._kind.remote(self.options, place), place)

    def events(self, timeout_s: float) -> list[tuple[_Actor, Any]]:
        by_asked = {one.asked[0]: one for one in self.workers if one.asked}
        if not by_asked:
            return []
        self._ray.wait(list(by_asked), num_returns=1, timeout=timeout_s)
        ready, _ = self._ray.wait(list(by_asked), num_returns=len(by_asked), timeout=0)
        told = [(by_asked[asked], by_asked[asked].receive()) for asked in ready]
        return [(worker, one) for worker, one in told if one is not None]
