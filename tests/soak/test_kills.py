"""Killed at random moments, damaged, and resumed, a run ends as the one that nobody touched."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from polytask.data.cache import cached
from soaking import Rounds, content, left_over, train

pytestmark = pytest.mark.soak
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)


def test_a_run_that_was_killed_at_random_moments_ends_as_the_one_that_was_not(
    job: Callable[..., dict[str, Any]], tmp_path: Path, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = job(rows=60, max_steps=12, save_steps=1, evaluations_per_epoch=3, best_of_each_task=True)
    monkeypatch.setenv("POLYTASK_CACHE", str(tmp_path / "cache"))
    began = time.monotonic()
    pt.train(values, tmp_path / "whole")
    seconds = time.monotonic() - began
    expected = content(tmp_path / "whole")
    for drawn in rounds(0.35):
        run, told = tmp_path / "run", tmp_path / "told"
        for _ in range(drawn.randint(1, 4)):
            if drawn.random() < 0.3:
                shutil.rmtree(tmp_path / "cache", ignore_errors=True)
            process = train(values, run, told)
            time.sleep(drawn.uniform(0, seconds))
            process.signal(drawn.choice(SIGNALS))
            code, said = process.wait()
            assert code in (0, 130, -signal.SIGKILL, -signal.SIGTERM) or "KeyboardInterrupt" in said or is_told(said), (
                said
            )
            if not (run / "model").exists() and drawn.random() < 0.3:
                damage(
                    drawn, [*(run / "checkpoints").rglob("*"), *(tmp_path / "cache").rglob("*"), run / "events.jsonl"]
                )
        finish(values, run, told)
        assert content(run) == expected
        assert left_over(run) == []
        cached("another", lambda path: path.write_text("content") and None)  # which sweeps what killed processes left
        assert left_over(tmp_path / "cache") == []
        shutil.rmtree(tmp_path / "cache" / "another")
        shutil.rmtree(run)


def is_told(said: str) -> bool:
    """Whether a run says that it cannot go on, or that it is over, as it should."""
    return "no checkpoint is complete" in said or "this run is complete" in said


def finish(values: dict[str, Any], run: Path, told: Path) -> None:
    """Go on until the run is complete; where every checkpoint was damaged, from the beginning."""
    for _ in range(3):
        code, said = train(values, run, told).wait()
        if code == 0 or "this run is complete" in said:
            return
        assert "no checkpoint is complete" in said, said
        shutil.rmtree(run / "checkpoints")
    raise AssertionError(said)


def damage(drawn: random.Random, paths: list[Path]) -> None:
    """Cut a file, or alter a byte of it."""
    files = sorted(path for path in paths if path.is_file() and path.stat().st_size)
    if files:
        path = drawn.choice(files)
        whole = path.read_bytes()
        at = drawn.randrange(len(whole))
        cut = drawn.random() < 0.5
        path.write_bytes(whole[:at] + (b"" if cut else bytes([whole[at] ^ drawn.randint(1, 255)]) + whole[at + 1 :]))
        os.sync()
