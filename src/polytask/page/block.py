"""What a page is made of: sections of blocks. Each kind of block names the template that draws it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeAlias
from urllib.parse import quote

from markupsafe import Markup


@dataclass(frozen=True)
class Link:
    """A link to something that lies beside the page.

    Attributes:
        path: relative, with forward slashes.
    """

    text: str
    path: str

    @property
    def href(self) -> str:
        """The path as an address that cannot leave the file system, whatever the path holds."""
        return "./" + quote(self.path.lstrip("/"))


@dataclass(frozen=True)
class Mark:
    """A word that stands out, such as a verdict; the shape of its frame says what the colour says."""

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
    """What is not there, and why."""

    template: ClassVar[str] = "missing.html"
    text: str


@dataclass(frozen=True)
class BulletList:
    """A list of sentences or links."""

    template: ClassVar[str] = "listed.html"
    entries: Sequence[Cell]


@dataclass(frozen=True)
class TableBlock:
    """A table in a box that scrolls by itself.

    Attributes:
        words: so many columns, from the left, hold words; the others hold numbers.
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
        wide: whether a screen of 400 pixels is too narrow for it; its box then scrolls, by keyboard too.
    """

    title: str
    svg: Markup
    wide: bool = False


@dataclass(frozen=True)
class Charts:
    """Drawings side by side, as many as fit, and a sentence on how to read them."""

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
        ticks: what the axis says, and where, in percent of its width.
    """

    template: ClassVar[str] = "forest.html"
    title: str
    rows: Sequence[ForestRow]
    ticks: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """Text to be copied as it is."""

    template: ClassVar[str] = "code.html"
    label: str
    text: str


@dataclass(frozen=True)
class Card:
    """What one task reached, for a person in a hurry.

    Attributes:
        metric: the name of the score.
        facts: short lines below the score, such as its interval.
        sentence: what the score means.
        tone: of the edge: good, part, bad or open.
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
    """The answer of a page, in one frame."""

    template: ClassVar[str] = "banner.html"
    label: str
    title: str
    text: str
    tone: str = "good"


@dataclass(frozen=True)
class Piece:
    """A part of a text: plain, or marked with a label.

    Attributes:
        label: empty where the part is plain.
        tone: whether the mark is right, missed or wrong; shown by the frame and read aloud.
        inner: what the text is made of where marks lie inside of it; empty where none do.
    """

    text: str
    label: str = ""
    tone: str = ""
    inner: Sequence[Piece] = ()


@dataclass(frozen=True)
class MarkedText:
    """A row whose truth stands above the answer, both marked in the text.

    Attributes:
        place: where it stands: file and line.
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
    """Blocks behind one line that opens."""

    template: ClassVar[str] = "folded.html"
    title: str
    blocks: Sequence[Block]


Block: TypeAlias = (
    TextBlock | MissingNote | BulletList | TableBlock | Charts | Code | Forest | Cards | Banner | MarkedTexts | Details
)


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it.

    Attributes:
        folded: whether it is closed until a person opens it.
        hint: what a closed section says beside its title.
    """

    title: str
    blocks: Sequence[Block]
    folded: bool = False
    hint: str = ""

    @property
    def empty(self) -> bool:
        """Whether it only says that there is nothing to show."""
        return all(isinstance(block, TextBlock | MissingNote) for block in self.blocks)

    @property
    def anchor(self) -> str:
        """The name by which the page links to it."""
        return re.sub(r"[\W_]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    """All that one page shows.

    Attributes:
        lead: the first lines: what matters most.
    """

    title: str
    kind: str
    lead: Sequence[Block] = field(default_factory=list[Block])
    sections: Sequence[Section] = field(default_factory=list[Section])


def ordered(sections: Iterable[Section], *, finished: bool = True) -> list[Section]:
    """Put open sections first, then the folded ones, then those that say why they hold nothing: one line each.

    Sections without any block have nothing to say, and are left out; while a folder is not finished also those that
    hold nothing yet.
    """
    listed = [section for section in sections if section.blocks]
    shown = [section for section in listed if not section.empty]
    empty = [replace(one, folded=True, hint="nothing to show") for one in listed if one.empty and finished]
    shown.sort(key=lambda section: section.folded)
    return [*shown, *empty]


def drawn(charts: Iterable[Chart | None], absent: str, caption: str = "") -> Block:
    """Put charts side by side, or say why there is none."""
    kept = [chart for chart in charts if chart is not None]
    return Charts(kept, caption) if kept else MissingNote(absent)
