"""A result: one line as text, a table in a notebook, and a DataFrame of pandas where that is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from polytask.errors import MissingExtra
from polytask.terms import Intervals, Scores

if TYPE_CHECKING:
    from pandas import DataFrame

# Names and rows that are shown; the others are counted.
_NAMES = 5
_ROWS = 200


class Result(ABC):
    """What a function returns for people to look at."""

    @abstractmethod
    def summary(self) -> str:
        """Return what it is, in half a line."""

    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """Return the rows of its table, one value a column."""

    def to_pandas(self) -> DataFrame:
        """Return its table. Raises MissingExtra without pandas."""
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
    """Return a table as HTML, everything in it escaped; after 200 rows it says how many there are more."""
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
    """Return names with commas; of many the first ones, and how many more there are.

    >>> listed("abc"), listed("abcdefgh")
    ('a, b, c', 'a, b, c, d, e and 3 more')
    """
    found = list(names)
    more = len(found) - _NAMES
    return ", ".join(found[:_NAMES]) + (f" and {more} more" if more > 0 else "")


def score_records(
    scores: Mapping[str, Scores],
    intervals: Mapping[str, Intervals] | None = None,
    baselines: Mapping[str, Scores] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each score: where it is of, its 95 % interval, and the majority baseline's.

    Args:
        scores, intervals, baselines: by split.
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
    """Return each task's main score in one line; what is undefined is called so.

    >>> brief_scores({"a": {"f1": 0.5}, "b": {"f1": None}}, {"a": "f1", "b": "f1"})
    'a f1 0.5000, b f1 undefined'
    """

    def one(task: str) -> str:
        metric = metrics.get(task) or next(iter(scores[task]), "score")
        value = scores[task].get(metric)
        return f"{task} {metric} {'undefined' if value is None else f'{value:.4f}'}"

    return listed(one(task) for task in scores)
