"""Signals by which a user or the system asks this process to stop or to save."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], None]
STOPPING = (signal.SIGINT, signal.SIGTERM)
# SIGUSR1, which cluster schedulers send some time before they end a job. Windows does not have it.
SAVING: tuple[signal.Signals, ...] = (signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()


@contextmanager
def on_signals(handler: Handler, numbers: Sequence[signal.Signals] = STOPPING) -> Generator[None]:
    """Call a function on signals (by default SIGINT and SIGTERM) while a block runs.

    Only the main thread can do this: in any other, such as that of a notebook server, signals are handled as before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def ignore_saving() -> None:
    """Ignore requests to save while there is nothing to save: by default they would end this process.

    Processes started by this one ignore them too, until they install a handler.
    """
    if threading.current_thread() is threading.main_thread():
        for number in SAVING:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def uninterrupted() -> Generator[None]:
    """Postpone Ctrl-C until the end of a block that reads with native code.

    An interruption inside would surface as an error that looks as if the file were damaged.
    """
    if not callable(signal.getsignal(signal.SIGINT)):  # ignored, or not Python's
        yield
        return
    received: list[int] = []
    try:
        with on_signals(lambda number, _: received.append(number), (signal.SIGINT,)):
            yield
    finally:
        if received:
            signal.raise_signal(signal.SIGINT)
