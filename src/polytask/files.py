"""Atomic writing of files and folders; what has been written survives a loss of power."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from polytask.errors import OutputError, PolytaskError, TrainingError
from polytask.lock import abandoned, in_use
from polytask.regular import open_regular, read_text

# The file of a sealed folder that lists the hashes of its files.
SEAL = "sha256.json"
_DISCARDED = ".discarded-"
_WRITING = ".writing-"


_WORDS_OF_DISK = tuple(
    os.strerror(number)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EMFILE)
)


class Damaged(Exception):
    """A file of a sealed folder has changed, or is missing."""


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401
    """Parse JSON that may be damaged. Raises ValueError if it is not JSON, or too deeply nested."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a dict of key-value pairs, as a hook for the JSON parser. Raises ValueError for a duplicate key."""
    values = dict(pairs)
    if len(values) != len(pairs):
        times = Counter(name for name, _ in pairs)
        raise ValueError(f"the key {next(name for name in times if times[name] > 1)!r} stands twice")
    return values


def read_json(path: Path, mend: str | None = None) -> Any:  # noqa: ANN401
    """Read a JSON file that polytask wrote. Raises OutputError if it cannot be read, or is damaged.

    Args:
        mend: what to do in that case, for the message; by default to restore the file, or to delete it.
    """
    try:
        return parse_json(read_text(path))
    except FileNotFoundError:
        advice = mend or f"restore it, or delete {path.parent} if it can be recreated"
        raise OutputError(f"{path}: is missing; {advice}") from None
    except (OSError, ValueError) as error:
        advice = mend or "delete it, or restore the folder"
        raise OutputError(f"{path}: cannot be read ({reason(error)}); {advice}") from None


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401
    """Write a JSON file atomically."""
    write_text(path, to_json(value, path.name, indent=1) + "\n")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write a file with one JSON value per line atomically."""
    write_text(path, "".join(to_json(value, path.name) + "\n" for value in values))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically. Raises OutputError if it cannot be written."""
    try:
        replace_content(path, text.encode(), path.with_name(f".{path.name}"))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason(error)}); free space, or name another place") from None


def replace_content(path: Path, content: bytes, temporary: Path) -> None:
    """Write a file atomically, by way of a temporary file. Raises OSError if it cannot be written."""
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def reason(error: BaseException) -> str:
    """Return the system's reason for a failed write, without the path, which the message names."""
    return getattr(error, "strerror", None) or str(error)


def refused_by_disk(error: BaseException) -> bool:
    """Whether an error means that the system refused to write.

    Native libraries may raise a bare Exception or a RuntimeError that contains the system's message.
    """
    if isinstance(error, OSError):
        return True
    return not isinstance(error, PolytaskError) and any(words in str(error) for words in _WORDS_OF_DISK)


def to_json(value: Any, place: str, indent: int | None = None) -> str:  # noqa: ANN401
    """Return a value as JSON, which cannot represent NaN or infinity.

    Raises TrainingError naming the value that is not finite: other parsers misread `NaN`, or fail.
    """
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        problem = next(_not_finite(value, ()), None)
        if problem is None:
            raise
        raise TrainingError(f"{place}: {problem}; the training diverged: try a lower train.learning_rate") from None


def _not_finite(value: Any, path: tuple[str, ...]) -> Iterator[str]:  # noqa: ANN401
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{'.'.join(path)} is {value}"
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in inner:
        yield from _not_finite(item, (*path, str(key)))


