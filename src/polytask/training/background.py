"""Work that goes on in a thread beside the training: one thing after another, and an error is told to who asks next."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Background:
    """Does jobs in the order in which they are given; after one that failed, none of the following ones is begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], object]] = deque()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def give(self, job: Callable[[], object]) -> None:
        """Have a job done. Raises what an earlier one failed with."""
        self.check()
        with self._lock:
            self._jobs.append(job)
            if self._thread is None:
                # A daemon: a process that is told to stop at once does not wait for it.
                self._thread = threading.Thread(target=self._work, daemon=True, name="checkpoints")
                self._thread.start()

    def check(self) -> None:
        """Raise what a job failed with, if any did."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Wait until all is done. Raises what a job failed with."""
        thread = self._thread
        if thread is not None:
            thread.join()
        self.check()

    def forget(self) -> None:
        """Begin no further job."""
        with self._lock:
            self._jobs.clear()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._thread = None
                    return
                job = self._jobs.popleft()
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - it is raised where the next one asks
                with self._lock:
                    self._error = error
                    self._jobs.clear()
