"""Processes of a training are started again after one of them was lost, and only then."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from test_launch import pids

from polytask import launch
from polytask.errors import ProcessLost, TrainingError
from polytask.launch import DEVICE_LOST, UNREACHABLE, run_together
from polytask.restarts import Restarts, newest_step

TRAIN = ["train", "config.yaml", "--out", "run", "--processes", "2"]
LOST = ProcessLost("process 2 of 2 was ended by SIGKILL", "all ended")


class Start:
    """Stands for a training: each start does what its turn says, and is noted with its arguments."""

    def __init__(self, *turns: Callable[[], int]) -> None:
        self.turns = list(turns)
        self.given: list[Sequence[str]] = []

    def __call__(self, arguments: Sequence[str]) -> int:
        self.given.append(arguments)
        return self.turns.pop(0)()


def lost() -> int:
    raise LOST


def after(run: Path, step: int) -> Callable[[], int]:
    """Return a turn that writes the checkpoint of a step and is lost then."""

    def turn() -> int:
        (run / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
        raise LOST

    return turn


def test_a_lost_process_is_told_with_the_step_and_what_is_left_and_all_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = Start(lost, after(tmp_path, 40), lambda: 0)
    assert Restarts(2, tmp_path, resume=False).run(start, TRAIN) == 0
    assert start.given == [TRAIN, *[["train", "--resume", *TRAIN[1:]]] * 2]
    assert capsys.readouterr().err.splitlines() == [
        f"{LOST.description}: all processes start over: there is no checkpoint (restarts left: 1 of 2)",
        f"{LOST.description}: all processes continue from the checkpoint of step 40 (restarts left: 1 of 2)",
    ]


def test_without_a_new_checkpoint_restarts_are_used_up_and_each_new_one_makes_them_full(tmp_path: Path) -> None:
    start = Start(lost, lost, after(tmp_path, 7), lost, lost, lambda: 0)
    with pytest.raises(ProcessLost, match="all ended"):
        Restarts(2, tmp_path, resume=True).run(start, TRAIN)
    assert len(start.turns) == 1
    assert start.given == [TRAIN] * 5
    start = Start(lost, lambda: 0)
    with pytest.raises(ProcessLost):
        Restarts(0, tmp_path, resume=True).run(start, TRAIN)


def test_what_fails_by_itself_is_not_started_again(tmp_path: Path) -> None:
    for code in (1, 2, 130):
        start = Start(lambda code=code: code)
        assert Restarts(3, tmp_path, resume=False).run(start, TRAIN) == code

    def stopped() -> int:
        raise TrainingError("asked to stop, and one was killed")

    with pytest.raises(TrainingError, match="asked to stop"):
        Restarts(3, tmp_path, resume=False).run(Start(stopped), TRAIN)


def test_a_run_that_was_there_before_is_not_gone_on_with_unasked(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    start = Start(lost, lambda: 2)
    assert Restarts(3, tmp_path, resume=False).run(start, TRAIN) == 2
    assert start.given == [TRAIN, TRAIN]


def test_a_complete_run_is_not_started_again(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(ProcessLost):
        Restarts(3, tmp_path, resume=True).run(Start(lost), TRAIN)


def test_the_newest_step_is_that_of_whole_checkpoints(tmp_path: Path) -> None:
    assert newest_step(tmp_path) == 0
    for name in ("step-00000009", "step-00000012", ".writing-step-00000013-ab", "best-00000014"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert newest_step(tmp_path) == 12


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "FAILED_S", 0.5)
    monkeypatch.setattr(launch, "TOLD_S", 0.2)


SCRIPT = "import os, signal, sys, time\nrank = os.environ['RANK']\n"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("sys.exit(75)", "os.kill(os.getpid(), 9)", "process 2 of 2 was ended by SIGKILL"),
        # The one that cannot reach the other may be seen first.
        ("sys.exit(75)", "time.sleep(0.3); os.kill(os.getpid(), 9)", "process 2 of 2 was ended by SIGKILL"),
        ("sys.exit(75)", "sys.exit(74)", "process 2 of 2 lost its device"),
        ("sys.exit(75)", "sys.exit(75)", "process 1 of 2 could not reach the others"),
        ("time.sleep(600)", "os.kill(os.getpid(), 6)", "process 2 of 2 was ended by SIGABRT"),
    ],
)
def test_what_was_lost_is_told_by_where_it_began(first: str, second: str, told: str) -> None:
    assert (DEVICE_LOST, UNREACHABLE) == (74, 75)
    script = f"{SCRIPT}if rank == '0':\n    {first}\nelse:\n    {second}\n"
    with pytest.raises(ProcessLost) as error:
        run_together([sys.executable, "-c", script], 2)
    assert error.value.description == told


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("code", [1, 2])
def test_one_that_fails_by_itself_is_the_cause_though_the_other_could_not_reach_it_before(code: int) -> None:
    script = f"{SCRIPT}if rank == '1':\n    time.sleep(0.2); sys.exit({code})\nsys.exit(75)\n"
    assert run_together([sys.executable, "-c", script], 2) == code


RESTARTING = """
import sys
from pathlib import Path
from polytask.launch import run_together
from polytask.restarts import Restarts
script, folder = sys.argv[1:]
command = [sys.executable, "-c", script, folder]
sys.exit(Restarts(3, Path(folder), resume=True).run(lambda _: run_together(command, 2), []))
"""


def test_asked_to_stop_nothing_is_started_again(tmp_path: Path) -> None:
    """Also where a process does not hear, so that it is killed in the end."""
    script = """
import os, pathlib, signal, sys, time
here, rank = pathlib.Path(sys.argv[1]), os.environ["RANK"]
signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), 9) if rank == "1" else sys.exit(130))
(here / f"{rank}.part").write_text(str(os.getpid())); (here / f"{rank}.part").replace(here / rank)
time.sleep(600)
"""
    command = [sys.executable, "-c", RESTARTING, script, str(tmp_path)]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as launcher:
        pids(tmp_path)
        launcher.send_signal(signal.SIGTERM)
        _, said = launcher.communicate(timeout=300)
    assert launcher.returncode == 130, said
    assert "restarts left" not in said


def test_torchrun_restarts_by_itself(
    tmp_path: Path, call: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    code, _, told = call("train", "config.yaml", "--out", tmp_path / "run", "--restarts", 2)
    assert (code, "give torchrun --max-restarts" in told) == (2, True)
    assert not list(tmp_path.iterdir())
