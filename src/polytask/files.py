"""Writing: whole files and folders, or nothing at all; what was written survives a loss of power."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from polytask.errors import OutputError, PolytaskError, TrainingError
from polytask.lock import abandoned, in_use
from polytask.regular import open_regular, read_text

# A sealed folder's list of its files' hashes.
SEAL = "sha256.json"
_DISCARDED = ".discarded-"
_WRITING = ".writing-"


_WORDS_OF_DISK = tuple(
    os.strerror(number)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EMFILE)
)


class Damaged(Exception):
    """The files of a sealed folder are not those that were written."""


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401
    """Parse JSON that may be damaged. Raises ValueError where it is none, or is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of keys and values, as a hook of JSON's parser. Raises ValueError where a key stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        times = Counter(name for name, _ in pairs)
        raise ValueError(f"the key {next(name for name in times if times[name] > 1)!r} stands twice")
    return found


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Read a JSON file that polytask wrote. Raises OutputError when it cannot be read, or was damaged."""
    try:
        return parse_json(read_text(path))
    except FileNotFoundError:
        raise OutputError(
            f"{path}: is missing; restore it, or delete {path.parent} if that can be made again"
        ) from None
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be read ({reason(error)}); delete it, or restore the folder") from None


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401
    """Write a JSON file, whole or not at all."""
    write_text(path, to_json(value, path.name, indent=1) + "\n")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write a file of one JSON object a line, whole or not at all."""
    write_text(path, "".join(to_json(value, path.name) + "\n" for value in values))


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all. Raises OutputError when it cannot be written."""
    try:
        replace_content(path, text.encode(), path.with_name(f".{path.name}"))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason(error)}); free space, or name another place") from None


def replace_content(path: Path, content: bytes, temporary: Path) -> None:
    """Write a file, whole or not at all, by way of a temporary one. Raises OSError when it cannot be written."""
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
    """Return what the system says about a failed write, without the path, which the message names."""
    return getattr(error, "strerror", None) or str(error)


def refused_by_disk(error: BaseException) -> bool:
    """Whether an error says that the system refused to write.

    Libraries that are not written in Python raise what they like, a bare Exception or a RuntimeError, with the words of
    the system in it.
    """
    if isinstance(error, OSError):
        return True
    return not isinstance(error, PolytaskError) and any(words in str(error) for words in _WORDS_OF_DISK)


def to_json(value: Any, place: str, indent: int | None = None) -> str:  # noqa: ANN401
    """Return a value as JSON, which has no word for what is not a number.

    Raises TrainingError naming the value that is not finite: whoever reads `NaN` takes it for a number, or stops there.
    """
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        found = next(_not_finite(value, ()), None)
        if found is None:
            raise
        raise TrainingError(f"{place}: {found}; the training diverged: try a lower train.learning_rate") from None


def _not_finite(value: Any, path: tuple[str, ...]) -> Iterator[str]:  # noqa: ANN401
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{'.'.join(path)} is {value}"
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in inner:
        yield from _not_finite(item, (*path, str(key)))


@contextmanager
def new_folder(folder: Path) -> Generator[Path]:
    """Give a temporary folder that becomes a model's folder at the end; nothing is left of it where that fails.

    Raises OutputError when the folder exists or cannot be written.
    """
    if folder.exists():
        raise OutputError(f"{folder}: the folder exists; name another one")
    temporary = folder.with_name(f"{_WRITING}{folder.name}-{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        with in_use(temporary):
            sweep(folder.parent, f"{_WRITING}{folder.name}-")
            yield temporary
            sync_folder(temporary)
            temporary.replace(folder)
            sync(folder.parent)
    except Exception as error:
        if not refused_by_disk(error):
            raise
        what = f"{folder}: the model cannot be written ({error})"
        raise OutputError(f"{what}; free space, or name another place") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sweep(folder: Path, *prefixes: str) -> None:
    """Delete the temporary files and folders in a folder that processes which were killed left there."""
    # Names alone: a cache may hold thousands of entries, and is swept whenever one is added.
    for name in os.listdir(folder):  # noqa: PTH208
        if name.startswith((*prefixes, _DISCARDED)) and abandoned(folder / name):
            remove(folder / name)


def put_in_place(temporary: Path, target: Path) -> None:
    """Move a folder to its place, where another one may stand: that one goes."""
    if target.exists():
        discard(target)
    temporary.replace(target)
    sync(target.parent)


def discard(path: Path) -> None:
    """Delete a folder so that half of it is never found under its name."""
    doomed = path.with_name(f"{_DISCARDED}{secrets.token_hex(4)}")
    path.replace(doomed)
    remove(doomed)


def remove(path: Path) -> None:
    """Delete a file or a folder; what cannot be deleted stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's content."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, **facts: Any) -> None:  # noqa: ANN401
    """Write the hashes of a folder's files beside them, with facts about it, and wait until all is on the disk."""
    hashes = {file.name: file_digest(file) for file in sorted(folder.iterdir())}
    told = {"facts": facts, "sha256": hashes}
    (folder / SEAL).write_text(json.dumps({**told, "own": _digest(told)}, indent=1), "utf-8")
    sync_folder(folder)


def sealed_facts(folder: Path) -> dict[str, Any]:
    """Return what `seal` was told about a folder, without looking at its other files. Raises Damaged."""
    return _read_seal(folder)["facts"]


def unseal(folder: Path) -> dict[str, Any]:
    """Return what `seal` was told about a folder. Raises Damaged when a file is not what was written, or new."""
    told = _read_seal(folder)
    for name, expected in told["sha256"].items():
        try:
            found = file_digest(folder / name)
        except OSError as error:
            raise Damaged(f"{name}: {reason(error)}") from None
        if found != expected:
            raise Damaged(f"{name} is not what was written, its sha256 differs")
    for file in folder.iterdir():
        if file.name not in told["sha256"] and file.name != SEAL and not file.name.startswith("."):
            raise Damaged(f"{file.name} was not written with it")
    return told["facts"]


def _read_seal(folder: Path) -> dict[str, Any]:
    try:
        told = json.loads(read_text(folder / SEAL))
        own = told.pop("own")
        if own != _digest(told):
            raise ValueError("its own hash differs")
    except OSError as error:
        raise Damaged(f"{SEAL}: {reason(error)}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{SEAL} is not what was written: {error}") from None
    return told


def _digest(value: Any) -> str:  # noqa: ANN401
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sync_folder(folder: Path) -> None:
    """Wait until a folder and all that is in it is on the disk."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk."""
    if os.name != "posix" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
