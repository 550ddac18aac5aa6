"""Runs on Ray itself: the comparison is that of local runs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")]
ray: Any = pytest.importorskip("ray", reason="needs pip install 'polytask[ray]'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray of this machine with two cores, or that at RAY_ADDRESS."""
    address = os.environ.get("RAY_ADDRESS")
    local = {} if address else {"num_cpus": 2, "include_dashboard": False}
    ray.init(address=address or "local", log_to_driver=False, logging_level="critical", **local)
    yield
    ray.shutdown()


@pytest.fixture
def config(tmp_path: Path, job: Callable[..., dict[str, Any]]) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(job(max_steps=4)))
    return path


def test_runs_of_a_comparison_train_on_the_cluster_and_what_fails_says_where(
    cluster: None, config: Path, tmp_path: Path
) -> None:
    import polytask

    found = polytask.compare(config, tmp_path / "out", arms=["global"], seeds=2, jobs=2, ray=True)
    assert (found.trained, found.reused) == (8, 0)
    assert all((folder / "model").is_dir() for folder in (tmp_path / "out" / "runs").iterdir())
    local = polytask.compare(config, tmp_path / "local", arms=["global"], seeds=2)
    for task, told in local.tasks.items():
        assert found.tasks[task]["arms"]["global"]["mean"] == pytest.approx(told["arms"]["global"]["mean"], abs=1e-6)


def test_commands_on_the_cluster_end_by_signal_by_failure_and_with_their_actor(cluster: None, tmp_path: Path) -> None:
    from polytask.ray_cluster.jobs import RayStarter

    starter = RayStarter(ray, 2)

    def start(program: str, name: str) -> Any:
        with (tmp_path / name).open("ab") as log:
            return starter.start(["python", "-c", program], {"POLYTASK_X": "7", "OTHER": "8"}, log)

    def code(command: Any) -> int:
        for _ in range(6000):
            if (found := command.poll()) is not None:
                return found
            time.sleep(0.02)
        raise AssertionError

    failing = start("import os, sys; print(os.environ['POLYTASK_X'], 'OTHER' in os.environ); sys.exit(3)", "a.log")
    ready = tmp_path / "ready"
    waiting = start(
        f"import pathlib, signal, sys, time; signal.signal(2, lambda *_: sys.exit(130)); "
        f"pathlib.Path({str(ready)!r}).touch(); time.sleep(600)", "b.log"
    )  # fmt: skip
    assert code(failing) == 3
    assert (tmp_path / "a.log").read_text() == "7 False\n"
    while not ready.exists():
        time.sleep(0.02)
    waiting.send_signal(signal.SIGINT)
    assert code(waiting) == 130
    killed = start("import os, signal; os.kill(os.getppid(), signal.SIGKILL)", "c.log")
    assert code(killed) == 1
    assert "error: the Ray worker that ran this has ended" in (tmp_path / "c.log").read_text()
