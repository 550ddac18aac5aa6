"""The elements of a page: sections of blocks. Each kind of block names the template that draws it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeAlias
from urllib.parse import quote

from markupsafe import Markup


@dataclass(frozen=True)
class Link:
    """A link to a file or folder next to the page.

    Attributes:
        path: relative path with forward slashes.
    """

    text: str
    path: str

    @property
    def href(self) -> str:
        """The path as a URL that always stays within the file system, whatever the path contains."""
        return "./" + quote(self.path.lstrip("/"))


@dataclass(frozen=True)
class Mark:
    """A highlighted word, such as a verdict; its frame carries the same information as its colour."""

    text: str
    tone: str


@dataclass(frozen=True)
class Strong:
    """A value in bold, such as the best one of a row."""

    strong: str


Cell: TypeAlias = "str | Link | Mark | Strong"


@dataclass(frozen=True)
class TextBlock:
    """A paragraph."""

    template: ClassVar[str] = "text.html"
    text: str


@dataclass(frozen=True)
class MissingNote:
    """A note on something that is missing, with the reason."""

    template: ClassVar[str] = "missing.html"
    text: str


@dataclass(frozen=True)
class BulletList:
    """A list of sentences or links."""

    template: ClassVar[str] = "listed.html"
    entries: Sequence[Cell]


@dataclass(frozen=True)
class TableBlock:
    """A table in a scrollable box.

    Attributes:
        words: number of columns, from the left, with words; the others contain numbers.
        wide: whether the words are sentences.
    """

    template: ClassVar[str] = "table.html"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: int = 1
    wide: bool = False


@dataclass(frozen=True)
class Chart:
    """One drawing with its heading.

    Attributes:
        wide: whether it is too wide for a screen of 400 pixels; its box then scrolls, also by keyboard.
    """

    title: str
    svg: Markup
    wide: bool = False


@dataclass(frozen=True)
class Charts:
    """Charts side by side, as many as fit, with a sentence on how to read them."""

    template: ClassVar[str] = "charts.html"
    charts: Sequence[Chart]
    caption: str = ""


@dataclass(frozen=True)
class ForestRow:
    """A value of a forest plot: its name, its drawing, and the value as text."""

    name: str
    value: str
    svg: Markup


@dataclass(frozen=True)
class Forest:
    """A forest plot, as wide as the screen allows.

    Attributes:
        ticks: labels of the axis with their positions in percent of its width.
    """

    template: ClassVar[str] = "forest.html"
    title: str
    rows: Sequence[ForestRow]
    ticks: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """Text to copy."""

    template: ClassVar[str] = "code.html"
    label: str
    text: str


@dataclass(frozen=True)
class Card:
    """The result of one task at a glance.

    Attributes:
        metric: name of the score.
        facts: short lines below the score, such as its interval.
        sentence: interpretation of the score.
        tone: tone of the border: good, part, bad or open.
    """

    title: str
    metric: str
    value: str
    facts: Sequence[str]
    sentence: str
    tone: str


@dataclass(frozen=True)
class Cards:
    """Cards side by side, as many as fit."""

    template: ClassVar[str] = "cards.html"
    cards: Sequence[Card]


@dataclass(frozen=True)
class Banner:
    """The main result of a page, in a frame."""

    template: ClassVar[str] = "banner.html"
    label: str
    title: str
    text: str
    tone: str = "good"


@dataclass(frozen=True)
class Piece:
    """A part of a text: plain, or marked with a label.

    Attributes:
        label: label of the mark; empty for plain text.
        tone: whether the mark is right, missed or wrong; shown by the frame, and read aloud by screen readers.
        inner: parts of the text if it contains further marks; otherwise empty.
    """

    text: str
    label: str = ""
    tone: str = ""
    inner: Sequence[Piece] = ()


@dataclass(frozen=True)
class MarkedText:
    """A row with the true marks above the predicted ones.

    Attributes:
        place: file and line of the row.
    """

    place: str
    truth: Sequence[Piece]
    answer: Sequence[Piece]


@dataclass(frozen=True)
class MarkedTexts:
    """Rows with marks in their texts."""

    template: ClassVar[str] = "marked.html"
    caption: str
    rows: Sequence[MarkedText]


@dataclass(frozen=True)
class Details:
    """Blocks folded under one line."""

    template: ClassVar[str] = "folded.html"
    title: str
    blocks: Sequence[Block]


Block: TypeAlias = (
    TextBlock | MissingNote | BulletList | TableBlock | Charts | Code | Forest | Cards | Banner | MarkedTexts | Details
)


@dataclass(frozen=True)
class Section:
    """A heading with its blocks.

    Attributes:
        folded: whether it is closed until the reader opens it.
        hint: text next to the title of a closed section.
    """

    title: str
    blocks: Sequence[Block]
    folded: bool = False
    hint: str = ""

    @property
    def empty(self) -> bool:
        """Whether it contains only notes on missing things."""
        return all(isinstance(block, TextBlock | MissingNote) for block in self.blocks)

    @property
    def anchor(self) -> str:
        """The anchor of the section."""
        return re.sub(r"[\W_]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    """The content of a page.

    Attributes:
        lead: first blocks, with the most important results.
    """

    title: str
    kind: str
    lead: Sequence[Block] = field(default_factory=list[Block])
    sections: Sequence[Section] = field(default_factory=list[Section])


def ordered(sections: Iterable[Section], *, finished: bool = True) -> list[Section]:
    """Order sections: open ones first, then folded ones, then empty ones with the reason, one line each.

    Sections without blocks are left out and, while a folder is not finished, empty ones too.
    """
    listed = [section for section in sections if section.blocks]
    shown = [section for section in listed if not section.empty]
    empty = [
        replace(empty_section, folded=True, hint="nothing to show")
        for empty_section in listed
        if empty_section.empty and finished
    ]
    shown.sort(key=lambda section: section.folded)
    return [*shown, *empty]


def drawn(charts: Iterable[Chart | None], absent: str, caption: str = "") -> Block:
    """Return charts side by side, or a note on why there are none."""
    available = [chart for chart in charts if chart is not None]
    return Charts(available, caption) if available else MissingNote(absent)
