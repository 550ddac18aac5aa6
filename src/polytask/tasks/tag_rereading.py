"""Conversion of tags of any scheme to BIO, once the tags of the whole file are known."""

from __future__ import annotations

from collections.abc import Collection

from polytask.tasks.label_stats import BadLabel, LabelStats, Rereading
from polytask.tasks.tag_scheme import TagScheme, resembles_entities

# Notes on plain tags that might be meant as entities.
PLAIN = (
    "the tags are plain, and scored word by word; if they mark entities, write them as BIO (B-PER, I-PER, O); if not, "
    "set `scheme: plain`"
)
NUMBERS = (
    "the tags are numbers, and scored word by word; if they stand for names that the file lacks (Hugging Face's "
    "class numbers, such as ner_tags), write the names, such as B-PER; if not, set `scheme: plain`"
)
BRACKETS = (
    "the tags mark entities with brackets, as in CoNLL-2012, and are scored word by word; write them as BIO: B-PERSON "
    "for (PERSON*, I-PERSON for the following words up to *), B-GPE for (GPE), and O for other words"
)


def remark_on_plain(tags: Collection[str]) -> str:
    """Return a note on plain tags that may be meant as entities; "" for others."""
    if any(map(resembles_entities, tags)):
        return PLAIN
    if tags and all(tag.isdecimal() for tag in tags):
        return NUMBERS
    bracketed = "*" in tags and all(tag[-1] in ")*" for tag in tags)
    return BRACKETS if bracketed and any(tag[0] == "(" for tag in tags) else ""


class ReadAsBio(Rereading):
    """Converts tags of any scheme to BIO."""

    def __init__(self, scheme: TagScheme, *, strict: bool) -> None:
        self._scheme = scheme
        self._strict = strict
        self._orphans, self._orphan_at, self._begins, self._small = 0, "", 0, 0

    def read(self, label: list[str], place: str) -> list[str]:
        reading = self._scheme.read(label)
        if reading.orphans:
            self._orphans, self._orphan_at = self._orphans + reading.orphans, self._orphan_at or place
        self._begins += reading.begins
        self._small += label.count("o")
        return reading.tags

    def finish(self, stats: LabelStats) -> None:
        # In IOB1 an entity begins with I-, and with B- only right after another one of its type.
        iob1 = bool(self._orphans) and not self._begins and self._scheme.name == "BIO"
        if not iob1:
            stats.repaired, stats.repaired_at = self._orphans, self._orphan_at
        if self._strict and stats.repaired:
            raise BadLabel(
                self._orphan_at, "an I- tag continues no entity; begin the entity with B-, or leave out `strict`"
            )
        stats.scheme = self._scheme.describe("IOB1" if iob1 else self._scheme.name)
        if self._small:
            stats.scheme = f"{stats.scheme}{'; ' if stats.scheme else ''}the tag o ({self._small} words) is read as O"


def odd_tags(scheme: TagScheme, expected: str, stats: LabelStats) -> str:
    """Return a message about the tags that do not fit the others, and how to fix them."""
    first, *others = scheme.odd
    fitting = next((tag for tag in stats.labels if scheme.style.split(tag)), None)
    more = ", ".join(f"{tag!r} at {stats.places.get(tag, '')}" for tag in others[:5])
    others_note = f"; so are {more}" + (f" and {len(others) - 5} more" if len(others) > 5 else "") if others else ""
    if fitting is None:
        accepted = "O, B-x and I-x (also written as BIOES, BILOU or IOB1)"
        return f"found the tag {first!r}; scheme {expected} accepts {accepted}{others_note}"
    return (
        f"found the tag {first!r} ({stats.labels[first]} of {stats.labels.total()} words), which does not fit the "
        f"others: they are {scheme.name}, such as {fitting!r}; write it as they are (or O), or set `scheme: plain` to "
        f"score every tag word by word{others_note}"
    )
