"""A pipe, a device or a folder in the place of a file that is read: told in words, and waited for by nobody."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import polytask as pt
from polytask.errors import PolytaskError
from polytask.regular import MOST_BYTES, open_regular, read_bytes, read_text

Job = Callable[..., dict[str, Any]]
PLACES: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
}
SECONDS = 60
ROWS = [{"text": "One.", "label": "a"}, {"text": "Two.", "label": "b"}]
TASK = {"t": {"type": "classification", "data": {"train": ROWS, "dev": ROWS}}}


class TooLateError(BaseException):
    """Something waits."""


@contextmanager
def told_in_time(what: str) -> Iterator[None]:
    """Let pass what polytask refuses; fail where it waits, or raises anything else."""

    def ring(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise TooLateError(what)

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        with suppress(PolytaskError):
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def files_of(folder: Path) -> list[Path]:
    return [
        path.relative_to(folder)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]


@pytest.fixture
def ended(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], Path]:
    """A configuration, and the folder of its run."""
    monkeypatch.setenv("POLYTASK_CACHE", str(tmp_path / "cache"))
    values = job(rows=24, max_steps=2, save_steps=1)
    pt.train(values, tmp_path / "run")
    return values, tmp_path / "run"


@pytest.mark.parametrize("place", PLACES)
def test_in_the_folder_of_a_run(place: str, ended: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    values, run = ended
    uses: dict[str, Callable[[Path], object]] = {
        "report": lambda folder: pt.report(folder),
        "load": lambda folder: pt.load(folder).predict(["A text."]),
        "train": lambda folder: pt.train(values, folder, resume=True),
        "compose": lambda folder: pt.compose([folder, f"{run}:topic"], tmp_path / "composed"),
    }
    for name in files_of(run):
        for use, call in uses.items():
            folder = tmp_path / "copy"
            shutil.copytree(run, folder)
            (folder / name).unlink()
            PLACES[place](folder / name)
            with told_in_time(f"{use} of {name}"):
                call(folder)
            shutil.rmtree(folder)
            shutil.rmtree(tmp_path / "composed", ignore_errors=True)


@pytest.mark.parametrize("place", PLACES)
def test_in_the_folder_of_an_encoder(place: str, job: Job, tiny: Path, tmp_path: Path) -> None:
    for name in files_of(tiny):
        folder = tmp_path / "encoder"
        shutil.copytree(tiny, folder)
        (folder / name).unlink()
        PLACES[place](folder / name)
        with told_in_time(str(name)):
            pt.train({**job(rows=12, max_steps=1), "encoder": str(folder)})
        shutil.rmtree(folder)


@pytest.mark.parametrize("place", PLACES)
def test_in_the_cache(place: str, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, cache = job(rows=12, max_steps=1), tmp_path / "cache"
    monkeypatch.setenv("POLYTASK_CACHE", str(cache))
    expected = pt.train(values).scores
    for name in files_of(cache):
        (cache / name).unlink()
        PLACES[place](cache / name)
        with told_in_time(str(name)):
            assert pt.train(values).scores == expected
        shutil.rmtree(cache)
        pt.train(values)


def test_what_is_read_is_a_regular_file_of_a_bounded_size(tmp_path: Path) -> None:
    for place, make in PLACES.items():
        make(tmp_path / place)
        for read in (open_regular, read_bytes, read_text):
            with pytest.raises(OSError, match=r"not a regular file|[Dd]irectory"):
                read(tmp_path / place)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(OSError, match="it has more than"):
        read_text(tmp_path / "large")
    (tmp_path / "text").write_bytes("ä\r\nb".encode())
    assert read_text(tmp_path / "text") == "ä\nb"


LONG = "x" * 5000


@pytest.mark.parametrize(
    "use",
    [
        pt.load,
        pt.report,
        pt.check,
        lambda name: pt.evaluate(name, [{"text": "a"}]),
        lambda name: pt.compose([name, f"{name}:topic"], "never"),
        lambda name: pt.export(name, "never"),
        lambda name: pt.check({"encoder": name, "tasks": TASK}),
        lambda name: pt.check({"encoder": f"/{name}", "tasks": TASK}),
        lambda name: pt.check({"encoder": "x", "extensions": [name], "tasks": TASK}),
        lambda name: pt.check({"encoder": "x", "tasks": {"t": {"type": "classification", "data": {"train": name}}}}),
        lambda name: pt.check({"encoder": "x", "tasks": {"t": {"type": "classification", "data": {"hub": name}}}}),
    ],
)
def test_a_name_that_is_too_long_for_the_system_is_told(use: Callable[[str], object]) -> None:
    with pytest.raises(PolytaskError):
        use(LONG)
