"""Checkpoints: safetensors and JSON, no pickle; each is complete or absent, and verified when it is read.

They are written in the background: training waits while the tensors are copied, and while the previous checkpoint is
still being written. If the model is sharded, all processes write, and training waits (`checkpoint_files.py`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from polytask.errors import NothingToResume, TrainingError
from polytask.files import (
    Damaged,
    discard,
    parse_json,
    put_in_place,
    remove,
    seal,
    sealed_facts,
    to_json,
    unseal,
)
from polytask.regular import read_text
from polytask.signals import uninterrupted
from polytask.training.checkpoint_files import CheckpointFiles, Tensors, WholeFiles

FORM = 6
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Everything that an exact resume needs.

    Attributes:
        state: counters, positions and scores, JSON-ready.
        weights: the model's tensors by name.
        others: the optimizer's tensors and the random generators' states by name.
        best: names of the best weights that the state refers to.
    """

    state: dict[str, Any]
    weights: dict[str, Tensor]
    others: dict[str, Tensor]
    best: Collection[str] = ()


def is_whole(folder: Path) -> bool:
    """Whether a folder has no checkpoint, or one whose files and best weights are as they were written."""
    checkpoints = list(folder.glob("step-*"))
    for checkpoint in checkpoints:
        with suppress(Damaged, LookupError, TypeError):
            for name in unseal(checkpoint)["best"]:
                unseal(folder / name)
            return True
    return not checkpoints


