"""Checkpoints: safetensors and JSON, no pickle; a checkpoint is there whole or not at all, and is checked when read.

They are written in the background: training waits while the tensors are copied, and where the checkpoint before is not
on the disk yet. Where the model is sharded all processes write, and training waits (`checkpoint_files.py`).
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
    """All that an exact resume needs.

    Attributes:
        state: counters, positions and scores, JSON-ready.
        weights: the model's tensors by name.
        others: the optimizer's tensors and the generators' states by name.
        best: names of the best weights that the state speaks of.
    """

    state: dict[str, Any]
    weights: dict[str, Tensor]
    others: dict[str, Tensor]
    best: Collection[str] = ()


class Checkpoints:
    """The folder of a run's newest checkpoints, and of the best weights that they name.

    Args:
        identity: a hash of all that determines the run's weights; what another run left behind is never read.
        limit: checkpoints that are kept.
        files: writes and reads tensors; where all processes do so, all call what saves and loads.
    """

    def __init__(self, folder: Path, identity: str, limit: int = 2, files: CheckpointFiles | None = None) -> None:
        self.folder = folder
        self.identity = identity
        self.limit = limit
        self._files = WholeFiles() if files is None else files
        self._step: int | None = None  # of what is being written
        self._weights: dict[str, Tensor] = {}  # of that step, where they were copied for the best ones
        self._moving = threading.Lock()
        self._abandoned = False

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Copy a checkpoint, and have it written and moved in place; as many are kept as the limit says.

        Raises TrainingError when an earlier one could not be written; those before it stay as they were.
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
        """Copy the weights of a step as the best ones, have them written, and return their name.

        Older ones are deleted once no checkpoint names them. Raises TrainingError as `save` does.
        """
        target = self.folder / f"best-{step:08d}"
        self._begin(step)
        kept = self._weights = self._files.hold(weights)
        self._files.do(lambda: self._write(target, {"weights": kept}))
        return target.name

    def _begin(self, step: int) -> None:
        """Wait until what was to be saved at another step is: no more than one step's copies are held."""
        if step != self._step:
            self._weights = {}
            self._files.wait()
            self._step = step

    def check(self) -> None:
        """Raise TrainingError when what was to be saved could not be written."""
        self._files.check()

    def wait(self) -> None:
        """Wait until all is on the disk. Raises TrainingError as `save` does."""
        self._files.wait()

    @contextmanager
    def written(self) -> Generator[None]:
        """Have all that is saved in a block on the disk at its end, also where it ends by an error.

        Who is interrupted does not wait: what is not on the disk yet never takes its place there.
        """
        try:
            yield
        except Exception:
            with suppress(TrainingError):  # what ended the block is told
                self.wait()
            raise
        except BaseException:
            self._files.forget()
            with self._moving:
                self._abandoned = True
            raise
        self.wait()

    def _keep(self, kept: Sequence[Path]) -> None:
        """Delete the checkpoints that are not to be kept, and the best weights that none of those names."""
        named: set[str] = set()
        for folder in kept:
            with suppress(Damaged):
                named.update(sealed_facts(folder)["best"])
        best = [other for other in self.folder.glob("best-*") if other.name not in named]
        for other in (*(folder for folder in self._finished() if folder not in kept), *best):
            discard(other)

    def load_best(self, name: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Load the best weights. Raises TrainingError when they are not what this run wrote.

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
        """Return the name of the newest checkpoint that is whole, or None when there is none.

        Raises TrainingError when there are some, and each is damaged.
        """
        found = list(reversed(self._finished()))
        for folder in found:
            try:
                for name in self._require_own(folder)["best"]:
                    self._require_own(self.folder / name)
            except Damaged as error:
                LOG.warning("%s: the checkpoint is damaged (%s); the one before it is taken", folder, error)
                continue
            return folder.name
        if found:
            raise NothingToResume(f"{self.folder}: no checkpoint is complete; train into a new folder")
        return None

    def load(self, name: str, like: Mapping[str, Tensor]) -> Checkpoint:
        """Load a checkpoint that `newest` named. Raises TrainingError when it cannot be read.

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
        """Whether the newest checkpoint of which that can be told was written with another identity."""
        for folder in reversed(self._finished()):
            with suppress(Damaged):
                return sealed_facts(folder)["identity"] != self.identity
        return False

    def sweep(self) -> None:
        """Delete what a run that was killed left behind: half of a checkpoint, and best weights that none names."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name.startswith("."):
                    remove(path)
            self._keep(self._finished())

    def _require_own(self, folder: Path) -> dict[str, Any]:
        """Return what a folder is said to hold. Raises Damaged when it is not what this run wrote."""
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
                # A resumed run comes by the same step again. What stands there may be an older run's, or damaged.
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
