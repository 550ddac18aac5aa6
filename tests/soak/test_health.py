"""/health answers while large bodies are being refused, about as fast as from a server that nobody attacks."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import polytask as pt

pytestmark = pytest.mark.soak
ATTACKERS = 8
# Bodies of about a megabyte: what is no text, texts that are too many, one that is too long, and many columns.
BODIES = {
    "numbers": b'{"texts": [' + b"1, " * 349_000 + b"1]}",
    "texts": b'{"texts": [' + b'"",' * 349_000 + b'""]}',
    "one text": b'{"texts": ["' + b"\\u4e2d" * 174_000 + b'"]}',
    "columns": b'{"texts": [{' + b",".join(b'"%d":""' % n for n in range(90_000)) + b"}]}",
}
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


@contextmanager
def attack(port: int, body: bytes) -> Iterator[list[bytes]]:
    """Send a body again and again over several connections; yield the answers' first lines as they come."""
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    over = threading.Event()
    refused: list[bytes] = []

    def send() -> None:
        while not over.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60) as opened:
                while not over.is_set():
                    opened.sendall(head + body)
                    answer = opened.recv(65_536)
                    if not answer:
                        break
                    if answer.startswith(b"HTTP/"):  # else the rest of the answer before
                        refused.append(answer[:12])

    threads = [threading.Thread(target=send) for _ in range(ATTACKERS)]
    for thread in threads:
        thread.start()
    try:
        yield refused
    finally:
        over.set()
        for thread in threads:
            thread.join()


def health_ms(port: int) -> float:
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as opened:
        opened.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert opened.recv(65_536).startswith(b"HTTP/1.1 200")
    return 1000 * (time.perf_counter() - began)


@pytest.mark.parametrize("kind", BODIES)
def test_health_answers_while_large_bodies_are_refused(
    kind: str, job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    pt.train(job(rows=24, max_steps=2), tmp_path / "run")
    model = tmp_path / "run" / "model"
    with server(model) as attacked, server(model) as idle, attack(attacked, BODIES[kind]) as refused:
        time.sleep(1)
        before = len(refused)
        # In turn, so that whatever else the machine does slows both alike.
        times = [(health_ms(attacked), health_ms(idle)) for _ in range(40)]
        during = len(refused) - before
    assert set(refused) <= {b"HTTP/1.1 422", b"HTTP/1.1 413"}
    assert during >= ATTACKERS, "the attack ended early"
    busy, quiet = (statistics.median(found) for found in zip(*times, strict=True))
    assert busy < MOST_TIMES * max(quiet, 3), f"{kind}: {busy:.1f} ms beside {quiet:.1f} ms of an idle server"
