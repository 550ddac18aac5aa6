"""Spans in scripts without spaces that may lack their last character.

Where each character is a word, an end that includes the last character cuts no word, so nothing else shows it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from polytask.data.data_warnings import Finding
from polytask.data.rows import DataTable
from polytask.tasks import TASKS
from polytask.tasks.bio import Span
from polytask.tasks.bio import spans as flat_spans
from polytask.tasks.nested import spans_of as nested_spans
from polytask.terms import Split

# Of the entities of Weibo 20 % end before punctuation or with the text, and with ends that include the last character
# none does. A few may have been annotated otherwise.
_FEWEST, _MOST_PAUSES = 50, 0.02
# So many rows tell enough, whatever the size of the file.
_MOST_ROWS = 5000
# Fewer different entities may all be followed by the same words, as in templates; so may many, by one character.
_FEWEST_DIFFERENT, _MOST_ALIKE = 20, 0.5
_TEXT = (
    "{count} spans end before punctuation, a space or the end of their text, the first at {first}, where about a fifth "
    "do in most texts: the last character of each may be missing; if the ends in the file include the last character, "
    "add 1 to all of them"
)
# Brackets and quotes that close, which may belong to an entity.
_CLOSING = ("Pe", "Pf")


@dataclass
class _Ends:
    """What follows the spans of a task.

    Attributes:
        inside: number of spans that are followed by a letter, without a space, in a script without spaces.
        pauses: number of those that end where a text would pause.
        after: the next character of each different entity.
        first: place of the first span.
    """

    inside: int = 0
    pauses: int = 0
    after: dict[str, str] = field(default_factory=dict[str, str])
    first: str = ""

    @property
    def may_pause(self) -> bool:
        """Whether too many spans end at a pause for all of them to lack a character."""
        return self.pauses > _MOST_PAUSES * max(_FEWEST, self.inside + self.pauses)

    @property
    def are_short(self) -> bool:
        """Whether the spans seem to lack their last character."""
        if self.may_pause or self.inside < _FEWEST or len(self.after) < _FEWEST_DIFFERENT:
            return False
        return max(Counter(self.after.values()).values()) <= _MOST_ALIKE * len(self.after)

    def add(self, place: str, entity: str, after: str) -> None:
        """Add a span: its text, and the character after it, "" at the end of the text."""
        following = unicodedata.category(after) if after else ""
        if following == "Lo":
            self.inside += 1
            self.after.setdefault(entity, after)
        elif not following or (following[0] in "PZSC" and following not in _CLOSING):
            self.pauses += 1
        else:
            return
        self.first = self.first or place


def short_spans(split: Split, table: DataTable) -> Iterator[Finding]:
    """Yield findings of tasks whose spans hardly ever end where a text would pause."""
    for name, options in table.feed.tasks.items():
        kind = TASKS.of(options)
        if kind.level == "word" and kind.label_type == "list<string>":
            ends = _ends(table, name, nested=options.type == "spans")
            if ends.are_short:
                yield Finding(split, name, _TEXT, f"{ends.pauses} of {ends.inside + ends.pauses}", ends.first)


def _ends(table: DataTable, task: str, *, nested: bool) -> _Ends:
    found = _Ends()
    columns = table.rows.data.select(["place", "text", "starts", "ends", f"label.{task}"])
    for batch in columns.slice(0, _MOST_ROWS).to_batches():
        for place, text, starts, ends, labels in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            for span in _spans(labels or [], nested=nested):
                last, end = starts[span.end - 1], ends[span.end - 1]
                if end - last > 1 and not text[last:end].isdecimal():
                    continue  # a span that ends within a word was widened to it
                found.add(place, text[starts[span.first] : end], text[end : end + 1])
            if found.may_pause and found.pauses >= _FEWEST:
                return found
    return found


def _spans(labels: list[str], *, nested: bool) -> list[Span]:
    return nested_spans(labels) if nested else flat_spans(labels)