class Checkpoints:
    """The folder with a run's newest checkpoints and the best weights that they name.

    Args:
        identity: hash of everything that determines the run's weights; files of another run are never read.
        limit: number of checkpoints to keep.
        files: writes and reads tensors. If all processes do so, all of them have to call `save` and `load`.
    """

    def __init__(self, folder: Path, identity: str, limit: int = 2, files: CheckpointFiles | None = None) -> None:
        self.folder = folder
        self.identity = identity
        self.limit = limit
        self._files = WholeFiles() if files is None else files
        self._step: int | None = None  # the step being written
        self._weights: dict[str, Tensor] = {}  # weights of that step, if `save_best` has copied them
        self._moving = threading.Lock()
        self._abandoned = False

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Copy a checkpoint, write it in the background and move it into place; the newest `limit` are kept.

        Raises TrainingError if an earlier one could not be written; older checkpoints are left as they are.
        """
        target = self.folder / f"step-{step:08d}"
        state = to_json(checkpoint.state, "checkpoint", indent=1)
        self._begin(step)
        weights, self._weights = self._weights or self._files.hold(checkpoint.weights), {}
        tensors = {"weights": weights, "others": self._files.hold(checkpoint.others)}
        best = sorted(checkpoint.best)

        def keep() -> None:
            before = [other for other in self._finished() if other.name < target.name]
            self._keep([target, *before[max(0, len(before) - self.limit + 1) :]])

        self._files.do(lambda: self._write(target, tensors, {"state.json": state}, keep, best=best))

    def save_best(self, step: int, weights: Mapping[str, Tensor]) -> str:
        """Copy the weights of a step as the best ones, write them in the background, and return their name.

        Older ones are deleted once no checkpoint names them. Raises TrainingError like `save`.
        """
        target = self.folder / f"best-{step:08d}"
        self._begin(step)
        kept = self._weights = self._files.hold(weights)
        self._files.do(lambda: self._write(target, {"weights": kept}))
        return target.name

    def _begin(self, step: int) -> None:
        """Wait until everything of the previous step is written, so that copies of only one step are in memory."""
        if step != self._step:
            self._weights = {}
            self._files.wait()
            self._step = step

    def check(self) -> None:
        """Raise TrainingError if anything could not be written."""
        self._files.check()

    def wait(self) -> None:
        """Wait until everything is on disk. Raises TrainingError like `save`."""
        self._files.wait()

    @contextmanager
    def written(self) -> Generator[None]:
        """Wait at the end of the block until everything saved in it is on disk, even if the block raises an error.

        An interrupt does not wait: what is not on disk by then is never moved into place.
        """
        try:
            yield
        except Exception:
            with suppress(TrainingError):  # the error that ended the block is the one to report
                self.wait()
            raise
        except BaseException:
            self._files.forget()
            with self._moving:
                self._abandoned = True
            raise
        self.wait()

    def _keep(self, kept: Sequence[Path]) -> None:
        """Delete all checkpoints but these, and the best weights that none of these names."""
        named: set[str] = set()
        for folder in kept:
            with suppress(Damaged):
                named.update(sealed_facts(folder)["best"])
        best = [other for other in self.folder.glob("best-*") if other.name not in named]
        for other in (*(folder for folder in self._finished() if folder not in kept), *best):
            discard(other)

    def load_best(self, name: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Load the best weights. Raises TrainingError if they are not what this run wrote.

        Args:
            like: the model's tensors (see `CheckpointFiles.read`).
        """
        self.wait()
        folder = self.folder / name
        try:
            self._require_own(folder)
            with uninterrupted():
                return self._files.read(folder, like)["weights"]
        except (OSError, ValueError, LookupError, SafetensorError, Damaged) as error:
            raise TrainingError(
                f"{folder}: the best weights cannot be read ({error}); go on with --resume, which trains again from an "
                "earlier checkpoint, or train into a new folder"
            ) from None

    def newest(self) -> str | None:
        """Return the name of the newest complete checkpoint, or None if there is no checkpoint.

        Raises TrainingError if all checkpoints are damaged.
        """
        folders = list(reversed(self._finished()))
        for folder in folders:
            try:
                for name in self._require_own(folder)["best"]:
                    self._require_own(self.folder / name)
            except Damaged as error:
                LOG.warning("%s: the checkpoint is damaged (%s); the one before it is taken", folder, error)
                continue
            return folder.name
        if folders:
            raise NothingToResume(f"{self.folder}: no checkpoint is complete; train into a new folder")
        return None

    def load(self, name: str, like: Mapping[str, Tensor]) -> Checkpoint:
        """Load a checkpoint that `newest` named. Raises TrainingError if it cannot be read.

        Args:
            like: the model's tensors (see `CheckpointFiles.read`).
        """
        folder = self.folder / name
        try:
            state = parse_json(read_text(folder / "state.json"))
            with uninterrupted():
                tensors = self._files.read(folder, like)
            return Checkpoint(state, tensors["weights"], tensors["others"])
        except (OSError, ValueError, LookupError, SafetensorError) as error:
            raise TrainingError(f"{folder}: the checkpoint cannot be read ({error}); train into a new folder") from None

    def is_of_another_run(self) -> bool:
        """Whether the newest readable checkpoint was written with another identity."""
        for folder in reversed(self._finished()):
            with suppress(Damaged):
                return sealed_facts(folder)["identity"] != self.identity
        return False

    def sweep(self) -> None:
        """Delete what a killed run left behind: incomplete checkpoints, and best weights that no checkpoint names."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name.startswith("."):
                    remove(path)
            self._keep(self._finished())

    def _require_own(self, folder: Path) -> dict[str, Any]:
        """Return the metadata of a folder. Raises Damaged if it is not what this run wrote."""
        facts = unseal(folder)
        if facts["identity"] != self.identity:
            raise Damaged("it is another run's")
        if facts["form"] != FORM:
            raise Damaged("it was written by another version")
        return facts

    def _finished(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))

    def _write(
        self,
        target: Path,
        tensors: Tensors,
        texts: Mapping[str, str] = {},
        then: Callable[[], None] = lambda: None,
        **facts: Any,  # noqa: ANN401
    ) -> None:
        temporary: Path | None = None

        def complete() -> None:
            assert temporary is not None
            for name, text in texts.items():
                (temporary / name).write_text(text, "utf-8")
            seal(temporary, form=FORM, identity=self.identity, **facts)
            with self._moving:
                if self._abandoned:
                    remove(temporary)
                    return
                # A resumed run reaches the same step again. The folder may be an older run's, or damaged.
                put_in_place(temporary, target)
                then()

        try:
            temporary = self._files.temporary(target)
            self._files.write(temporary, tensors)
            self._files.finish(complete)
        except (OSError, SafetensorError) as error:
            if temporary is not None:
                remove(temporary)
            kept = self._finished()
            rest = (
                f"the checkpoint {kept[-1]} stays usable: free space and resume"
                if kept
                else "there is none before it: free space and resume"
            )
            raise TrainingError(f"{target}: the checkpoint cannot be written ({error}); {rest}") from None
