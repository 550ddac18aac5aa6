"""Writers of a checkpoint's tensors: whole files by the first process in the background, or shards by all processes."""

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

# Tensors by kind (`weights` of the model, or `others`) and name.
Tensors: TypeAlias = Mapping[str, Mapping[str, Tensor]]


class CheckpointFiles(ABC):
    """Writes and reads the tensors of checkpoints."""

    @abstractmethod
    def hold(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors that keep their current values until they are written."""

    @abstractmethod
    def do(self, job: Callable[[], object]) -> None:
        """Run a job that writes, now or in the background. Raises the error of an earlier job that failed."""

    @abstractmethod
    def temporary(self, target: Path) -> Path:
        """Create a temporary folder next to the target, and return it."""

    @abstractmethod
    def write(self, folder: Path, tensors: Tensors) -> None:
        """Write tensors into a folder. Raises OSError or SafetensorError."""

    @abstractmethod
    def finish(self, complete: Callable[[], None]) -> None:
        """Call `complete` on one process only. Raises OSError if it failed."""

    @abstractmethod
    def read(self, folder: Path, like: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return the tensors of a folder. Raises OSError or SafetensorError.

        Args:
            like: the model's tensors; those that are read are sharded over the processes in the same way.
        """

    @abstractmethod
    def check(self) -> None:
        """Raise the error of a job that failed, if any."""

    @abstractmethod
    def wait(self) -> None:
        """Wait until all jobs are done. Raises the error of a job that failed."""

    @abstractmethod
    def forget(self) -> None:
        """Drop the jobs that have not started."""


def _temporary(target: Path) -> Path:
    # Another run may start here while an interrupted one is still writing.
    return target.with_name(f".writing-{target.name}-{secrets.token_hex(4)}")


class WholeFiles(CheckpointFiles):
    """A file for the weights and one for the others: copied, then written in the background."""

    def __init__(self) -> None:
        self._background = Background()

    def hold(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return copied(tensors)

    def do(self, job: Callable[[], object]) -> None:
        self._background.submit(job)

    def temporary(self, target: Path) -> Path:
        temporary = _temporary(target)
        temporary.mkdir(parents=True)
        return temporary

    def write(self, folder: Path, tensors: Tensors) -> None:
        for kind, by_name in tensors.items():
            save_file(dict(by_name), folder / f"{kind}.safetensors")

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
    """Each process writes its shards as safetensors (torch.distributed.checkpoint); any number of processes reads them.

    Training waits until they are written. All processes need access to the folder.
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
        named = {f"{kind}/{name}": value for kind, by_name in tensors.items() for name, value in by_name.items()}
        with self._errors():
            save(
                {name: value.detach().contiguous() for name, value in named.items()},
                storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True),
                no_dist=self._world.size == 1,
            )

    def finish(self, complete: Callable[[], None]) -> None:
        failure: str | None = None
        if self._world.is_main:
            try:
                complete()
            except OSError as error:
                failure = str(error)
        failure = self._world.broadcast(failure)  # type: ignore[assignment]
        if failure is not None:
            raise OSError(failure)

    def read(self, folder: Path, like: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        with self._errors():
            max_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
            reader = HuggingFaceStorageReader(str(folder))
            tensors = {
                name: _empty(name.split("/", 1)[1], stored, like, max_bytes)
                for name, stored in _metadata(reader).items()
                if isinstance(stored, TensorStorageMetadata)
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
        """Raise OSError on all processes if one of them cannot write or read."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # a single process without a process group is intended
                yield
        except CheckpointException as error:
            raise OSError("; ".join(sorted({str(failure[0]) for failure in error.failures.values()}))) from None


def _metadata(reader: HuggingFaceStorageReader) -> Mapping[str, object]:
    """Return the metadata of the tensors in the files. Raises OSError if it cannot be read."""
    try:
        return reader.read_metadata().state_dict_metadata
    except (TypeError, AttributeError) as error:
        raise OSError(f"the metadata of the shards cannot be read: {error}") from None


def _empty(name: str, stored: TensorStorageMetadata, like: Mapping[str, Tensor], max_bytes: int) -> Tensor:
    """Return a tensor to read into, sharded like the model's tensor of this name or the parameter that it belongs to.

    Raises OSError if it would have more bytes than the files.
    """
    if stored.size.numel() * stored.properties.dtype.itemsize > max_bytes:
        raise OSError(f"{name}: found the shape {tuple(stored.size)}, but the files have only {max_bytes:,} bytes")
    model = like.get(name, like.get(name.rsplit("/", 1)[0]))
    dtype = stored.properties.dtype
    if model is not None and model.shape == stored.size:
        return torch.empty_like(model, dtype=dtype, requires_grad=False)
    return torch.empty(stored.size, dtype=dtype)


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies in the form that safetensors needs: on the CPU, contiguous, without shared memory."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
