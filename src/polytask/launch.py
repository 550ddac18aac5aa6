"""Start a command several times at once, as torchrun would on one machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `polytask <arguments>` in so many processes that know of each other; return the first failure's exit code.

    When one of them fails, the others are stopped. Ctrl-C reaches all of them, and they stop together.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "polytask", *arguments],
            env={
                "OMP_NUM_THREADS": threads,
                **os.environ,
                **common,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
            },
        )
        for rank in range(processes)
    ]

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGTERM:  # Ctrl-C in a terminal reaches the whole group by itself
            for process in running:
                process.send_signal(number)

    before = [(number, signal.signal(number, pass_on)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        return _wait(running)
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _wait(running: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait for all; once one has failed, give the others a moment to end by themselves, then stop them."""
    while any(process.poll() is None for process in running):
        if any(process.poll() for process in running):
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline and any(process.poll() is None for process in running):
                time.sleep(0.05)
            for process in running:
                process.terminate()
            for process in running:
                process.wait()
        time.sleep(0.1)
    failed = [process.returncode for process in running if process.returncode]
    return next((code for code in failed if code > 0), 1) if failed else 0
