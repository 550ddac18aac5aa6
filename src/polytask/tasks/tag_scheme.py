"""Tag schemes of files (BIO, IOB1, BIOES, BILOU, BMES, `B_PER`, `PER-B`, untyped) and their conversion to BIO.

A single tag does not show whether it marks an entity: `S-ADJ` may be a part of speech. All tags of a file do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

# The position of a mark's word in its entity. M is the I of BMES; L and U are the E and S of BILOU.
_ROLES = {"B": "begin", "I": "inside", "M": "inside", "E": "end", "L": "end", "S": "single", "U": "single"}
_OUTSIDE = frozenset({"O", "o"})
_SEPARATORS = "-_:/"
# A second tag of the same word, as in `B-PER|B-LOC`, which is not part of a type.
_ANOTHER_TAG = re.compile(r"[|,;&+\s]\s*[BIMELSU][-_:/]\w")
# Other kinds of dashes, as word processors write them.
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"))
# The label of entities without a type (tags B, I and O).
UNTYPED = "ENTITY"


@dataclass(frozen=True)
class Style:
    """How a tag is written: `B-PER`, `B_PER`, `PER-B`, or `B` alone.

    Attributes:
        separator: text between mark and type; empty if tags have no type.
        mark_first: whether the mark comes before the type.
    """

    separator: str
    mark_first: bool = True

    def split(self, tag: str) -> tuple[str, str] | None:
        """Return a tag's mark and type, or None if it is not written in this style.

        >>> Style("_").split("B_PER"), Style("-", mark_first=False).split("PER-B"), Style("-").split("NOUN")
        (('B', 'PER'), ('B', 'PER'), None)
        """
        if not self.separator:
            return (tag, UNTYPED) if tag in _ROLES else None
        mark, separator, label = (
            tag.partition(self.separator) if self.mark_first else reversed(tag.rpartition(self.separator))
        )
        # Lower-case marks are only recognized in front, where they cannot be confused with words of a tagset.
        mark = mark.upper() if self.mark_first else mark
        valid = separator and label and mark in _ROLES and _ANOTHER_TAG.search(label) is None
        return (mark, label) if valid else None

    def write(self, mark: str, label: str) -> str:
        """Return a tag in this style."""
        if not self.separator:
            return mark
        return self.separator.join((mark, label) if self.mark_first else (label, mark))


_STYLES = (
    *(Style(separator) for separator in _SEPARATORS),
    *(Style(separator, mark_first=False) for separator in _SEPARATORS),
    Style(""),
)


def resembles_entities(tag: str) -> bool:
    """Whether a tag may be a BIO tag, in any Unicode form of its characters.

    >>> resembles_entities("\uff22\uff0dPER"), resembles_entities("B\u2013PER"), resembles_entities("NOUN")
    (True, True, False)
    """
    plain = unicodedata.normalize("NFKC", tag).translate(_DASHES)
    return plain == "O" or plain[:2] in ("B-", "I-")


@dataclass(frozen=True)
class TagScheme:
    """The scheme of a file's tags.

    Attributes:
        marks: marks that occur.
        odd: tags that do not fit the scheme, the most frequent first.
    """

    style: Style
    marks: frozenset[str]
    odd: tuple[str, ...]

    @property
    def name(self) -> str:
        """The scheme's usual name."""
        names = {"L": "BILOU", "U": "BILOU", "M": "BMES", "E": "BIOES", "S": "BIOES"}
        return next((name for mark, name in names.items() if mark in self.marks), "BIO")

    def describe(self, name: str) -> str:
        """Describe how tags are written and read; "" if they are plain BIO.

        Args:
            name: name of the scheme.
        """
        written = self.style.write(next((mark for mark in "SUEMBI" if mark in self.marks), "B"), "x")
        if name == "BIO" and self.style == Style("-"):
            return ""
        untyped = "" if self.style.separator else f" of the type {UNTYPED}"
        return f"the tags are {name}, written as {written}; they are read as BIO{untyped}, and scored by entity"

    def read(self, tags: Sequence[str]) -> TagReading:
        """Return the BIO tags of a sentence whose tags all fit.

        >>> TagScheme(Style("-"), frozenset("BES"), ()).read(["S-ORG", "O", "B-PER", "E-PER"]).tags
        ['B-ORG', 'O', 'B-PER', 'I-PER']
        """
        converted: list[str] = []
        # The type of the entity that the next word may continue, and that of the previous word's entity.
        opened = before = None
        orphans = begins = 0
        for tag in tags:
            if tag in _OUTSIDE:
                converted.append("O")
                opened = before = None
                continue
            parts = self.style.split(tag)
            assert parts is not None
            role, label = _ROLES[parts[0]], parts[1]
            inside = role in ("inside", "end")
            continues = inside and opened == label
            orphans += inside and not continues
            begins += not inside and before != label
            converted.append(f"I-{label}" if continues else f"B-{label}")
            opened, before = (label if role in ("begin", "inside") else None), label
        return TagReading(converted, orphans, begins)


@dataclass(frozen=True)
class TagReading:
    """A sentence's tags in BIO.

    Attributes:
        orphans: inside or end marks that continue no entity of their type; they are read as its beginning.
        begins: beginnings that are not right after an entity of their type; IOB1 has none.
    """

    tags: list[str]
    orphans: int
    begins: int


def find_scheme(counts: Mapping[str, int], *, entities: bool = False) -> TagScheme | None:
    """Return the scheme of a file's tags; None if they are plain.

    A single tag that does not fit does not make the others plain: it is returned in `odd`.

    Args:
        counts: number of occurrences of each tag.
        entities: whether the tags are known to mark entities; otherwise they have to look like entity tags.

    >>> find_scheme({"S-PER": 1, "O": 5}).name, find_scheme({"NOUN": 1, "VERB": 2})
    ('BIOES', None)
    """
    tags = [tag for tag in counts if tag not in _OUTSIDE]
    best, most = None, -1
    for scheme in _schemes(tags, counts):
        words = sum(counts[tag] for tag in tags) - sum(counts[tag] for tag in scheme.odd)
        # The style that fits most words; ties go to the first.
        if words > most and (entities or _looks_like_entities(scheme, tags, counts)):
            best, most = scheme, words
    return best


def _schemes(tags: Sequence[str], counts: Mapping[str, int]) -> Iterator[TagScheme]:
    for style in _STYLES:
        parts = {tag: style.split(tag) for tag in tags}
        marks = frozenset(part[0] for part in parts.values() if part is not None)
        odd = sorted((tag for tag, part in parts.items() if part is None), key=lambda tag: (-counts[tag], tag))
        yield TagScheme(style, marks, tuple(odd))


def _looks_like_entities(scheme: TagScheme, tags: Sequence[str], counts: Mapping[str, int]) -> bool:
    outside = not _OUTSIDE.isdisjoint(counts)
    common = scheme.style.separator and scheme.style.mark_first
    if not scheme.marks & (frozenset("BI") if common else frozenset("B")) and not (
        outside and scheme.marks & frozenset("SU")
    ):
        return False
    if not scheme.odd:
        return True
    fitting = len(tags) - len(scheme.odd)
    words = sum(counts[tag] for tag in tags)
    # Entities are surrounded by words outside of them (O); a plain tagset has a tag for every word.
    return outside and (fitting >= len(scheme.odd) or 2 * sum(counts[tag] for tag in scheme.odd) <= words)
