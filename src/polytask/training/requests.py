"""Requests to stop or save that a person, or the scheduler of a cluster, sends by signals."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from polytask.progress import Bar
from polytask.signals import SAVING, STOPPING, on_signals


@dataclass(frozen=True)
class PendingRequests:
    """Requests that any process of a run has received.

    Attributes:
        stop: whether to save and stop.
        save: whether to save and continue.
    """

    stop: bool = False
    save: bool = False


NOTHING = PendingRequests()


class Requests:
    """Requests to this process: to stop by SIGINT (Ctrl-C) or SIGTERM, to save by SIGUSR1.

    The second Ctrl-C stops at once.
    """

    def __init__(self) -> None:
        self.stop = self.save = False

    def take(self) -> PendingRequests:
        """Return the pending requests. A request to save is returned once; a request to stop stays."""
        if not self.save:
            return PendingRequests(self.stop)
        self.save = False  # a signal between these lines is served by the same checkpoint
        return PendingRequests(self.stop, save=True)

    @contextmanager
    def listening(self, bar: Bar) -> Generator[None]:
        """Treat signals as requests while the block runs."""

        def ask(number: int, frame: FrameType | None) -> None:
            del frame
            if number in SAVING:
                self.save = True
                return
            if self.stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stop = True
            bar.say("stopping after this step; press Ctrl-C again to stop at once without saving")

        with on_signals(ask, (*STOPPING, *SAVING)):
            yield
