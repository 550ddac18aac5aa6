"""Locks on folders, which the kernel releases when the process ends, however it ends."""

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
    """Keep other processes from writing into a folder until the block, or this process, ends.

    Creates the folder if it is missing, and removes it again if nothing was written into it.

    Raises OutputError if another process holds the lock, naming that process, and if the folder is not writable.
    """
    created = _make(folder)
    try:
        with _locked_file(folder):
            yield
    finally:
        for parent in created:
            try:
                parent.rmdir()
            except OSError:  # not empty
                break


def _make(folder: Path) -> list[Path]:
    """Create a folder, and return the folders that were missing, innermost first."""
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder}: there is a file of that name; name a folder")
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be created ({error.strerror}); name another folder") from None
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
        # While the lock is still held: a process that opened the file meanwhile finds it gone, and creates a new one.
        path.unlink(missing_ok=True)
        os.close(handle)


def _open(path: Path) -> int:
    """Open and lock the lock file of a folder. Raises OutputError if another process holds it."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            if os.path.lexists(path):  # a link to nowhere
                raise
            path.parent.mkdir(parents=True, exist_ok=True)  # the process that created the folder has removed it again
            continue
        if take(handle) is False:
            holder = _holder(handle)
            os.close(handle)
            raise OutputError(
                f"{path.parent}: {holder} is writing into this folder; wait for it, stop it, or name another folder"
            )
        if _is_at(path, handle):
            return handle
        os.close(handle)  # the previous holder has deleted the file


def _is_at(path: Path, handle: int) -> bool:
    """Whether an open file or folder is the one at a path."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _holder(handle: int) -> str:
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
        return f"the process {int(holder['pid'])} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"


def is_held(folder: Path) -> bool | None:
    """Whether a process on this machine writes into a folder; None if that cannot be determined.

    Does not try the lock itself: a process that starts at the same moment would find it taken.
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
def in_use(path: Path) -> Generator[bool]:
    """Mark a file or folder as in use by a running process, so that it is not `abandoned` while the block runs.

    Yields whether it is marked: not if another process has marked it, or has deleted it as abandoned, which may happen
    to a temporary one between its creation and this call.
    """
    handle = _opened(path)
    if handle is None:
        yield sys.platform == "win32" or path.exists()
        return
    try:
        yield take(handle) is not False and _is_at(path, handle)
    finally:
        os.close(handle)


@contextmanager
def abandoned(path: Path) -> Generator[bool]:
    """Yield whether the process that created a temporary file or folder has ended; False if that cannot be determined.

    No process can mark it as in use while the block runs, so it can be deleted there.
    """
    handle = _opened(path)
    if handle is None:
        yield False
        return
    try:
        yield bool(take(handle))
    finally:
        os.close(handle)


def _opened(path: Path) -> int | None:
    """Open a file or folder to lock it; None if it is missing or cannot be opened, as folders on Windows."""
    try:
        return os.open(path, os.O_RDONLY)
    except OSError:
        return None


def take(handle: int) -> bool | None:
    """Lock an open file or folder: False if another process has locked it, None if files cannot be locked."""
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
