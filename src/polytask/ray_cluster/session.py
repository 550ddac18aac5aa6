"""A connection to Ray: to the cluster at RAY_ADDRESS, or to a local one that ends with this process."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from polytask.errors import ConfigError, MissingExtra, PolytaskError

_ADDRESS = "RAY_ADDRESS"
# Ray waits half a minute for its processes; on a busy machine they may only be in time once their files are cached.
_STARTS = 2


def require_ray() -> None:
    """Raise MissingExtra if Ray is not installed."""
    if find_spec("ray") is None:
        raise MissingExtra("ray", "ray", "--ray")


@contextmanager
def ray_session(*, output: bool = False) -> Generator[Any]:
    """Yield the connected Ray module; an existing connection of this process is used and kept.

    Nothing is uploaded: the machines of a cluster need polytask, and the files at the same paths.

    Args:
        output: whether to show the output of workers.

    Raises MissingExtra; ConfigError if no cluster answers at RAY_ADDRESS; PolytaskError if no local one can be started.
    """
    require_ray()
    # Under `uv run`, Ray would upload the working folder; it also sends usage statistics.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # For a local Ray: with its default of 15, workers take minutes to load on a busy machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray: Any = import_module("ray")
    if ray.is_initialized():
        yield ray
        return
    _connect(ray, output)
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, output: bool) -> None:  # noqa: ANN401
    address = os.environ.get(_ADDRESS, "")
    options = {"log_to_driver": output, "logging_level": logging.CRITICAL}
    if address not in ("", "local"):
        try:
            ray.init(address=address, **options)
        except Exception as error:  # noqa: BLE001 - Ray documents no exception class
            raise ConfigError(
                f"{_ADDRESS}: found {address!r}, where no Ray cluster accepts this process ({_first_line(error)}); "
                "start one with `ray start --head`, unset it to use this machine alone, or, if the cluster asks for "
                "a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"
            ) from None
        return
    for attempts_left in reversed(range(_STARTS)):
        try:
            ray.init(address="local", include_dashboard=False, **options)
            return
        except Exception as error:  # noqa: BLE001
            ray.shutdown()
            if not attempts_left:
                raise PolytaskError(
                    f"ray: cannot be started on this machine ({_first_line(error)}); its logs are in /tmp/ray"
                ) from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def share_of(machines: Sequence[tuple[float, float]], count: int, name: str) -> tuple[int, float]:
    """Return the number of cores, and the share of a GPU, for each of several workers.

    >>> share_of([(8, 0), (8, 0)], 3, "--workers")  # 5 would leave no place for the third
    (4, 0.0)
    >>> share_of([(8, 2)], 3, "--workers")
    (2, 0.5)

    Args:
        machines: cores and GPUs of each machine.
        count: number of workers.
        name: the option that sets this number.

    Raises ConfigError if there are more workers than cores.
    """
    cores = int(sum(cores for cores, _ in machines))
    fitting = [k for k in range(1, cores // count + 1) if sum(int(total // k) for total, _ in machines) >= count]
    if not fitting:
        raise ConfigError(f"{name}: found {count}, and Ray has {cores} cores; each takes one, so ask for fewer")
    gpus = int(sum(gpus for _, gpus in machines))
    return max(fitting), 1 / -(-count // gpus) if gpus else 0.0


def machines_of(ray: Any) -> list[tuple[float, float]]:  # noqa: ANN401
    """Return the cores and GPUs of each machine of the cluster."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(float(machine.get("CPU", 0)), float(machine.get("GPU", 0))) for machine in resources]
