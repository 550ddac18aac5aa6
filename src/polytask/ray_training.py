"""Training by the workers of Ray Train: the same function in each, as `--processes` and torchrun start it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from polytask.api import train
from polytask.config import load_config
from polytask.errors import Interrupted, PolytaskError, TrainingError, UserError
from polytask.extensions import import_extensions
from polytask.ray_cluster.session import machines_of, ray_session, share_of
from polytask.signals import on_signals
from polytask.terms import Intervals, Scores

_GO_ON = "go on with --resume from the last checkpoint"
_LOOK_S = 0.2


@dataclass(frozen=True)
class RayRun:
    """What the first worker tells of a finished run (see `polytask.run.Run`)."""

    scores: dict[str, Scores]
    baselines: dict[str, Scores]
    intervals: dict[str, Intervals]
    stages: list[dict[str, Any]]


def train_on_ray(
    config: Path, out: Path, workers: int, *, resume: bool, overrides: Sequence[str], extensions: Sequence[str]
) -> RayRun:
    """Train with so many workers of Ray, which read the configuration and write the folder at these paths.

    Raises:
        UserError: the input is at fault; nothing has been trained.
        TrainingError: a worker failed or ended; the last checkpoint stays usable.
        Interrupted: stopped by Ctrl-C or SIGTERM. Unlike other ways to train, this one saves nothing then.
    """
    load_config(config, overrides)  # told before anything is started
    asked = {"config": str(config.absolute()), "out": str(out.absolute()), "resume": resume,
             "overrides": list(overrides), "extensions": list(extensions)}  # fmt: skip
    with ray_session(output=True) as ray, tempfile.TemporaryDirectory() as kept:
        found = _Fit(_trainer(ray, asked, workers, kept)).wait()
    if isinstance(found, UserError):
        raise found
    return RayRun(**found)


def _trainer(ray: Any, asked: Mapping[str, Any], workers: int, kept: str) -> Any:  # noqa: ANN401
    cores, gpus = share_of(machines_of(ray), workers, "--ray")
    ray_train: Any = import_module("ray.train")
    resources = {"CPU": cores, **({"GPU": gpus} if gpus else {})}
    return import_module("ray.train.torch").TorchTrainer(
        _work,
        train_loop_config=dict(asked),
        scaling_config=ray_train.ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources),
        run_config=ray_train.RunConfig(storage_path=kept),
    )


def _work(asked: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Train, in one of the workers; what is wrong with the input is found by all of them."""
    try:
        import_extensions(asked["extensions"], place="--extension")
        run = train(asked["config"], asked["out"], resume=asked["resume"], overrides=asked["overrides"])
    except UserError as error:
        return UserError(str(error))
    return {"scores": run.scores, "baselines": run.baselines, "intervals": run.intervals, "stages": run.stages}


class _Fit:
    """A training that runs in a thread, so that signals are this process's own."""

    def __init__(self, trainer: Any) -> None:  # noqa: ANN401
        self._trainer = trainer
        self._result: Any = None
        self._error: BaseException | None = None
        self._asked = False

    def wait(self) -> Any:  # noqa: ANN401
        """Return what the first worker returned."""
        thread = threading.Thread(target=self._run, daemon=True, name="ray-train")
        with on_signals(self._stop):
            thread.start()
            while thread.is_alive() and not self._asked:
                thread.join(_LOOK_S)
        if self._asked:
            raise Interrupted(f"stopped without saving; {_GO_ON}")
        if self._error is not None:
            raise _told(self._error)
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._trainer.fit().return_value
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self._error = error

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked = True


def _told(error: BaseException) -> BaseException:
    """Return an error of Ray Train as one of ours, where it is."""
    failures: Mapping[int, BaseException] = getattr(error, "worker_failures", {})
    for rank, failure in sorted(failures.items()):
        cause = getattr(failure, "_base_exc", failure)
        if isinstance(cause, PolytaskError):
            return cause
        if not hasattr(failure, "_base_exc"):  # no error of the function, so the worker itself has ended
            return TrainingError(f"worker {rank + 1} has ended ({type(cause).__name__}); {_GO_ON}")
    return error
