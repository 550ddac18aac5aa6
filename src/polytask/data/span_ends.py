"""Spans in scripts without spaces that may lack their last character.

Where each character is a word, an end that includes the last character cuts no word, so nothing else shows it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

from polytask.data.data_warnings import Finding
from polytask.data.rows import DataTable
from polytask.tasks import TASKS
from polytask.tasks.bio import Span
from polytask.tasks.bio import spans as flat_spans
from polytask.tasks.nested import spans_of as nested_spans
from polytask.terms import Split

# Of the entities of Weibo 20 % end before punctuation or with the text; so many that never do are no chance.
_FEWEST = 50
_TEXT = (
    "none of the {count} spans ends before punctuation, a space or the end of its text, the first at {first}: the last "
    "character of each may be missing; if the ends in the file include the last character, add 1 to all of them"
)


def short_spans(split: Split, table: DataTable) -> Iterator[Finding]:
    """Yield findings of tasks none of whose spans ends where a text would pause."""
    for name, options in table.feed.tasks.items():
        kind = TASKS.of(options)
        if kind.level == "word" and kind.label_type == "list<string>":
            found = _count_inside(table, name, nested=options.type == "spans")
            if found is not None and found[0] >= _FEWEST:
                yield Finding(split, name, _TEXT, str(found[0]), found[1])


def _count_inside(table: DataTable, task: str, *, nested: bool) -> tuple[int, str] | None:
    """Return the number of spans and the place of the first; None if one of them ends where a text would pause."""
    count, first = 0, ""
    for batch in table.rows.data.select(["place", "text", "starts", "ends", f"label.{task}"]).to_batches():
        for place, text, starts, ends, labels in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            for span in _spans(labels or [], nested=nested):
                if not _is_inside(text, starts, ends, span):
                    return None
                count, first = count + 1, first or place
    return count, first


def _spans(labels: list[str], *, nested: bool) -> Iterable[Span]:
    return nested_spans(labels) if nested else flat_spans(labels)


def _is_inside(text: str, starts: list[int], ends: list[int], span: Span) -> bool:
    """Whether a span's last word and the next one are characters of one run of letters, in a script without spaces."""
    if span.end >= len(starts) or starts[span.end] != ends[span.end - 1]:
        return False
    last, after = (text[starts[word] : ends[word]] for word in (span.end - 1, span.end))
    return len(last) == len(after) == 1 and all(unicodedata.category(one)[0] in "LN" for one in (last, after))
