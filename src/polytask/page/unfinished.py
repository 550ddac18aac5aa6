"""The first block of a page whose result is not written yet, or cannot be read."""

from __future__ import annotations

from pathlib import Path

from polytask.lock import is_held
from polytask.page.block import Banner, Block, MissingNote


def unfinished(folder: Path, noun: str, result: str, problem: str) -> Block:
    """Return a block that says whether the work is still running, or how to continue it.

    Args:
        folder: the folder.
        noun: kind of the folder, such as "comparison".
        result: the file that is written at the end.
        problem: why it cannot be read.
    """
    if (folder / result).exists():
        return MissingNote(
            f"this {noun} is not finished, or was changed: {problem} Run the same command again to continue."
        )
    if is_held(folder) is True:
        return Banner("Running", f"This {noun} is running", f"{result} will be written at the end.", "open")
    again = f"{problem} Run the same command again to continue; complete runs are not trained again."
    return Banner("Not finished", f"This {noun} was stopped", again, "open")
