"""One process at a time writes into a folder, and a process that was killed leaves no lock behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from polytask.errors import OutputError
from polytask.files import sweep, temporary_folder
from polytask.lock import FILE, abandoned, in_use, is_held, locked

HOLD = """
import sys, pathlib
from polytask.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print(1, flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a folder."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        yield process
        process.kill()


def test_a_folder_that_another_process_holds_is_refused_with_its_pid_and_host(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        told = rf"the process {process.pid} on {socket.gethostname()} is writing into this folder; wait for it"
        with pytest.raises(OutputError, match=told), locked(tmp_path):
            pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_goes_with_the_process_that_held_it(tmp_path: Path, number: signal.Signals) -> None:
    with holding(tmp_path) as process:
        assert is_held(tmp_path) is True
        process.send_signal(number)
        process.wait()
        assert (tmp_path / FILE).exists()
        assert is_held(tmp_path) is False
        with locked(tmp_path):
            assert json.loads((tmp_path / FILE).read_text()) == {"pid": os.getpid(), "host": socket.gethostname()}
    assert not (tmp_path / FILE).exists()
    assert is_held(tmp_path) is False


def test_the_same_process_cannot_take_a_folder_twice_and_gives_it_back(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path), pytest.raises(OutputError, match=f"the process {os.getpid()} on"), locked(tmp_path):
            pass


def test_the_text_of_a_lock_that_cannot_be_read_is_no_traceback(tmp_path: Path) -> None:
    with locked(tmp_path):
        for text in ("", "{", "[]", '{"pid": "x"}', "\0" * 9000):
            (tmp_path / FILE).write_text(text)
            assert is_held(tmp_path) is None
            with pytest.raises(OutputError, match="another process is writing"), locked(tmp_path):
                pass


def test_a_folder_in_which_nothing_was_put_is_removed_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="input"), locked(tmp_path / "a" / "b"):
        raise ValueError("input")
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "file").write_text("mine")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "file"]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(OutputError, match="file: there is a file of that name; name a folder"),
        locked(tmp_path / "file"),
    ):
        pass
    for bad in (tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(OutputError, match=r"cannot be created \(.+\); name another folder"), locked(bad):
            pass
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_and_a_comparison_are_refused_while_their_folder_is_held(
    job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    values = job(max_steps=1)
    with locked(tmp_path / "run"):
        for resume in (False, True):
            with pytest.raises(OutputError, match="is writing into this folder"):
                pt.train(values, tmp_path / "run", resume=resume)
        with pytest.raises(OutputError, match="is writing into this folder"):
            pt.compare(values, tmp_path / "run")
        assert [path.name for path in (tmp_path / "run").iterdir()] == [FILE]


def test_left_overs_of_processes_that_live_are_not_swept(tmp_path: Path) -> None:
    for name in (".making-a", ".making-b", "making-c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("half")
    (tmp_path / ".making-file").write_text("half")
    with in_use(tmp_path / ".making-b"):
        with abandoned(tmp_path / ".making-b") as unused:
            assert not unused
        sweep(tmp_path, ".making-")
        assert {path.name for path in tmp_path.iterdir()} == {".making-b", "making-c"}
    sweep(tmp_path, ".making-")
    assert [path.name for path in tmp_path.iterdir()] == ["making-c"]


def test_what_is_deleted_as_abandoned_cannot_be_marked_as_in_use_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / ".making-a"
    path.mkdir()
    with abandoned(path) as unused:
        assert unused
        with in_use(path) as held:
            assert not held
        path.rmdir()
        with in_use(path) as held:
            assert not held
    path.mkdir()
    with in_use(path) as held:
        assert held
        path.rename(tmp_path / "moved")
        path.mkdir()  # another one of the same name
        with in_use(path) as other:
            assert other


@pytest.mark.parametrize("moment", ["created", "opened"])
def test_a_temporary_folder_that_is_swept_before_it_is_marked_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    owner, name = (Path, "mkdir") if moment == "created" else (os, "open")
    does, swept = getattr(owner, name), list[str]()

    def then_swept(path: Path, *arguments: Any, **options: Any) -> Any:
        done = does(path, *arguments, **options)
        if not swept and Path(path).name.startswith(".making-"):
            swept.append(Path(path).name)
            sweep(tmp_path, ".making-")
        return done

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, then_swept)
        with temporary_folder(tmp_path, ".making-") as folder:
            (folder / "file").write_text("content")
            sweep(tmp_path, ".making-")
            assert (folder / "file").read_text() == "content"
            assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert swept
    assert swept != [folder.name]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_process_removes_before_it_is_locked_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, gone = os.open, list[bool]()

    def removed(path: Path, *arguments: Any) -> int:
        if not gone:
            gone.append(True)
            Path(path).parent.rmdir()
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", removed)
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / FILE).exists()
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / FILE).symlink_to(tmp_path / "nowhere" / "file")
    with pytest.raises(OutputError, match="cannot be written"), locked(tmp_path / "link"):
        pass