@contextmanager
def new_folder(folder: Path) -> Generator[Path]:
    """Yield a temporary folder that is renamed to a model's folder at the end, or removed on failure.

    Raises OutputError if the folder exists or cannot be written.
    """
    if folder.exists():
        raise OutputError(f"{folder}: the folder exists; name another one")
    prefix = f"{_WRITING}{folder.name}-"
    try:
        with temporary_folder(folder.parent, prefix) as temporary:
            sweep(folder.parent, prefix)
            yield temporary
            give_usual_modes(temporary)
            sync_folder(temporary)
            temporary.replace(folder)
            sync(folder.parent)
    except Exception as error:
        if not refused_by_disk(error):
            raise
        message = f"{folder}: the model cannot be written ({error})"
        raise OutputError(f"{message}; free space, or name another place") from None


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Generator[Path]:
    """Create a folder that no other process sweeps while the block runs; what is left at its path then is removed."""
    while True:
        temporary = parent / f"{prefix}{secrets.token_hex(8)}"
        temporary.mkdir(parents=True)
        with in_use(temporary) as held:
            if not held:  # another process took it for abandoned before it was marked
                continue
            try:
                yield temporary
            finally:
                remove(temporary)
            return


def sweep(folder: Path, *prefixes: str) -> None:
    """Delete the temporary files and folders that killed processes left in a folder."""
    # Looks at names only: a cache may hold thousands of entries, and is swept whenever one is added.
    for name in os.listdir(folder):  # noqa: PTH208
        if name.startswith((*prefixes, _DISCARDED)):
            with abandoned(folder / name) as unused:
                if unused:
                    remove(folder / name)


def put_in_place(temporary: Path, target: Path) -> None:
    """Move a folder to its final place, replacing any folder there."""
    if target.exists():
        discard(target)
    temporary.replace(target)
    sync(target.parent)


def discard(path: Path) -> None:
    """Delete a folder so that a partly deleted one never exists under its name."""
    doomed = path.with_name(f"{_DISCARDED}{secrets.token_hex(4)}")
    path.replace(doomed)
    remove(doomed)


def remove(path: Path) -> None:
    """Delete a file or a folder; skip whatever cannot be deleted."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, **facts: Any) -> None:  # noqa: ANN401
    """Write the hashes of a folder's files and some facts into the folder, and wait until all is on disk."""
    hashes = {file.name: file_digest(file) for file in sorted(folder.iterdir())}
    content = {"facts": facts, "sha256": hashes}
    (folder / SEAL).write_text(json.dumps({**content, "own": _digest(content)}, indent=1), "utf-8")
    give_usual_modes(folder)
    sync_folder(folder)


def sealed_facts(folder: Path) -> dict[str, Any]:
    """Return the facts given to `seal`, without checking the other files. Raises Damaged."""
    return _read_seal(folder)["facts"]


def unseal(folder: Path) -> dict[str, Any]:
    """Return the facts given to `seal`. Raises Damaged if a file was changed, removed or added."""
    sealed = _read_seal(folder)
    for name, expected in sealed["sha256"].items():
        try:
            digest = file_digest(folder / name)
        except OSError as error:
            raise Damaged(f"{name}: {reason(error)}") from None
        if digest != expected:
            raise Damaged(f"{name} is not what was written, its sha256 differs")
    for file in folder.iterdir():
        if file.name not in sealed["sha256"] and file.name != SEAL and not file.name.startswith("."):
            raise Damaged(f"{file.name} was not written with it")
    return sealed["facts"]


def _read_seal(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(folder / SEAL))
        digest = content.pop("own")
        if digest != _digest(content):
            raise ValueError("its own hash differs")
    except OSError as error:
        raise Damaged(f"{SEAL}: {reason(error)}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{SEAL} is not what was written: {error}") from None
    return content


def _digest(value: Any) -> str:  # noqa: ANN401
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def give_usual_modes(folder: Path) -> None:
    """Give the files of a folder the mode of new files; safetensors lets only their owner read them."""
    new = folder / f"{_WRITING}mode"
    new.touch()
    mode = stat.S_IMODE(new.stat().st_mode)
    new.unlink()
    for path in folder.rglob("*"):
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)


def sync_folder(folder: Path) -> None:
    """Wait until a folder and everything in it is on disk."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on disk."""
    if os.name != "posix" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
