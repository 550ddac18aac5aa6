"""Processes that train together end together: killed, interrupted, failed or hanging."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from polytask import launch
from polytask.errors import TrainingError
from polytask.launch import run_together
from polytask.training import distribution

FOLLOW = "import os, signal, sys, time, pathlib; from polytask.launch import follow; follow()\n"
HERE = "here = pathlib.Path(sys.argv[1]); rank = os.environ['RANK']\n"
READY = "(here / f'{rank}.part').write_text(str(os.getpid())); (here / f'{rank}.part').replace(here / rank)\n"
SLEEP = "time.sleep(600)\n"
STOP = "signal.signal(signal.SIGINT, lambda *_: sys.exit(130))\n"
DEAF = "[signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)]\n"


LAUNCHER = """
import sys
from polytask import launch
script, folder, patience = sys.argv[1:]
launch.FAILED_S = launch.TOLD_S = float(patience)
sys.exit(launch.run_together([sys.executable, "-c", script, folder], 2))
"""


def start(script: str, folder: Path, patience: float = 60.0) -> subprocess.Popen[bytes]:
    """Start two processes with a script, from a process of their own."""
    command = [sys.executable, "-c", LAUNCHER, script, str(folder), str(patience)]
    return subprocess.Popen(command, start_new_session=True)


def wait_for(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pids(folder: Path) -> list[int]:
    wait_for(lambda: all((folder / rank).exists() for rank in "01"))
    return [int((folder / rank).read_text()) for rank in "01"]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_a_killed_launcher_takes_its_processes_along(tmp_path: Path) -> None:
    with start(FOLLOW + HERE + READY + SLEEP, tmp_path) as launcher:
        found = pids(tmp_path)
        assert not any(map(gone, found))
        launcher.kill()
        wait_for(lambda: all(map(gone, found)))


def test_a_process_that_does_not_hear_is_killed_with_its_launcher(tmp_path: Path) -> None:
    short = "import polytask.launch; polytask.launch.TOLD_S = 0.2\n"
    with start(short + FOLLOW + DEAF + HERE + READY + SLEEP, tmp_path) as launcher:
        found = pids(tmp_path)
        launcher.kill()
        wait_for(lambda: all(map(gone, found)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_alone_reaches_every_process(tmp_path: Path, number: signal.Signals) -> None:
    script = FOLLOW + STOP + "signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))\n" + HERE + READY + SLEEP
    with start(script, tmp_path) as launcher:
        pids(tmp_path)
        launcher.send_signal(number)
        assert launcher.wait(300) == 130


def test_asked_twice_what_hangs_is_killed(tmp_path: Path) -> None:
    with start(FOLLOW + DEAF + HERE + READY + SLEEP, tmp_path, patience=0.2) as launcher:
        found = pids(tmp_path)
        launcher.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert not any(map(gone, found)), "the first signal leaves them time to save"
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(300) == 128 + signal.SIGKILL
        assert all(map(gone, found))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "FAILED_S", 0.2)
    monkeypatch.setattr(launch, "TOLD_S", 0.2)


@pytest.mark.usefixtures("impatient")
def test_a_process_that_hangs_after_another_failed_is_killed(tmp_path: Path) -> None:
    script = "import os, sys, time, signal\n" + DEAF + "os.environ['RANK'] == '1' and sys.exit(3)\n" + SLEEP
    assert run_together([sys.executable, "-c", script], 2) == 3


@pytest.mark.usefixtures("impatient")
def test_a_process_that_the_system_killed_is_told(tmp_path: Path) -> None:
    script = "import os, time\nos.environ['RANK'] == '1' and os.kill(os.getpid(), 9)\n" + SLEEP
    with pytest.raises(TrainingError, match=r"process 2 of 2 was ended by SIGKILL, and the others with it; go on"):
        run_together([sys.executable, "-c", script], 2)


def test_one_that_stopped_as_asked_leaves_the_others_time_to_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "FAILED_S", 0.0)
    script = "import os, sys, time\nos.environ['RANK'] == '1' and sys.exit(130)\ntime.sleep(0.7); sys.exit(130)"
    assert run_together([sys.executable, "-c", script], 2) == 130


def test_a_lost_process_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("WORLD_SIZE", "2")
    for name, value in (("init_process_group", None), ("get_rank", 1), ("destroy_process_group", None)):
        monkeypatch.setattr(distribution.dist, name, lambda *_, value=value: value)
    told = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:8011"
    lost = pytest.raises(TrainingError, match="another process has ended.*Connection closed by peer.*--resume")
    with lost, distribution.join_world(torch.device("cpu")):
        raise RuntimeError(told)
    with pytest.raises(RuntimeError, match="shapes"), distribution.join_world(torch.device("cpu")):
        raise RuntimeError("shapes differ")
