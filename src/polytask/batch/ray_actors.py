"""Workers as Ray actors on the machines of a cluster; this process reads the rows and writes the predictions."""

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
    """The actor on the cluster: loads the model once, and predicts shards."""

    def __init__(self, options: WorkOptions, place: int) -> None:
        self._options = options
        self._place = place
        self._predictor: ShardPredictor | None = None

    def load(self) -> dict[str, str] | Failure:
        """Load the model, and return facts about it."""
        try:
            self._predictor = ShardPredictor(self._options, self._place)
        except PolytaskError as error:
            return Failure.of(error)
        return self._predictor.facts

    def answer(self, shard: Shard) -> ShardAnswers | Failure:
        """Predict a shard."""
        assert self._predictor is not None
        try:
            return self._predictor.answer(shard)
        except PolytaskError as error:
            return Failure.of(error)


class _Actor(Worker):
    """The handle of an actor, with its pending calls, oldest first."""

    def __init__(self, ray: Any, actor: Any, place: int) -> None:  # noqa: ANN401
        super().__init__(place)
        self._ray = ray
        self._actor = actor
        self.pending: deque[Any] = deque([actor.load.remote()])

    def give(self, shard: Shard) -> None:
        self.pending.append(self._actor.answer.remote(shard))

    def finish(self) -> None:
        """Cancel all shards except the current one, which cannot be cancelled."""
        for call in list(self.pending)[1:]:
            self._ray.cancel(call)

    def receive(self) -> Any:  # noqa: ANN401
        """Return the result of the oldest pending call; None if it was cancelled."""
        call = self.pending.popleft()
        try:
            return self._ray.get(call)
        except self._ray.exceptions.TaskCancelledError:
            self.held.popleft()
            return None
        except self._ray.exceptions.RayTaskError as error:  # a bug of polytask; contains the traceback
            rows = self.held[0].describe() if self.held else "no rows yet"
            raise PolytaskError(
                f"a worker failed over {rows}; the same command continues from there\n{error}"
            ) from None
        except self._ray.exceptions.RayError as error:
            self.pending.clear()
            return WorkerEnded(f"has ended ({type(error).__name__})")

    def end(self) -> None:
        self.pending.clear()
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._actor)


class RayActors(Workers[_Actor]):
    """Actors, each with a share of the cluster's cores and GPUs.

    Args:
        options: how rows are predicted and written.
        count: number of actors.
        facts: values that each worker must report about its model.
        ray: the connected Ray module.
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
        by_asked = {one.pending[0]: one for one in self.workers if one.pending}
        if not by_asked:
            return []
        self._ray.wait(list(by_asked), num_returns=1, timeout=timeout_s)
        ready, _ = self._ray.wait(list(by_asked), num_returns=len(by_asked), timeout=0)
        told = [(by_asked[asked], by_asked[asked].receive()) for asked in ready]
        return [(worker, one) for worker, one in told if one is not None]
