"""Terminal output: plain text without markup or control characters, at full width if piped."""

from __future__ import annotations

import math
import sys
import unicodedata
from typing import Any

from rich.console import Console
from rich.text import Text

# Width of tables on a pipe, where rich would use 80 columns.
_NO_TERMINAL, _LINES = 1_000_000, 25


class PlainConsole(Console):
    """A console that treats labels such as `[/b]` or `:smile:` as plain text."""

    def __init__(
        self, *, stderr: bool = False, quiet: bool = False, soft_wrap: bool = False, styles: bool = True
    ) -> None:
        piped = not (sys.stderr if stderr else sys.stdout).isatty()
        super().__init__(
            stderr=stderr,
            quiet=quiet,
            soft_wrap=soft_wrap,
            width=_NO_TERMINAL if piped else None,
            # Without a height rich uses 80 columns if TERM is dumb and colours are forced, as in CI.
            height=_LINES if piped else None,
            markup=False,
            emoji=False,
            highlight=False,
            color_system="auto" if styles else None,
        )

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401
        """Return a text with control characters escaped."""
        return super().render_str(visible(text), **options)


def visible(text: str) -> str:
    r"""Escape control characters, except line breaks and tabs.

    >>> visible("a\x1b[31m")
    'a\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(ascii(character)[1:-1] if _drives(character) else character for character in text)


def _drives(character: str) -> bool:
    """Whether a character moves the cursor, changes colours, or changes the direction of the text around it."""
    if character in "\n\t":
        return False
    return (
        unicodedata.category(character) in ("Cc", "Cs")
        or "\u202a" <= character <= "\u202e"
        or ("\u2066" <= character <= "\u2069")
    )


def duration(seconds: float | None) -> str:
    """Format a duration for people."""
    if seconds is None or not math.isfinite(seconds):
        return "unknown"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
