"""Base class of results: one line as text, a table in a notebook, and a pandas DataFrame on request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sized
from html import escape
from typing import TYPE_CHECKING, Any

from polytask.errors import MissingExtra
from polytask.terms import Intervals, Scores

if TYPE_CHECKING:
    from pandas import DataFrame

# Maximum numbers of names and rows to show; further ones are only counted.
_NAMES = 5
_ROWS = 200


class Result(ABC):
    """Return value of a function that is made for people to look at."""

    @abstractmethod
    def summary(self) -> str:
        """Return a short description of less than a line."""

    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """Return the rows of the table, with one value per column."""

    def to_pandas(self) -> DataFrame:
        """Return the table as a DataFrame. Raises MissingExtra without pandas."""
        try:
            from pandas import DataFrame
        except ModuleNotFoundError as error:
            raise MissingExtra(str(error.name), "train", "to_pandas") from None
        return DataFrame(self.records())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.summary()}>"

    def _repr_html_(self) -> str:
        return html_table(self.records(), repr(self)[1:-1])


def html_table(records: list[dict[str, Any]], caption: str) -> str:
    """Return a table as HTML with escaped content; rows after the first 200 are only counted."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(_cell(record.get(name)) for name in columns) + "</tr>" for record in records[:_ROWS]
    )
    more = len(records) - _ROWS
    foot = f'<tr><td colspan="{len(columns)}">{more:,} more rows: to_pandas()</td></tr>' if more > 0 else ""
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}{foot}</tbody></table>"
    )


def _cell(value: Any) -> str:  # noqa: ANN401
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if number else str(value)
    tag = '<td align="right">' if number else "<td>"
    return f"{tag}{'' if value is None else escape(text)}</td>"


def listed(names: Iterable[str]) -> str:
    """Join names with commas; shorten long lists to the first names and a count.

    >>> listed("abc"), listed("abcdefgh")
    ('a, b, c', 'a, b, c, d, e and 3 more')
    """
    all_names = list(names)
    more = len(all_names) - _NAMES
    return ", ".join(all_names[:_NAMES]) + (f" and {more} more" if more > 0 else "")


def note_count(notes: Sized) -> str:
    """Return the number of notes in words.

    >>> note_count([]), note_count(["a"]), note_count(["a", "b"])
    ('no notes', '1 note', '2 notes')
    """
    count = len(notes)
    return "no notes" if not count else f"{count} note{'s' if count > 1 else ''}"


def score_records(
    scores: Mapping[str, Scores],
    intervals: Mapping[str, Intervals] | None = None,
    baselines: Mapping[str, Scores] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a record for each score, with its 95 % interval and the score of the majority baseline.

    Args:
        scores, intervals, baselines: values by split.
    """
    for split, by_task in scores.items():
        for task, by_metric in by_task.items():
            for metric, value in by_metric.items():
                low, high = ((intervals or {}).get(split, {}).get(task, {}).get(metric)) or (None, None)
                majority = (baselines or {}).get(split, {}).get(task, {}).get(metric)
                yield {
                    "split": split, "task": task, "metric": metric, "score": value, "low": low, "high": high,
                    "majority": majority,
                }  # fmt: skip


def brief_scores(scores: Scores, metrics: Mapping[str, str]) -> str:
    """Return each task's main score in one line; undefined scores are marked as such.

    >>> brief_scores({"a": {"f1": 0.5}, "b": {"f1": None}}, {"a": "f1", "b": "f1"})
    'a f1 0.5000, b f1 undefined'
    """

    def main_score(task: str) -> str:
        metric = metrics.get(task) or next(iter(scores[task]), "score")
        value = scores[task].get(metric)
        return f"{task} {metric} {'undefined' if value is None else f'{value:.4f}'}"

    return listed(main_score(task) for task in scores)
