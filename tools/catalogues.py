"""Bring the message catalogues of the Chinese documentation up to date with the English pages.

    make docs-catalogues                       # every page that has a catalogue
    make docs-catalogues PAGES="tuning onnx"   # begin these two as well

A page is translated when `docs/locale/zh_CN/LC_MESSAGES/<page>.po` exists, and then it is translated whole: the tests
ask for every paragraph. A paragraph whose English text has changed keeps its old translation, marked `fuzzy`: correct
it, and delete the mark. Cells and headings without a word (numbers, code) need no translation and are left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from babel.messages import Catalog
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).parents[1]
CATALOGUES = ROOT / "docs" / "locale" / "zh_CN" / "LC_MESSAGES"
# What Sphinx and the theme say themselves; it belongs to no page.
INTERFACE = "sphinx"
CODE = re.compile(r"(`+).+?\1")


def extract(docs: Path = ROOT / "docs") -> dict[str, list[str]]:
    """Return the texts of each written page that a translation needs, in their order."""
    with tempfile.TemporaryDirectory() as folder:
        # Generated pages stay English, so nothing of polytask is imported; links to them are checked by `make docs`.
        command = [
            "-Q",
            "-b",
            "gettext",
            "-D",
            "extensions=myst_parser",
            "-D",
            "exclude_patterns=_build,_ext,locale,reference",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "sphinx", *command, str(docs), folder], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"Sphinx could not read the pages:\n{done.stderr}")
        found = {}
        for path in sorted(Path(folder).rglob("*.pot")):
            page = path.relative_to(folder).with_suffix("").as_posix()
            found[page] = [str(message.id) for message in read(path) if message.id and has_words(str(message.id))]
    return found


def has_words(text: str) -> bool:
    """Whether a text has anything to translate: two letters outside of code and links' targets."""
    return re.search(r"[^\W\d_]{2}", CODE.sub("", re.sub(r"\]\([^)]*\)", "]", text))) is not None


def pages() -> dict[str, Path]:
    """Return the catalogue of each translated page."""
    found = {path.relative_to(CATALOGUES).with_suffix("").as_posix(): path for path in sorted(CATALOGUES.rglob("*.po"))}
    found.pop(INTERFACE, None)
    return found


def read(path: Path) -> Catalog:
    """Return a catalogue; one that is broken is refused with its line."""
    with path.open("rb") as file:
        return read_po(file, abort_invalid=True)


def update(page: str, messages: list[str]) -> tuple[int, int]:
    """Write a page's catalogue, and return how many texts it has and how many of them wait for a translator."""
    path = CATALOGUES / f"{page}.po"
    catalogue = read(path) if path.exists() else Catalog(locale="zh_CN", fuzzy=False)
    catalogue.project, catalogue.version, catalogue.msgid_bugs_address = "polytask", "", ""
    catalogue.header_comment = f"# docs/{page}.md in Chinese; its words are those of docs/locale/zh_CN/GLOSSARY.md."
    catalogue.last_translator = catalogue.language_team = "the polytask developers"
    template = Catalog(project="polytask", creation_date=catalogue.creation_date)
    for message in messages:
        template.add(message)
    waiting = {message.id for message in catalogue if message.id and message.fuzzy}
    catalogue.update(template)
    for message in catalogue:  # the marks of an earlier update, which would be lost
        if message.id in waiting:
            message.flags.add("fuzzy")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        write_po(file, catalogue, width=0, ignore_obsolete=True)
    return len(catalogue), sum(not message.string or message.fuzzy for message in catalogue if message.id)


def main(wanted: list[str]) -> None:
    """Update the catalogues of the translated pages and of those that are named."""
    found = extract()
    unknown = [page for page in wanted if page not in found]
    if unknown:
        raise SystemExit(f"No page of docs/: {', '.join(unknown)}. Pages: {', '.join(found)}.")
    for page, path in pages().items():
        if page not in found:
            print(f"{path}: its page is gone; rename the catalogue with the page, or delete it")
    for page in sorted({*pages(), *wanted} & {*found}):
        total, waiting = update(page, found[page])
        print(f"{page}: {total} texts, {waiting} to translate")
    left = [page for page in found if page not in pages()]
    print(f"without a catalogue: {', '.join(left) or 'none'}")


if __name__ == "__main__":
    main(sys.argv[1:])
