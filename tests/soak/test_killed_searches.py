"""Searches and extensions that were killed at random moments, and whose files were cut, end as those that were not."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from polytask.search import evidence
from soaking import Rounds, child, content, left_over, refused_in_words

pytestmark = pytest.mark.soak
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
TIMED = ("rows_per_second", "seconds_of_one_training")


def test_a_search_with_folds_that_was_killed_and_cut_ends_as_the_one_that_was_not(
    job: Callable[..., dict[str, Any]], tmp_path: Path, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = job(rows=48, epochs=1, batch_size=8)
    monkeypatch.setattr(evidence, "CLEAR", 2.0)  # folds judge every winner
    monkeypatch.setenv("POLYTASK_CACHE", str(tmp_path / "cache"))
    whole, out, told = tmp_path / "whole", tmp_path / "out", tmp_path / "told"
    began = time.monotonic()
    expected = search(values, whole)
    seconds = time.monotonic() - began
    for drawn in rounds(0.15):
        for _ in range(drawn.randint(1, 4)):
            process = child(lambda: search(values, out), told)
            time.sleep(drawn.uniform(0, seconds))
            process.signal(drawn.choice(SIGNALS))
            code, said = process.wait()
            # 2: what was cut before is told.
            assert code in (0, 2, 130, -signal.SIGKILL, -signal.SIGTERM) or "KeyboardInterrupt" in said, said
            if drawn.random() < 0.5:
                cut(drawn, out)
        assert finish(values, out) == expected
        assert (out / "model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()
        assert [path for path in left_over(out) if ".damaged-" not in path] == []
        shutil.rmtree(out)


def search(values: dict[str, Any], out: Path) -> dict[str, Any]:
    """Search, or go on, and return what the record says apart from times."""
    found = pt.auto(values, out, budget=11, folds=2, floor=0)
    return {key: value for key, value in found.record.items() if key not in TIMED}


def finish(values: dict[str, Any], out: Path) -> dict[str, Any]:
    """Search until the end; what is told to be damaged of a complete run is deleted, and nothing else."""
    for _ in range(12):
        with refused_in_words() as told:
            return search(values, out)
        (run,) = re.findall(re.escape(str(out)) + r"/(?:runs|ladder)/[\w-]+", told[0])[:1]
        shutil.rmtree(run)
    raise AssertionError(told)


def test_an_extension_that_was_killed_ends_as_the_one_that_was_not(
    job: Callable[..., dict[str, Any]], tmp_path: Path, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = job(rows=48, max_steps=8, save_steps=1, evaluations_per_epoch=2)
    monkeypatch.setenv("POLYTASK_CACHE", str(tmp_path / "cache"))
    first, *others = values["tasks"].items()
    pt.train({**values, "tasks": dict([first])}, tmp_path / "home")
    for drawn in rounds(0.05):
        mode = drawn.choice(["joint", "frozen"])
        adding = {**values, "tasks": dict([first, *others] if mode == "joint" else others)}
        whole, run, told = tmp_path / mode, tmp_path / "run", tmp_path / "told"
        extend = partial(pt.extend, tmp_path / "home", adding, mode=mode)
        if not whole.exists():
            extend(whole)
        expected = content(whole)
        for _ in range(drawn.randint(1, 4)):
            process = child(partial(extend, run, resume=True), told)
            time.sleep(drawn.uniform(0, 3))
            process.signal(drawn.choice(SIGNALS))
            code, said = process.wait()
            allowed = ("KeyboardInterrupt" in said, "this run is complete" in said)
            assert code in (0, 130, -signal.SIGKILL, -signal.SIGTERM) or any(allowed), said
        code, said = child(partial(extend, run, resume=True), told).wait()
        assert code == 0 or "this run is complete" in said, said
        assert content(run) == expected
        assert left_over(run) == []
        shutil.rmtree(run)


def cut(drawn: random.Random, folder: Path) -> None:
    """Cut a file of a folder, or remove it: as a disk does that lost power."""
    # Without auto-config.json nobody can tell whose runs these are: such a folder is refused as one of other files.
    found = (path for path in folder.rglob("*") if path.name != "auto-config.json")
    files = sorted(path for path in found if path.is_file() and path.stat().st_size)
    if files:
        path = drawn.choice(files)
        os.truncate(path, drawn.randrange(path.stat().st_size))
        if drawn.random() < 0.3:
            path.unlink()
