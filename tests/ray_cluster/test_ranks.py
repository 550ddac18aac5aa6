"""Processes of one training on a cluster, with a stand-in for Ray: what they say, how they end, what is refused."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from polytask.errors import ConfigError, TrainingError
from polytask.launch import wait_together
from polytask.ray_cluster import ranks as ranks_module
from polytask.ray_cluster import session
from polytask.ray_cluster.ranks import RankActor, RayRank, _start, place_of_each
from polytask.restarts import Restarts


class RayError(Exception):
    """What the stand-in raises where an actor has ended."""


class Actor:
    """An actor that runs here: each call has a thread of its own."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.ended = False
        self._pool, self._real = pool, RankActor()

    def end(self) -> None:
        """End the process with the actor, as the lifeline does with one that follows it."""
        self._real._cleanup.close()
        if self._real._process is not None:
            self._real._process.kill()
            self._real._process.wait()

    def __getattr__(self, name: str) -> Any:
        def remote(*given: Any) -> Future[Any]:
            return self._pool.submit(self._call, name, given)

        return SimpleNamespace(remote=remote)

    def _call(self, name: str, given: Sequence[Any]) -> Any:
        if self.ended:
            raise RayError("the actor died")
        return ("127.0.0.1", 12345) if name == "address" else getattr(self._real, name)(*given)


class StandIn:
    """Ray, as far as the processes of a training use it."""

    exceptions = SimpleNamespace(RayError=RayError)

    def wait(self, asked: list[Future[Any]], timeout: float) -> tuple[list[Future[Any]], list[Future[Any]]]:
        del timeout
        return [one for one in asked if one.done()], [one for one in asked if not one.done()]

    def get(self, asked: Any) -> Any:
        return [one.result() for one in asked] if isinstance(asked, list) else asked.result()


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Actor]]:
    monkeypatch.setattr(ranks_module, "QUIET_S", 0.02)
    with ThreadPoolExecutor(8) as pool:
        found = [Actor(pool), Actor(pool)]
        yield found
        for actor in found:
            actor.end()


def start(actors: list[Actor], script: str, monkeypatch: pytest.MonkeyPatch) -> list[RayRank]:
    """Start two processes with a script in place of `polytask`."""
    begun = ranks_module.start_python
    monkeypatch.setattr(
        ranks_module, "start_python",
        lambda held, _, told: begun(held, ["-c", "import os, signal, sys, time\n" + script], told),
    )  # fmt: skip
    return _start(StandIn(), actors, ["train"], 3)


def test_what_processes_say_goes_where_they_say_it_and_each_knows_its_place(
    actors: list[Actor], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("POLYTASK_X", "é")
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "POLYTASK_X")
    script = f"""
told = ' '.join(os.environ[name] for name in {names!r})
sys.stdout.reconfigure(encoding='utf-8'); print(told)
sys.stderr.write('half a line' * (os.environ['RANK'] == '1')); sys.exit(0)
"""
    assert wait_together(start(actors, script, monkeypatch)) == 0
    shown = capsys.readouterr()
    assert sorted(shown.out.splitlines()) == [f"{rank} 0 2 127.0.0.1 12345 3 é" for rank in (0, 1)]
    assert shown.err == "half a line"


def test_what_is_said_comes_while_they_run(
    actors: list[Actor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = tmp_path / "gate"
    script = f"print('begun', file=sys.stderr, flush=True)\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    found = start(actors, script, monkeypatch)
    said = ""
    while said.count("begun") < 2:
        assert [rank.poll() for rank in found] == [None, None]
        said += capsys.readouterr().err
        time.sleep(0.01)
    gate.touch()
    assert wait_together(found) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_all_of_them_do(
    actors: list[Actor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals
) -> None:
    script = f"""
signal.signal({int(number)}, lambda *_: sys.exit(130))
open({str(tmp_path)!r} + '/' + os.environ['RANK'], 'w').close()
time.sleep(600)
"""
    found = start(actors, script, monkeypatch)

    def ask() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=ask).start()
    assert wait_together(found) == 130


def test_a_failure_ends_the_others_and_its_code_is_told(actors: list[Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polytask.launch.FAILED_S", 0.1)
    assert wait_together(start(actors, "os.environ['RANK'] == '1' and sys.exit(3)\ntime.sleep(600)", monkeypatch)) == 3


def test_a_worker_that_is_lost_is_told_with_what_to_do(actors: list[Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polytask.launch.FAILED_S", 0.1)
    found = start(actors, "time.sleep(600)", monkeypatch)
    actors[1].ended = True
    with pytest.raises(
        TrainingError, match=r"process 2 of 2 was lost with its Ray worker \(RayError\), and the others.*--resume"
    ):
        wait_together(found, lambda rank, code: found[rank].describe_loss(rank, code))


def test_a_folder_that_a_machine_lacks_is_named(
    actors: list[Actor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ranks_module.Path, "cwd", lambda: tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="--ray: .*nowhere: No such file or directory, on a machine of the cluster"):
        _start(StandIn(), actors, [], 1)


def test_places_fit_the_machines() -> None:
    for machines in ([(1, 0)], [(8, 0)], [(8, 1), (3, 0), (16, 4)], [(2.5, 0), (2.5, 0)], [(8, 8)], [(2, 8), (8, 2)]):
        for on_gpus in (False, True):
            per_gpu = on_gpus and any(gpus for _, gpus in machines)
            most = sum(int(min(own)) if per_gpu else int(own[0]) for own in machines)
            for count in range(1, most + 1):
                cores, gpus = place_of_each(machines, count, on_gpus=on_gpus)
                assert gpus == per_gpu
                free = [int(min(own // cores, held if per_gpu else own)) for own, held in machines]
                assert sum(free) >= count
            told = f"--ray: found {most + 1}, and Ray has .* cores" + (" and .* GPUs.*train.device=cpu" * per_gpu)
            with pytest.raises(ConfigError, match=told):
                place_of_each(machines, most + 1, on_gpus=on_gpus)


def test_what_is_wrong_is_told_before_ray_begins(
    tmp_path: Path, job: Callable[..., dict[str, Any]], call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[tuple[Sequence[str], int, bool]] = []

    def launch(arguments: Sequence[str], processes: int, restarts: Restarts, *, on_gpus: bool) -> int:
        launched.append((arguments, processes, on_gpus))
        return 130

    monkeypatch.setattr(session, "require_ray", lambda: None)
    monkeypatch.setattr(ranks_module, "launch_on_ray", launch)
    config, out = tmp_path / "config.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(job()))
    code, _, told = call("train", config, "--out", out, "--ray", 2, "--processes", 2)
    assert (code, told.count("give only one")) == (2, 1)
    code, _, told = call("train", config, "--out", out, "--ray", 2, "--set", "train.epochs=none")
    assert (code, "train.epochs" in told) == (2, True)
    assert not launched
    assert call("train", config, "--out", out, "--ray", 2, "--resume", "--set", "train.device=cpu")[0] == 130
    assert launched == [(sys.argv[1:], 2, False)]
    monkeypatch.setenv("WORLD_SIZE", "1")  # as in a process that it starts, which trains
    monkeypatch.setenv("RANK", "0")
    assert call("train", config, "--out", out, "--ray", 1, "--set", "train.max_steps=1")[0] == 0
    assert (out / "model").is_dir()
