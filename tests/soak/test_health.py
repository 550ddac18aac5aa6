"""/health answers while large bodies are being refused, about as fast as from a server that nobody attacks."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from benchmarks.health import BODIES, attack, health_ms

import polytask as pt

pytestmark = pytest.mark.soak
# Reading the bodies from the network, and the interpreter's lock while one of them is parsed: docs/benchmarks.md has
# the figures of `benchmarks.health`.
MOST_TIMES = 30


@contextmanager
def server(model: Path) -> Iterator[int]:
    """Serve a model in a process of its own, and give the port."""
    command = [sys.executable, "-m", "polytask", "serve", str(model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if '"listening"' in line)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield int(json.loads(line)["url"].rpartition(":")[2])
        finally:
            process.terminate()


@pytest.mark.parametrize("kind", BODIES)
def test_health_answers_while_large_bodies_are_refused(
    kind: str, job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    pt.train(job(rows=24, max_steps=2), tmp_path / "run")
    model = tmp_path / "run" / "model"
    with server(model) as attacked, server(model) as idle, attack(attacked, BODIES[kind]) as refused:
        before = len(refused)
        # In turn, so that whatever else the machine does slows both alike.
        times = [(health_ms(attacked), health_ms(idle)) for _ in range(40)]
        during = len(refused) - before
    assert set(refused) <= {b"422", b"413"}
    assert during >= 8, "the attack ended early"
    busy, quiet = (statistics.median(found) for found in zip(*times, strict=True))
    assert busy < MOST_TIMES * max(quiet, 3), f"{kind}: {busy:.1f} ms beside {quiet:.1f} ms of an idle server"
