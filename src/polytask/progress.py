"""Progress on the terminal: a bar with rates and the time left, or plain lines where stderr is no terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from polytask.terminal import PlainConsole, duration

# Seconds between two lines that say how far the work is, where stderr is no terminal.
LINES_EVERY = 30.0


class _Shown:
    """What is shown while a block runs."""

    _progress: Progress

    def __enter__(self) -> Self:
        if not self._progress.disable:  # rich before 15 ends a bar that is not shown with an empty line
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._progress.disable:
            self._progress.stop()


class Bar(_Shown):
    """Shows how far a long work is; everything goes to stderr."""

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
        self._began = self._told = time.monotonic()
        self._paused = 0.0

    def advance(self, rows: int, tokens: int) -> None:
        """Count one step."""
        self._rows, self._tokens = self._rows + rows, self._tokens + tokens
        seconds = max(self.seconds, 1e-9)
        rate = f"{self._rows / seconds:,.0f} rows/s  {self._tokens / seconds:,.0f} tokens/s"
        self._progress.update(self._task, advance=1, rate=rate)
        self._done += 1
        if not self.console.is_terminal and time.monotonic() - self._told > LINES_EVERY:
            self._told = time.monotonic()
            left = seconds / (self._done - self._start) * (self._total - self._done)
            self.say(f"{self._label}: {self._done} of {self._total} steps, {rate}, about {duration(left)} left")

    def describe(self, label: str) -> None:
        """Change what the bar says."""
        self._progress.update(self._task, description=label)

    def pause(self, seconds: float) -> None:
        """Leave time out of the rates that was spent on other work."""
        self._paused += seconds

    @property
    def seconds(self) -> float:
        """Seconds at work, pauses left out."""
        return time.monotonic() - self._began - self._paused

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second so far."""
        return self._tokens / max(self.seconds, 1e-9)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(text)


class FileBar(_Shown):
    """Shows how much of a file is answered, with the time left by its bytes; on stderr, or not at all.

    Args:
        total: bytes of the file.
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
        """Count one answered row, which ends so many bytes from the beginning of the file."""
        self._rows += 1
        if self._progress.disable:
            return
        rate = self._rows / max(time.monotonic() - self._began, 1e-9)
        self._progress.update(self._task, completed=position, rows=self._rows, rate=f"{rate:,.1f} rows/s")


class PartsBar(_Shown):
    """Shows how far many files are answered, with the time left by their bytes; plain lines where there is no terminal.

    Args:
        total: bytes of all files.
        done: those that were answered before, which say nothing about the rate.
    """

    def __init__(self, total: int, done: int = 0) -> None:
        self.console = PlainConsole(stderr=True, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.fields[rows]:,} rows"), BarColumn(bar_width=30), TaskProgressColumn(),
            TextColumn("{task.fields[told]}"), console=self.console, disable=not self.console.is_terminal,
            transient=True,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=max(total, 1), completed=done, rows=0, told="")
        self._total, self._start, self._done, self._rows = total, done, done, 0
        self._began = self._told = time.monotonic()

    def advance(self, rows: int, size: int) -> None:
        """Count rows that were answered, and the bytes of their file that they take."""
        self._rows, self._done = self._rows + rows, self._done + size
        now = time.monotonic()
        seconds = max(now - self._began, 1e-9)
        left = seconds / max(self._done - self._start, 1) * max(self._total - self._done, 0)
        told = f"{self._rows / seconds:,.1f} rows/s, about {duration(left)} left"
        self._progress.update(self._task, completed=self._done, rows=self._rows, told=told)
        if not self.console.is_terminal and now - self._told > LINES_EVERY:
            self._told = now
            part = 100 * self._done / max(self._total, 1)
            self.console.print(f"{part:.1f} % of the input, {self._rows:,} rows, {told}")
