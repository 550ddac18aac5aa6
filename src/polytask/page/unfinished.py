"""The first lines of a folder whose result is not written yet, or cannot be read."""

from __future__ import annotations

from pathlib import Path

from polytask.lock import is_held
from polytask.page.block import Banner, Block, MissingNote


def unfinished(folder: Path, noun: str, result: str, problem: str) -> Block:
    """Say whether what was to be written still runs, or how to go on with it.

    Args:
        noun: what the folder is of, such as a comparison.
        result: the file that is written at the end.
        problem: why it is not known.
    """
    if (folder / result).exists():
        return MissingNote(
            f"this {noun} is not finished, or was altered: {problem} Start the same command again to go on."
        )
    if is_held(folder) is True:
        return Banner("It runs now", f"This {noun} goes on", f"{result} is written when it has ended.", "open")
    again = f"{problem} Start the same command again: it goes on, and what is complete is not trained again."
    return Banner("Not finished", f"This {noun} was stopped", again, "open")
