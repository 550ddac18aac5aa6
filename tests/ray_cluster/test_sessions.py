"""What is told where Ray is not installed, and what each worker is given: neither needs Ray."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polytask.errors import ConfigError
from polytask.ray_cluster import session
from polytask.ray_cluster.session import share_of


def test_every_command_names_the_extra_before_it_does_anything(
    tmp_path: Path, job: Callable[..., dict[str, Any]], call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    monkeypatch.setattr(session, "find_spec", lambda _: None)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(job()))
    (tmp_path / "in").mkdir()
    out = tmp_path / "out"
    for arguments in (
        ("predict", tmp_path, tmp_path / "in", "--ray"),
        ("train", config, "--ray", 2),
        ("compare", config, "--ray"),
        ("auto", config, "--ray"),
        ("tune", config, "--search", "train.learning_rate=1e-5,1e-4", "--ray"),
    ):
        code, shown, told = call(*arguments, "--out", out)
        assert (code, shown) == (2, "")
        assert told == "error: --ray needs the package 'ray', which is not installed: pip install 'polytask[ray]'\n"
    assert not out.exists()


def test_shares_fit_the_machines() -> None:
    for machines in ([(1, 0)], [(8, 0)], [(8, 1), (3, 0), (16, 4)], [(2.5, 0), (2.5, 0)]):
        total = sum(int(cores) for cores, _ in machines)
        for count in range(1, total + 1):
            cores, gpus = share_of(machines, count, "--workers")
            assert sum(int(own // cores) for own, _ in machines) >= count
            held = int(sum(gpus for _, gpus in machines))
            assert gpus == 0 if not held else sum(int(own / gpus + 1e-9) for _, own in machines) >= min(count, held)
        with pytest.raises(ConfigError, match=f"--workers: found {total + 1}, and Ray has"):
            share_of(machines, total + 1, "--workers")


def test_nobody_imports_an_engine_who_does_not_use_it() -> None:
    program = (
        "import polytask.cli, polytask.batch.job, polytask.comparison, polytask.tuning, polytask.search, sys; "
        "engines = {'ray', 'pyspark', 'apache_beam', 'polytask.batch.ray_actors', 'polytask.ray_cluster.ranks'}; "
        "assert not engines & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(("given", "told"), [({}, "0"), ({"RAY_worker_niceness": "7"}, "7")])
def test_workers_of_a_ray_that_is_started_here_have_the_priority_of_other_processes(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], told: str
) -> None:
    found: list[str] = []
    ray = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **_: found.append(session.os.environ["RAY_worker_niceness"]),
        shutdown=lambda: found.append("shut down"),
    )
    monkeypatch.setattr(session, "os", SimpleNamespace(environ=given))
    monkeypatch.setattr(session, "find_spec", lambda _: True)
    monkeypatch.setattr(session, "import_module", lambda _: ray)
    with session.ray_session() as connected:
        assert connected is ray
    assert found == [told, "shut down"]
