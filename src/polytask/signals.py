"""Signals by which a person, or the system, asks this process to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], None]
STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def on_signals(handler: Handler, *numbers: signal.Signals) -> Generator[None]:
    """Call a function on signals (by default SIGINT and SIGTERM) while a block runs.

    Only the main thread can: in another one, such as that of a notebook's server, signals go where they went before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers or STOPPING}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


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
        with on_signals(lambda number, _: asked.append(number), signal.SIGINT):
            yield
    finally:
        if asked:
            signal.raise_signal(signal.SIGINT)
