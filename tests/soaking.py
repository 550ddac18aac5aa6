"""What the soak tests share: rounds until their time is over, and runs in processes that may be killed.

POLYTASK_SOAK_MINUTES says how long all of them take together (30), POLYTASK_SOAK_SEED where the rounds begin.
"""

from __future__ import annotations

import os
import random
import secrets
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from polytask.errors import Interrupted, PolytaskError, UserError

MINUTES = float(os.environ.get("POLYTASK_SOAK_MINUTES", "30"))
SEED = os.environ.get("POLYTASK_SOAK_SEED") or secrets.token_hex(4)
Rounds = Callable[[float], Iterator[random.Random]]


@pytest.fixture
def rounds(record_property: Callable[[str, object], None]) -> Rounds:
    """Return what gives a generator for each round, until a share of the time is over: one round at least."""

    def begin(share: float) -> Iterator[random.Random]:
        end = time.monotonic() + 60 * MINUTES * share
        for number in count():
            record_property("round", f"POLYTASK_SOAK_SEED={SEED}, round {number}")
            yield random.Random(f"{SEED} {number}")
            if time.monotonic() > end:
                return

    return begin


@dataclass(frozen=True)
class Child:
    """A process that runs a function: 0 done, 1 or 2 an error of polytask, 130 interrupted, 99 a traceback."""

    pid: int
    told: Path

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> tuple[int, str]:
        """Return the exit code (less than 0: the signal that ended it), and what was raised."""
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status), self.told.read_text("utf-8") if self.told.exists() else ""


def child(function: Callable[[], Any], told: Path) -> Child:
    """Run a function in a process of its own, forked: nothing is imported anew."""
    told.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forking beside threads, which hold no lock between two tests
        pid = os.fork()
    if pid:
        return Child(pid, told)
    code = 99
    try:
        with open(os.devnull, "w") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        function()
        code = 0
    except Interrupted:
        code = 130
    except PolytaskError as error:
        told.write_text(str(error), "utf-8")
        code = 2 if isinstance(error, UserError) else 1
    except BaseException:  # noqa: BLE001 - whatever it is, the parent reports it
        told.write_text(traceback.format_exc(), "utf-8")
    finally:
        os._exit(code)


@contextmanager
def refused_in_words() -> Iterator[list[str]]:
    """Let pass what polytask refuses, and give what it says; anything else that is raised fails the test."""
    told: list[str] = []
    try:
        yield told
    except UserError as error:
        told.append(str(error))
    assert all(text.strip() for text in told)


def train(values: dict[str, Any], run: Path, told: Path) -> Child:
    """Begin a run, or go on with it, in a process of its own."""
    return child(lambda: pt.train(values, run, resume=True), told)


def content(run: Path) -> dict[str, bytes]:
    """Return what a finished run must have alike, however often it was interrupted."""
    names = ("model/model.safetensors", "scores.json", "predictions/topic.jsonl", "held_out.json")
    return {name: (run / name).read_bytes() for name in names if (run / name).exists()}


def left_over(folder: Path) -> list[str]:
    """Return the temporary files and folders that lie in a folder."""
    return [str(path) for path in folder.rglob("*") if path.name.startswith(".") or path.name == "checkpoints"]
