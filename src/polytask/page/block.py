"""What a page is made of: sections of blocks. Each kind of block names the template that draws it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias
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


def number(value: float | None, digits: int = 4) -> str:
    """Write a score."""
    if value is None or not math.isfinite(value):
        return "undefined"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\u2212")  # adding 0 leaves no minus before a zero


def signed(value: float | None, digits: int = 4) -> str:
    """Write a difference."""
    shown = number(value, digits)
    return f"+{shown}" if value is not None and math.isfinite(value) and round(value, digits) > 0 else shown


def interval(low: float | None, high: float | None, *, sign: bool = False, digits: int = 4) -> str:
    """Write an interval; empty where there is none."""
    if low is None or high is None:
        return ""
    write = signed if sign else number
    return f"{write(low, digits)} to {write(high, digits)}"


def points(value: float | None) -> str:
    """Write a difference of scores in points: hundredths of the metric's unit.

    >>> points(0.0123), points(None)
    ('+1.2', 'undefined')
    """
    return signed(None if value is None else 100 * value, 1)


def points_interval(low: float | None, high: float | None) -> str:
    """Write an interval of a difference in points; empty where there is none."""
    return "" if low is None or high is None else f"{points(low)} to {points(high)}"


def in_points(value: float | None) -> float | None:
    """Return a difference of scores in points, to be drawn."""
    return None if value is None else 100 * value


def count(value: float | None) -> str:
    """Write a large whole number."""
    return "unknown" if value is None or not math.isfinite(value) else f"{value:,.0f}".replace(",", "\u202f")


def sentence(text: str) -> str:
    """Begin a sentence of a terminal with a capital, and write its negative numbers as the page does.

    >>> sentence("with a-1, it is -1.5 points [-2.0, +0.1]; --folds 5")
    'With a-1, it is −1.5 points [−2.0, +0.1]; --folds 5'
    """
    return re.sub(r"(?<![\w-])-(?=\d)", "\u2212", text[:1].upper() + text[1:])


def isolated(text: str) -> str:
    """Keep a text that may read from the right from turning what stands around it (Unicode Annex 9, isolates)."""
    return f"\u2068{text}\u2069"


def placed(place: str, row: int) -> str:
    """Write where a row stands, without the folders of its file; its number in the split where that is not known.

    >>> placed("/data/reviews.csv:12", 3), placed("dev row 3", 2), placed("", 3)
    ('reviews.csv:12', 'dev row 3', 'row 3 of the split')
    """
    name = re.split(r"[/\\]", place)[-1] if re.search(r":\d+$", place) else place
    return name or f"row {row} of the split"


def answer(value: Any) -> str:  # noqa: ANN401
    """Write a label or an answer of any task: a class, classes, a number, tags or spans."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list) and value and all(isinstance(tag, str) and re.match(r"O$|[BI]-", tag) for tag in value):
        return _entities(value)
    nested = nested_spans(value)
    if value and nested is not None:
        return _written(nested)
    if isinstance(value, list):
        return ", ".join(isolated(answer(part)) for part in value) or "none"
    if isinstance(value, dict):
        return " ".join(answer(part) for part in value.values())
    return "none" if value is None else str(value)


def tag_spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return the spans of the BIO tags of a row's words: label, first and last word, counted from 1."""
    spans: list[tuple[str, int, int]] = []
    for place, tag in enumerate(tags, start=1):
        label = tag[2:]
        if tag.startswith("I-") and spans and spans[-1][0] == label and spans[-1][2] == place - 1:
            spans[-1] = (label, spans[-1][1], place)
        elif label:
            spans.append((label, place, place))
    return spans


def nested_spans(value: Any) -> list[tuple[str, int, int]] | None:  # noqa: ANN401
    """Return spans that may be nested, of a text a word with its words and label for each; None for anything else."""
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        return None
    lines = [(place, line) for place, text in enumerate(value, start=1) for line in text.split("\n") if line]
    found = [(place, re.fullmatch(r"([1-9]\d*)\t(.+)", line)) for place, line in lines]
    spans = [(match[2], place, place + int(match[1]) - 1) for place, match in found if match]
    fit = len(spans) == len(lines) and all(last <= len(value) for _, _, last in spans)
    return spans if fit else None


def _entities(tags: Sequence[str]) -> str:
    return _written(tag_spans(tags))


def _written(spans: Sequence[tuple[str, int, int]]) -> str:
    written = (f"{label} {first}" if first == last else f"{label} {first}\u2013{last}" for label, first, last in spans)
    return ", ".join(written) or "none"
