"""How tests train in several processes, and what has to be left out so that these make the update of one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def in_processes(arguments: Sequence[str], count: int = 2, *, code: int = 0) -> Generator[None]:
    """Start the processes of one training, as `torchrun` does; at the end of the block all must end with a code."""
    port = str(free_port())
    world = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        yield
        for process in running:
            _, told = process.communicate(timeout=600)
            assert process.returncode == code, told
    finally:
        for process in running:
            process.kill()
            process.communicate()


def free_port() -> int:
    """Return a port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def without_dropout(values: dict[str, Any]) -> dict[str, Any]:
    """Dropout draws differ between processes on purpose; the arithmetic must not."""
    encoder = Path(values["encoder"])
    config = json.loads((encoder / "config.json").read_text())
    folder = encoder.parent / "no-dropout"
    if not folder.exists():
        folder.mkdir()
        for file in encoder.iterdir():
            (folder / file.name).symlink_to(file)
        (folder / "config.json").unlink()
        (folder / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.0}))
    tasks = {name: {**task, "dropout": 0.0} for name, task in values["tasks"].items()}
    return {**values, "encoder": str(folder), "tasks": tasks}
