"""Checkpoints: safetensors and JSON, no pickle; a checkpoint is there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from polytask.errors import TrainingError
from polytask.files import to_json

FORM = 2


@dataclass(frozen=True)
class Checkpoint:
    """All that an exact resume needs.

    Attributes:
        state: counters, positions and scores, JSON-ready.
        weights: the model's tensors by name.
        others: the optimizer's tensors and the generators' states by name.
    """

    state: dict[str, Any]
    weights: dict[str, Tensor]
    others: dict[str, Tensor]


class Checkpoints:
    """The folder of a run's checkpoints: the newest one, and the best weights so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint beside the previous one, move it in place, then delete the previous one.

        Raises TrainingError when it cannot be written; the previous one stays as it was.
        """
        target = self.folder / f"step-{step:08d}"

        def write(folder: Path) -> None:
            save_file(contiguous(checkpoint.weights), folder / "weights.safetensors")
            save_file(contiguous(checkpoint.others), folder / "others.safetensors")
            text = to_json({"form": FORM, **checkpoint.state}, "checkpoint", indent=1)
            (folder / "state.json").write_text(text, "utf-8")

        self._write(target, write)
        for other in self._finished():
            if other != target:
                shutil.rmtree(other)

    def save_best(self, step: int, weights: Mapping[str, Tensor]) -> str:
        """Write the best weights and return their name; older ones are deleted once a checkpoint names these."""
        target = self.folder / f"best-{step:08d}"

        def write(folder: Path) -> None:
            save_file(contiguous(weights), folder / "weights.safetensors")

        self._write(target, write)
        return target.name

    def drop_best_but(self, names: Collection[str | None]) -> None:
        """Delete best weights that no checkpoint names any more."""
        for other in self.folder.glob("best-*"):
            if other.name not in names:
                shutil.rmtree(other)

    def load_best(self, name: str) -> dict[str, Tensor]:
        """Load the best weights."""
        return load_file(self.folder / name / "weights.safetensors")

    def load(self) -> Checkpoint | None:
        """Load the newest checkpoint, or None when there is none. Raises TrainingError when it is broken."""
        found = self._finished()
        if not found:
            return None
        folder = found[-1]
        try:
            state = json.loads((folder / "state.json").read_text("utf-8"))
            weights = load_file(folder / "weights.safetensors")
            others = load_file(folder / "others.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise TrainingError(f"{folder}: the checkpoint cannot be read ({error}); train into a new folder") from None
        if state.pop("form") != FORM:
            raise TrainingError(f"{folder}: the checkpoint was written by another version; train into a new folder")
        return Checkpoint(state, weights, others)

    def clear(self) -> None:
        """Delete all checkpoints, once the model is saved."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _finished(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))

    def _write(self, target: Path, write: Callable[[Path], None]) -> None:
        temporary = self.folder / f".writing-{target.name}"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            write(temporary)
            for file in temporary.iterdir():
                _sync(file)
            if target.exists():  # a resumed run comes by the same step again, with the same content
                shutil.rmtree(temporary)
            else:
                temporary.replace(target)
            _sync(self.folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            kept = self._finished()
            rest = (
                f"the checkpoint {kept[-1]} stays usable: free space and resume" if kept else "there is none before it"
            )
            raise TrainingError(f"{target}: the checkpoint cannot be written ({error}); {rest}") from None


def contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as safetensors wants them: on the CPU, contiguous, none sharing memory with another."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
