"""A search that is killed at any stage goes on to the same result, and several processes find what one does."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from searching import GRAFTING, without_times

import polytask
from polytask.errors import OutputError
from polytask.files import file_digest
from polytask.lock import locked

Searched = tuple[dict[str, Any], polytask.AutoResult]


def training(folder: Path, number: int) -> Callable[[], bool]:
    """Tell whether the n-th run has begun to train."""
    return lambda: len(list(folder.glob("runs/*/events.jsonl"))) >= number


KILLS: dict[str, Callable[[Path], Callable[[], bool]]] = {
    "first run": lambda folder: training(folder, 1),
    "third run": lambda folder: training(folder, 3),
    "ladder": lambda folder: lambda: any(folder.glob("ladder/*/*")),
    "shipping": lambda folder: lambda: any((folder / "model").glob("*")) or (folder / "config.yaml").exists(),
}


def kill_when(ready: Callable[[], bool], command: list[str], folder: Path) -> bool:
    """Kill a search once something is there, wait until its lock is free, and tell whether it was killed."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not ready() and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    killed = process.wait() != 0
    while True:  # a stand-in is gone before the process that it stands for
        try:
            with locked(folder):
                return killed
        except OutputError:
            time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_search_ends_as_without_the_kills(searched: Searched, tmp_path: Path, quick_processes: None) -> None:
    values, found = searched
    config, out = tmp_path / "config.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(values))
    options = [f"--{name.replace('_', '-')}={value:g}" for name, value in GRAFTING.items()]
    command = [sys.executable, "-m", "polytask", "auto", str(config), "--out", str(out), *options]
    killed = {name: kill_when(stage(out), command, out) for name, stage in KILLS.items()}
    assert all(killed.values()), killed
    again = polytask.auto(values, out, **GRAFTING)
    assert without_times(again.record) == without_times(found.record)
    assert file_digest(again.model / "model.safetensors") == file_digest(found.model / "model.safetensors")


def test_several_processes_find_what_one_does(searched: Searched, tmp_path: Path, quick_processes: None) -> None:
    values, found = searched
    together = polytask.auto(values, tmp_path / "out", **GRAFTING, jobs=2)
    told, alone = without_times(together.record), without_times(found.record)
    assert told.pop("options") == {**alone.pop("options"), "jobs": 2}
    assert told == alone
    assert file_digest(together.model / "model.safetensors") == file_digest(found.model / "model.safetensors")
