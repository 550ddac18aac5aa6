"""Graphs that are drawn once: drawing the smallest model takes torch ten seconds, and many tests export the same."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch


@contextmanager
def drawn_once(folder: Path) -> Iterator[None]:
    """Give another export of a model that was drawn already a copy of its graph.

    Args:
        folder: where graphs are kept; several processes may share it.
    """
    from polytask.exports import graph

    draw = graph.draw

    def draw_or_copy(model: Any, path: Path) -> graph.GraphFiles:
        known = folder / f"{_digest(model)}-{graph.MOST_BYTES_INSIDE}"
        folder.mkdir(parents=True, exist_ok=True)
        with known.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # who comes second waits
            if not known.is_dir():
                begun = Path(tempfile.mkdtemp(dir=folder))
                files = draw(model, begun / path.name)
                (begun / "files.json").write_text(json.dumps(asdict(files)), "utf-8")
                begun.rename(known)
        for file in known.iterdir():
            if file.name != "files.json":
                shutil.copy(file, path.with_name(file.name))
        told = json.loads((known / "files.json").read_text("utf-8"))
        return graph.GraphFiles(tuple(told["inputs"]), told["outputs"], tuple(told["precise"]))

    with patch.object(graph, "draw", draw_or_copy):
        yield


def _digest(model: Any) -> str:
    """Return the hash of what a graph is made of; were it too little, exports would find that answers differ."""
    kinds = [(name, repr(module)) for name, module in model.named_modules() if not list(module.children())]
    told = hashlib.sha256(repr((model.plan, model.cascade.order, kinds)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        told.update(name.encode() + tensor.numpy().tobytes())
    for trunk in model.trunks:
        # Each process of the tests has its own folder of the encoder.
        options = {**trunk.model.config.to_dict(), "_name_or_path": None}
        told.update(json.dumps(options, sort_keys=True, default=str).encode())
    return told.hexdigest()
