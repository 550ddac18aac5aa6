"""Writes the page of a folder: determines the kind of the folder, and renders its page into one file."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from polytask.errors import OutputError, UserError
from polytask.inputs import folder_of
from polytask.page.auto import auto_page
from polytask.page.block import Page
from polytask.page.comparison import comparison_page
from polytask.page.relatedness import relatedness_page
from polytask.page.run import run_page
from polytask.page.tuning import tuning_page
from polytask.regular import is_file, is_folder, is_there
from polytask.version import __version__

NAME = "report.html"


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that has a page.

    Attributes:
        signs: groups of file names; a folder with all names of a group is of this kind.
        finished: the file that is written last.
        inner: returns the run folders inside whose pages are written too, since its own page links to them.
    """

    signs: tuple[tuple[str, ...], ...]
    page: Callable[[Path], Page]
    finished: str
    inner: Callable[[Path], list[Path]] = lambda _: []

    def fits(self, folder: Path) -> bool:
        """Whether a folder is of this kind."""
        return any(all(is_there(folder / name) for name in group) for group in self.signs)


def _runs_in(folder: Path) -> list[Path]:
    """Return the finished runs of a comparison whose page is missing or older than their scores."""
    return [
        scores.parent
        for scores in sorted((folder / "runs").glob("*/scores.json"))
        if _changed_at(scores.with_name(NAME)) < _changed_at(scores)
    ]


def _changed_at(path: Path) -> float:
    return path.stat().st_mtime if is_file(path) else 0.0


# In the order of the search.
FOLDER_KINDS = (
    FolderKind((("auto.json",), ("auto-config.json",)), auto_page, "auto.json"),
    FolderKind(
        (("comparison.json",), ("config.json", "runs")), comparison_page, "comparison.json", _runs_in
    ),  # the second one is not finished
    FolderKind((("relatedness.json",),), relatedness_page, "relatedness.json"),
    FolderKind((("tune.json",), ("search.json", "trials")), tuning_page, "tune.json"),  # the second one is not finished
    FolderKind((("events.jsonl",), ("run.json",), ("scores.json",)), run_page, "scores.json"),
)


def report(folder: str | PathLike[str]) -> Path:
    """Write `folder/report.html` about a run, comparison, search, tuning or relatedness folder, and return its path.

    For the model folder of a run, the page of the run is written: nothing is written into the model folder. The page of
    a comparison links to those of its finished runs, which are written too.

    The page says what is missing in the folder, such as the scores of an unfinished run.

    Raises:
        UserError: the folder is of none of these kinds.
        OutputError: the page cannot be written.
    """
    place = run_folder(folder_of(folder, "folder"))
    kind = kind_of(place)
    for run in kind.inner(place):
        _write(run, run_page(run))
    return _write(place, kind.page(place))


def _write(place: Path, page: Page) -> Path:
    path = place / NAME
    temporary = path.with_name(f".{NAME}")
    try:
        # A lone surrogate in a label cannot be encoded; it is shown as a question mark.
        temporary.write_bytes(render(page).encode("utf-8", "replace"))
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); make the folder writable") from None
    return path


class Following(Protocol):
    """The state of a page that follows a folder."""

    @property
    def script(self) -> str:
        """Script that fetches the next version."""
        ...


def render(page: Page, live: Following | None = None) -> str:
    """Return a page as HTML. All text is escaped, also inside charts.

    Args:
        page: the page.
        live: state of a page that is served and follows its folder; it has no links to files, which are not served.
    """
    text = (
        _templates()
        .get_template("page.html")
        .render(page=page, version=__version__, live=live, script=None if live is None else Markup(live.script))
    )
    # Control characters are not allowed in HTML.
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "\ufffd", text)


@functools.cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("polytask.page"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["options_whole"] = _options_whole
    return environment


def _options_whole(text: str) -> Markup:
    """Mark command-line options, which must not be broken at their hyphens."""
    return Markup(re.sub(r"(?<![\w-])--[a-z][a-z-]*", r'<span class="option">\g<0></span>', str(escape(text))))


def kind_of(folder: Path) -> FolderKind:
    """Return the kind of a folder. Raises UserError if it is of none."""
    if not is_folder(folder):
        problem = "it is a file" if is_there(folder) else "no such folder"
        raise UserError(
            f"{folder}: {problem}; name the folder of a run, comparison, search, tuning or relatedness measurement"
        )
    for kind in FOLDER_KINDS:
        if kind.fits(folder):
            return kind
    if is_file(folder / "polytask.json"):
        raise UserError(
            f"{folder}: a model folder without the run that trained it has no page; its model card is README.md, and "
            f"polytask serve {shlex.quote(str(folder))} shows a page to try it on"
        )
    near = [other for other in (folder.parent, *sorted(folder.iterdir())) if is_folder(other) and _is_known(other)]
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(
        f"{folder}: neither a run (events.jsonl), nor a comparison (comparison.json), nor a search (auto.json), nor a "
        f"tuning (tune.json), nor a relatedness folder (relatedness.json); name the --out folder of train, compare, "
        f"auto, tune or relate{hint}"
    )


def run_folder(folder: Path) -> Path:
    """Return the run's folder for the folder of its model; any other folder unchanged."""
    run = folder.parent
    return run if folder.name == "model" and is_file(folder / "polytask.json") and _is_known(run) else folder


def _is_known(folder: Path) -> bool:
    return any(kind.fits(folder) for kind in FOLDER_KINDS)
