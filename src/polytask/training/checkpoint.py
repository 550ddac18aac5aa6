"""Checkpoints: safetensors and JSON, no pickle; a checkpoint is there whole or not at all, and is checked when read.

They are written in the background: training waits while the tensors are copied, and where the checkpoint before is not
on the disk yet.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from polytask.errors import TrainingError
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
from polytask.signals import uninterrupted
from polytask.training.background import Background

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
    """

    def __init__(self, folder: Path, identity: str, limit: int = 2) -> None:
        self.folder = folder
        self.identity = identity
        self.limit = limit
        self._background = Background()
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
        weights, self._weights = self._weights or copied(checkpoint.weights), {}
        others, best = copied(checkpoint.others), sorted(checkpoint.best)

        def write(folder: Path) -> None:
            save_file(weights, folder / "weights.safetensors")
            save_file(others, folder / "others.safetensors")
            (folder / "state.json").write_text(state, "utf-8")

        def keep() -> None:
            before = [other for other in self._finished() if other.name < target.name]
            self._keep([target, *before[max(0, len(before) - self.limit + 1) :]])

        self._background.give(lambda: self._write(target, write, keep, best=best))

    def save_best(self, step: int, weights: Mapping[str, Tensor]) -> str:
        """Copy the weights of a step as the best ones, have them written, and return their name.

        Older ones are deleted once no checkpoint names them. Raises TrainingError as `save` does.
        """
        target = self.folder / f"best-{step:08d}"
        self._begin(step)
        kept = self._weights = copied(weights)

        def write(folder: Path) -> None:
            save_file(kept, folder / "weights.safetensors")

        self._background.give(lambda: self._write(target, write))
        return target.name

    def _begin(self, step: int) -> None:
        """Wait until what was to be saved at another step is: no more than one step's copies are held."""
        if step != self._step:
            self._weights = {}
            self._background.wait()
            self._step = step

    def check(self) -> None:
        """Raise TrainingError when what was to be saved could not be written."""
        self._background.check()

    def wait(self) -> None:
        """Wait until all is on the disk. Raises TrainingError as `save` does."""
        self._background.wait()

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
            self._background.forget()
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

    def load_best(self, name: str) -> dict[str, Tensor]:
        """Load the best weights. Raises TrainingError when they are not what this run wrote."""
        self.wait()
        folder = self.folder / name
        try:
            self._require_own(folder)
            with uninterrupted():
                return load_file(folder / "weights.safetensors")
        except (OSError, SafetensorError, Damaged) as error:
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
            raise TrainingError(f"{self.folder}: no checkpoint is whole; train into a new folder")
        return None

    def load(self, name: str) -> Checkpoint:
        """Load a checkpoint that `newest` named. Raises TrainingError when it cannot be read."""
        folder = self.folder / name
        try:
            state = parse_json((folder / "state.json").read_text("utf-8"))
            with uninterrupted():
                weights = load_file(folder / "weights.safetensors")
                others = load_file(folder / "others.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise TrainingError(f"{folder}: the checkpoint cannot be read ({error}); train into a new folder") from None
        return Checkpoint(state, weights, others)

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
        write: Callable[[Path], None],
        then: Callable[[], None] = lambda: None,
        **facts: Any,  # noqa: ANN401
    ) -> None:
        # Another run may begin here while what an interrupted one left is still being written.
        temporary = self.folder / f".writing-{target.name}-{secrets.token_hex(4)}"
        try:
            temporary.mkdir(parents=True)
            write(temporary)
            seal(temporary, form=FORM, identity=self.identity, **facts)
            with self._moving:
                if self._abandoned:
                    remove(temporary)
                    return
                # A resumed run comes by the same step again. What stands there may be an older run's, or damaged.
                put_in_place(temporary, target)
                then()
        except (OSError, SafetensorError) as error:
            remove(temporary)
            kept = self._finished()
            rest = (
                f"the checkpoint {kept[-1]} stays usable: free space and resume" if kept else "there is none before it"
            )
            raise TrainingError(f"{target}: the checkpoint cannot be written ({error}); {rest}") from None


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies as safetensors wants them: on the CPU, contiguous, none sharing memory with another."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
