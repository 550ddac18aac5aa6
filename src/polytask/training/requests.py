"""What a person, or the scheduler of a cluster, asks of a run by signals."""

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
    """What was asked of a run, by any of its processes.

    Attributes:
        stop: to save and to end.
        save: to save and to go on.
    """

    stop: bool = False
    save: bool = False


NOTHING = PendingRequests()


class Requests:
    """What this process was asked: to stop by SIGINT (Ctrl-C) or SIGTERM, to save by SIGUSR1.

    On the second Ctrl-C it stops at once.
    """

    def __init__(self) -> None:
        self.stop = self.save = False

    def take(self) -> PendingRequests:
        """Return what was asked. A request to save is answered once, one to stop stays."""
        if not self.save:
            return PendingRequests(self.stop)
        self.save = False  # a signal that comes between these lines is answered by the same checkpoint
        return PendingRequests(self.stop, save=True)

    @contextmanager
    def listening(self, bar: Bar) -> Generator[None]:
        """Take signals for requests."""

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
