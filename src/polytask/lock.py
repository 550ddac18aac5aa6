"""Locks on folders; the kernel releases them with the process, however it ends."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from polytask.errors import OutputError
from polytask.regular import read_bytes

FILE = ".lock"


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Keep other processes from writing into a folder for as long as this one lives, or until the block ends.

    The folder is made where it is not there, and removed again where nothing was put into it.

    Raises OutputError when another process holds it, naming that process, and when it cannot be written.
    """
    made = _make(folder)
    try:
        with _locked_file(folder):
            yield
    finally:
        for parent in made:
            try:
                parent.rmdir()
            except OSError:  # something was put into it
                break


def _make(folder: Path) -> list[Path]:
    """Make a folder, and return those that were not there, the innermost first."""
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder}: there is a file of that name; name a folder")
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); name another folder") from None
    return missing


@contextmanager
def _locked_file(folder: Path) -> Generator[None]:
    if sys.platform == "win32":
        yield
        return
    path = folder / FILE
    try:
        handle = _open(path)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror}); free space there, or name another folder"
        ) from None
    try:
        yield
    finally:
        # While it is still held: whoever opened it in the meantime finds the file gone, and makes another one.
        path.unlink(missing_ok=True)
        os.close(handle)


def _open(path: Path) -> int:
    """Open the lock file of a folder and lock it. Raises OutputError when another process has it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if take(handle) is False:
            told = _holder(handle)
            os.close(handle)
            raise OutputError(
                f"{path.parent}: {told} is writing into this folder; wait for it, stop it, or name another folder"
            )
        try:
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)  # the process that held it has deleted it since


def _holder(handle: int) -> str:
    try:
        found = json.loads(os.pread(handle, 4096, 0))
        return f"the process {int(found['pid'])} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"


def is_held(folder: Path) -> bool | None:
    """Whether a process of this machine writes into a folder; None where that cannot be known.

    The lock itself is not tried: a process that starts at the same moment would find it taken.
    """
    if sys.platform == "win32":
        return None
    try:
        holder = json.loads(read_bytes(folder / FILE))
        pid, host = int(holder["pid"]), holder["host"]
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if host != socket.gethostname() or pid < 1:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


@contextmanager
def in_use(path: Path) -> Generator[None]:
    """Mark a temporary file or folder as one of a process that lives, so that `abandoned` does not take it."""
    if sys.platform == "win32":
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        take(handle)
        yield
    finally:
        os.close(handle)


def abandoned(path: Path) -> bool:
    """Whether the process that made a temporary file or folder has ended; False where that cannot be known."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return bool(take(handle))
    finally:
        os.close(handle)


def take(handle: int) -> bool | None:
    """Lock an open file or folder: False when another process has locked it, None where files cannot be locked."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True
