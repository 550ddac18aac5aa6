"""Wherever a disk is full, a run says so, loses nothing, and ends as another one when there is space again."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from soaking import Rounds, child, content, left_over

pytestmark = pytest.mark.soak
MIB = 1 << 20


class Disk:
    """A folder with a limit: a file system of its own where we may mount one, otherwise a limit on each file's size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={64 * MIB}", "tmpfs", str(folder)]
        self.mounted = (
            os.geteuid() == 0 and bool(shutil.which("mount")) and subprocess.run(command, check=False).returncode == 0
        )
        self._size = -1

    def limit(self, size: int) -> None:
        self._size = size
        if self.mounted:
            held = os.statvfs(self.folder)  # none can be made smaller than what it holds
            size = max(size, (held.f_blocks - held.f_bfree) * held.f_frsize)
            subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)

    def apply(self) -> None:
        """Take over the limit in the process that runs."""
        if not self.mounted and self._size >= 0:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._size, self._size))

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "disk")
    yield found
    found.close()


def test_a_run_on_a_disk_that_was_full_ends_as_one_on_a_disk_that_was_not(
    job: Callable[..., dict[str, Any]], tmp_path: Path, rounds: Rounds, monkeypatch: pytest.MonkeyPatch, disk: Disk
) -> None:
    values = job(rows=40, max_steps=6, save_steps=1, evaluations_per_epoch=2, best_of_each_task=True)
    pt.train(values, tmp_path / "whole")
    expected = content(tmp_path / "whole")
    biggest = (64 if disk.mounted else 14) * MIB
    full, run, told = 0, disk.folder / "run", tmp_path / "told"

    def go_on() -> None:
        disk.apply()
        pt.train(values, run, resume=True)

    for drawn in rounds(0.2):
        cached = disk.folder if drawn.random() < 0.3 else tmp_path
        monkeypatch.setenv("POLYTASK_CACHE", str(cached / "cache"))
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        for _ in range(drawn.randint(1, 3)):
            # Too little for any run at first, so that a short form of the test has met a full disk too.
            size = round(biggest * drawn.random() ** 2) // 4096 if full else drawn.randint(1, 255)
            disk.limit(4096 * size + 4096)
            code, said = child(go_on, told).wait()
            assert code in (0, 1, 2), said
            assert code == 0 or "cannot be" in said or "this run is complete" in said, said
            full += "cannot be" in said
        disk.limit(4 * biggest)
        code, said = child(go_on, told).wait()
        assert code == 0 or "this run is complete" in said, said
        assert content(run) == expected
        assert left_over(run) == []
        shutil.rmtree(run)
        shutil.rmtree(disk.folder / "cache", ignore_errors=True)
    assert full
