"""Signals by which a person, or the system, asks this process to stop or to save."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], None]
STOPPING = (signal.SIGINT, signal.SIGTERM)
# SIGUSR1, which schedulers of clusters send some time before they end a job. Windows has none.
SAVING: tuple[signal.Signals, ...] = (signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()


@contextmanager
def on_signals(handler: Handler, numbers: Sequence[signal.Signals] = STOPPING) -> Generator[None]:
    """Call a function on signals (by default SIGINT and SIGTERM) while a block runs.

    Only the main thread can: in another one, such as that of a notebook's server, signals go where they went before.
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

    Processes that this one starts ignore them too, until they listen.
    """
    if threading.current_thread() is threading.main_thread():
        for number in SAVING:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def uninterrupted() -> Generator[None]:
    """Put Ctrl-C off until the end of a block that reads by native code.

    An interruption in the midst of it would come out as an error of its own, which reads as if the file were damaged.
    """
    if not callable(signal.getsignal(signal.SIGINT)):  # ignored, or not Python's
        yield
        return
    asked: list[int] = []
    try:
        with on_signals(lambda number, _: asked.append(number), (signal.SIGINT,)):
            yield
    finally:
        if asked:
            signal.raise_signal(signal.SIGINT)
