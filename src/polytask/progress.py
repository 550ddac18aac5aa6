"""Progress on the terminal: a bar with rates and the time left, or plain lines if stderr is not a terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from polytask.terminal import PlainConsole, duration

# Seconds between two progress lines if stderr is not a terminal.
LINES_EVERY = 30.0


class _Shown:
    """A progress display that is shown while a block runs."""

    _progress: Progress

    def __enter__(self) -> Self:
        if not self._progress.disable:  # rich before 15 prints an empty line at the end of a hidden bar
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._progress.disable:
            self._progress.stop()


class Bar(_Shown):
    """A progress bar on stderr for work in steps.

    Args:
        label: text in front of the bar.
        total: number of steps.
        show: whether to show the bar.
        done: number of steps that were finished before.
    """

    def __init__(self, label: str, total: int, *, show: bool = True, done: int = 0) -> None:
        self.console = PlainConsole(stderr=True, quiet=not show, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=30), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self.console, disable=not (show and self.console.is_terminal), transient=True,
        )  # fmt: skip
        self._task = self._progress.add_task(label, total=total, completed=done, rate="")
        self._label, self._total, self._start, self._done = label, total, done, done
        self._rows = self._tokens = 0
        self._began = self._last_line = time.monotonic()
        self._paused = 0.0

    def advance(self, rows: int, tokens: int) -> None:
        """Count one step."""
        self._rows, self._tokens = self._rows + rows, self._tokens + tokens
        seconds = max(self.seconds, 1e-9)
        rate = f"{self._rows / seconds:,.0f} rows/s  {self._tokens / seconds:,.0f} tokens/s"
        self._progress.update(self._task, advance=1, rate=rate)
        self._done += 1
        if not self.console.is_terminal and time.monotonic() - self._last_line > LINES_EVERY:
            self._last_line = time.monotonic()
            left = seconds / (self._done - self._start) * (self._total - self._done)
            self.say(f"{self._label}: {self._done} of {self._total} steps, {rate}, about {duration(left)} left")

    def describe(self, label: str) -> None:
        """Change the label of the bar."""
        self._progress.update(self._task, description=label)

    def pause(self, seconds: float) -> None:
        """Exclude time that was spent on other work from the rates."""
        self._paused += seconds

    @property
    def seconds(self) -> float:
        """Seconds of work so far, without pauses."""
        return time.monotonic() - self._began - self._paused

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second so far."""
        return self._tokens / max(self.seconds, 1e-9)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(text)


class FileBar(_Shown):
    """A progress bar on stderr for predicting a file, with the time left estimated from bytes.

    Args:
        total: size of the file in bytes.
        show: whether to show the bar.
    """

    def __init__(self, total: int, *, show: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[rows]:,} rows"), BarColumn(bar_width=30), TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(compact=True),
            console=PlainConsole(stderr=True), disable=not show, transient=True,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=total, rows=0, rate="")
        self._rows = 0
        self._began = time.monotonic()

    def advance(self, position: int) -> None:
        """Count one predicted row, which ends at byte `position` of the file."""
        self._rows += 1
        if self._progress.disable:
            return
        rate = self._rows / max(time.monotonic() - self._began, 1e-9)
        self._progress.update(self._task, completed=position, rows=self._rows, rate=f"{rate:,.1f} rows/s")


class PartsBar(_Shown):
    """A progress bar for predicting many files, with the time left estimated from bytes; plain lines if not a terminal.

    Args:
        total: size of all files in bytes.
        done: bytes that were predicted before, which do not count for the rate.
    """

    def __init__(self, total: int, done: int = 0) -> None:
        self.console = PlainConsole(stderr=True, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.fields[rows]:,} rows"), BarColumn(bar_width=30), TaskProgressColumn(),
            TextColumn("{task.fields[status]}"), console=self.console, disable=not self.console.is_terminal,
            transient=True,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=max(total, 1), completed=done, rows=0, status="")
        self._total, self._start, self._done, self._rows = total, done, done, 0
        self._began = self._last_line = time.monotonic()

    def advance(self, rows: int, size: int) -> None:
        """Count predicted rows, and the bytes that they take in their file."""
        self._rows, self._done = self._rows + rows, self._done + size
        now = time.monotonic()
        seconds = max(now - self._began, 1e-9)
        left = seconds / max(self._done - self._start, 1) * max(self._total - self._done, 0)
        status = f"{self._rows / seconds:,.1f} rows/s, about {duration(left)} left"
        self._progress.update(self._task, completed=self._done, rows=self._rows, status=status)
        if not self.console.is_terminal and now - self._last_line > LINES_EVERY:
            self._last_line = now
            part = 100 * self._done / max(self._total, 1)
            self.console.print(f"{part:.1f} % of the input, {self._rows:,} rows, {status}")
