"""How a person asks a run to stop."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from polytask.progress import Bar
from polytask.signals import on_signals


class StopRequest:
    """Whether this process was asked to stop: on the first Ctrl-C or SIGTERM; on the second Ctrl-C it stops at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self, bar: Bar) -> Generator[None]:
        """Take signals for requests."""

        def ask(number: int, frame: FrameType | None) -> None:
            del frame
            if self.asked and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.asked = True
            bar.say("stopping after this step; press Ctrl-C again to stop at once without saving")

        with on_signals(ask):
            yield
