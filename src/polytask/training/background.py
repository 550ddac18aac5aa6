"""A background thread that runs jobs one after another; an error is raised in the next call from the main thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Background:
    """Runs jobs in the order in which they are submitted; after a failed job, no further one is started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], object]] = deque()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def submit(self, job: Callable[[], object]) -> None:
        """Queue a job. Raises the error of an earlier job that failed."""
        self.check()
        with self._lock:
            self._jobs.append(job)
            if self._thread is None:
                # A daemon: a process that has to stop at once does not wait for it.
                self._thread = threading.Thread(target=self._work, daemon=True, name="checkpoints")
                self._thread.start()

    def check(self) -> None:
        """Raise the error of a job that failed, if any."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Wait until all jobs are done. Raises the error of a job that failed."""
        thread = self._thread
        if thread is not None:
            thread.join()
        self.check()

    def forget(self) -> None:
        """Drop the jobs that have not started."""
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
            except BaseException as error:  # noqa: BLE001 - raised by the next call
                with self._lock:
                    self._error = error
                    self._jobs.clear()
