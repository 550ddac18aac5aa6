"""Requests to stop or save that a person, or the scheduler of a cluster, sends by signals."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from polytask.signals import SAVING, STOPPING, on_signals
from polytask.terminal import PlainConsole


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

    A request to stop ends the run after the current step. One that comes after the last step (see `finish`) lets the
    run be scored and saved; whoever trains several runs stops then. The second Ctrl-C stops at once.

    Args:
        show: whether to print messages.
    """

    def __init__(self, *, show: bool = True) -> None:
        self._say: Callable[[str], None] = PlainConsole(stderr=True, quiet=not show, soft_wrap=True).print
        self.stop = self.save = False
        self._finishing = False

    def take(self) -> PendingRequests:
        """Return the pending requests. A request to save is returned once; a request to stop stays."""
        if not self.save:
            return PendingRequests(self.stop)
        self.save = False  # a signal between these lines is served by the same checkpoint
        return PendingRequests(self.stop, save=True)

    def finish(self) -> bool:
        """Note that the last step has been made, and return whether a stop was requested before."""
        self._finishing = True
        return self.stop

    @contextmanager
    def saying(self, say: Callable[[str], None]) -> Generator[None]:
        """Print messages in another way while the block runs."""
        before, self._say = self._say, say
        try:
            yield
        finally:
            self._say = before

    @contextmanager
    def listening(self) -> Generator[None]:
        """Treat signals as requests while the block runs."""

        def ask(number: int, frame: FrameType | None) -> None:
            del frame
            if number in SAVING:
                self.save = True
                return
            if self.stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stop = True
            self._say(
                "the last step was made: stopping once the run is scored and saved; press Ctrl-C again to stop at once"
                if self._finishing
                else "stopping after this step; press Ctrl-C again to stop at once without saving"
            )

        with on_signals(ask, (*STOPPING, *SAVING)):
            yield
