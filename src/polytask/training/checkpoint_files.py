"""How the tensors of a checkpoint come into its folder: by the first process in the background, or by all in shards."""

from __future__ import annotations

import secrets
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from polytask.training.background import Background
from polytask.training.distribution import World

# Tensors by name, by what they are: `weights` of the model, or `others`.
Tensors: TypeAlias = Mapping[str, Mapping[str, Tensor]]


class CheckpointFiles(ABC):
    """Writes and reads the tensors of checkpoints."""

    @abstractmethod
    def hold(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors as they are until they are written."""

    @abstractmethod
    def do(self, job: Callable[[], object]) -> None:
        """Have a job done that writes. Raises what an earlier one failed with."""

    @abstractmethod
    def temporary(self, target: Path) -> Path:
        """Return the name of a folder to write into beside the target."""

    @abstractmethod
    def write(self, folder: Path, tensors: Tensors) -> None:
        """Write tensors into a folder. Raises OSError or SafetensorError."""

    @abstractmethod
    def finish(self, complete: Callable[[], None]) -> None:
        """Complete a folder, once. Raises OSError where that failed."""

    @abstractmethod
    def read(self, folder: Path, like: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return the tensors of a folder. Raises OSError or SafetensorError.

        Args:
            like: the model's tensors, by which theirs and the optimizer's are divided among processes.
        """

    @abstractmethod
    def check(self) -> None:
        """Raise what a job failed with."""

    @abstractmethod
    def wait(self) -> None:
        """Wait until all jobs are done. Raises what a job failed with."""

    @abstractmethod
    def forget(self) -> None:
        """Begin no further job."""


def _temporary(target: Path) -> Path:
    # Another run may begin here while what an interrupted one left is still being written.
    return target.with_name(f".writing-{target.name}-{secrets.token_hex(4)}")


class WholeFiles(CheckpointFiles):
    """A file for the weights and one for the others: copied, then written in the background."""

    def __init__(self) -> None:
        self._background = Background()

    def hold(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return copied(tensors)

    def do(self, job: Callable[[], object]) -> None:
        self._background.give(job)

    def temporary(self, target: Path) -> Path:
        temporary = _temporary(target)
        temporary.mkdir(parents=True)
        return temporary

    def write(self, folder: Path, tensors: Tensors) -> None:
        for kind, listed in tensors.items():
            save_file(dict(listed), folder / f"{kind}.safetensors")

    def finish(self, complete: Callable[[], None]) -> None:
        complete()

    def read(self, folder: Path, like: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        del like
        return {file.stem: load_file(file) for file in sorted(folder.glob("*.safetensors"))}

    def check(self) -> None:
        self._background.check()

    def wait(self) -> None:
        self._background.wait()

    def forget(self) -> None:
        self._background.forget()


class ShardFiles(CheckpointFiles):
    """Each process writes its own part, by torch.distributed.checkpoint, as safetensors; any number of them reads.

    Training waits for it. All processes have to see the folder.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def hold(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(tensors)

    def do(self, job: Callable[[], object]) -> None:
        job()

    def temporary(self, target: Path) -> Path:
        temporary = Path(str(self._world.broadcast(str(_temporary(target)))))
        self.finish(lambda: temporary.mkdir(parents=True))
        return temporary

    def write(self, folder: Path, tensors: Tensors) -> None:
        named = {f"{kind}/{name}": value for kind, listed in tensors.items() for name, value in listed.items()}
        with self._errors():
            save(
                {name: value.detach().contiguous() for name, value in named.items()},
                storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True),
                no_dist=self._world.size == 1,
            )

    def finish(self, complete: Callable[[], None]) -> None:
        told: str | None = None
        if self._world.is_main:
            try:
                complete()
            except OSError as error:
                told = str(error)
        told = self._world.broadcast(told)  # type: ignore[assignment]
        if told is not None:
            raise OSError(told)

    def read(self, folder: Path, like: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        with self._errors():
            most = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
            reader = HuggingFaceStorageReader(str(folder))
            known = _parts_in(reader)
            tensors = {
                name: _empty(name.split("/", 1)[1], found, like, most)
                for name, found in known.items()
                if isinstance(found, TensorStorageMetadata)
            }
            load(tensors, storage_reader=reader, no_dist=self._world.size == 1)  # type: ignore[arg-type]
        kinds: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, rest = name.split("/", 1)
            kinds.setdefault(kind, {})[rest] = value
        return kinds

    def check(self) -> None:
        """Nothing is done in the background."""

    def wait(self) -> None:
        """Nothing is done in the background."""

    def forget(self) -> None:
        """Nothing is done in the background."""

    @contextmanager
    def _errors(self) -> Generator[None]:
        """Raise OSError on all processes where one of them cannot write or read."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that one process alone is meant to be alone
                yield
        except CheckpointException as error:
            raise OSError("; ".join(sorted({str(failure[0]) for failure in error.failures.values()}))) from None


def _parts_in(reader: HuggingFaceStorageReader) -> Mapping[str, object]:
    """Return what files say of their tensors. Raises OSError where they say something else."""
    try:
        return reader.read_metadata().state_dict_metadata
    except (TypeError, AttributeError) as error:
        raise OSError(f"what the files say of their parts cannot be read: {error}") from None


def _empty(name: str, stored: TensorStorageMetadata, like: Mapping[str, Tensor], most: int) -> Tensor:
    """Return a tensor to read into: divided as the model's of this name, or of the parameter that it belongs to.

    Raises OSError where it would have more bytes than the files.
    """
    if stored.size.numel() * stored.properties.dtype.itemsize > most:
        raise OSError(f"{name}: found the shape {tuple(stored.size)}, and the files have {most:,} bytes")
    model = like.get(name, like.get(name.rsplit("/", 1)[0]))
    dtype = stored.properties.dtype
    if model is not None and model.shape == stored.size:
        return torch.empty_like(model, dtype=dtype, requires_grad=False)
    return torch.empty(stored.size, dtype=dtype)


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies as safetensors wants them: on the CPU, contiguous, none sharing memory with another."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
