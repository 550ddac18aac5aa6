"""Decides whether a column holds labels, and of which kind."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from polytask.data.data_warnings import SAYS_NOTHING, few
from polytask.init.column import Column
from polytask.tasks.cells import choices_in, parts_of
from polytask.tasks.joined_labels import (
    ALL_SEPARATORS,
    COMPOUND,
    IN_NAMES,
    joined_labels_notes,
    joined_parts,
    trade_places,
)
from polytask.tasks.labels import cell_text, number_in
from polytask.tasks.ordinal import level_text

# Names of ratings on a scale, and names of quantities that are measured or counted.
_SCALE = re.compile(
    r".*(score|rating|stars?|grade|points?|overall|severity|priority"
    r"|评分|打分|得分|分数|星级|星数|评级|等级|評分|分數|星級|点数|評価"
    r"|bewertung|sterne|punkte|^noten?$|puntuaci|estrellas|puntaje|calificaci|etoiles|étoiles|voto|valutazione).*"
)
_QUANTITY = re.compile(
    r".*(age|price|likes?|count|intensity|similarity|年龄|价格|点赞|强度|相似度|preis|stärke|precio|prix|prezzo).*"
)
# Maximum number of levels of a scale: 0 to 10.
_MOST_LEVELS = 11
# Maximum number of classes, and the least number of rows per class in large and in small tables.
_MOST_CLASSES = 200
_ROWS_OF_CLASS, _ROWS_OF_CLASS_IN_SMALL = 5, 2
_SMALL = 100
_MOST_GRADES = 20
# Stands for a missing label in many public data sets.
_MARK = "-1"
_PLAIN_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?")
_NUMBER_IN = re.compile(r"(\D{0,4})(\d+(?:[.,]\d+)?)((?:\s*/\s*\d+)?\D{0,12})")
# Currencies that are written with letters before a number.
_CURRENCIES = frozenset(
    {
        "usd", "eur", "gbp", "chf", "jpy", "cny", "rmb", "inr", "krw", "brl", "cad", "aud", "nzd", "hkd", "sgd", "twd",
        "sek", "nok", "dkk", "pln", "czk", "huf", "try", "zar", "mxn", "rub", "ils", "thb", "us$", "r$", "a$", "c$",
        "ca$", "au$", "nz$", "hk$", "nt$", "s$", "mx$", "rs", "kr", "fr", "rp", "rm", "zł", "kč", "ft",
    }
)  # fmt: skip
# In a column of numbers: most rows with words for no label, and with anything else.
_MOST_UNLABELLED, _MOST_ODD = 0.5, 0.1
# With at least this share of one class, accuracy says little.
_LOPSIDED = 0.8


@dataclass(frozen=True)
class Labels:
    """A column of labels.

    Attributes:
        head: options that come first: the type of the task.
        options: options for reading the column.
        why: a comment with the reason.
    """

    head: dict[str, Any]
    options: dict[str, Any]
    why: str


def judge_label(column: Column) -> Labels | str:
    """Return the labels in a column, or the reason why it is left out."""
    return (
        _nothing_to_learn(column)
        or _soft(column)
        or _lists(column)
        or _classes_or_numbers(column)
        or _joined(column)
        or _words(column)
    )


def _nothing_to_learn(column: Column) -> str:
    filled = len(column.values)
    if not filled:
        return "empty in every row"
    if filled < 0.02 * column.rows and filled < 50:
        return f"almost empty: {filled} of {column.rows} rows hold something"
    if column.distinct == 1:
        if filled < column.rows:
            return f"the same in each of the {filled} rows that hold something: {_shown(column.values[0])}"
        return f"the same in every row: {_shown(column.values[0])}"
    if column.is_dates:
        return "dates or times"
    if column.is_addresses:
        return "addresses or keys"
    if column.may_have_thousands:
        return (
            "numbers whose commas all precede three digits: thousands separators or decimal commas; remove them, "
            'or write a task with `decimal: ","` next to the paths'
        )
    numbers = column.numbers
    unique = column.distinct > 0.9 * filled and filled > 2
    if unique and column.is_called_identifier and (column.is_whole or numbers is None) and column.mean_words <= 3:
        return "an identifier: its values name the rows"
    if column.counts_rows:
        return "an identifier: it numbers the rows"
    return ""


def _soft(column: Column) -> Labels | str:
    """Return classes for soft labels; "" for other cells."""
    soft = column.distributions
    if soft is None:
        return ""
    names = {name for shares in soft for name in shares}
    if len(names) > _MOST_CLASSES:
        return f"objects with probabilities of {len(names)} labels, too many to be classes"
    means = {name: sum(shares.get(name, 0.0) for shares in soft) / len(soft) for name in sorted(names)}
    order = sorted(means, key=lambda name: -means[name])
    why = f"soft labels, the probabilities of {len(means)} classes, which add up to 1 in every row; their means: "
    why += few([f"{name[:40]} {100 * means[name]:.1f} %" for name in order])
    if column.holds_objects_of_labels:
        why += f"; to predict one of them as a number: `type: regression`, `label: {column.name}.{order[0]}`"
    return Labels({"type": "classification"}, {"label": column.name}, why)


def _lists(column: Column) -> Labels | str:
    """Return multi-label options for lists of labels; "" if the cells are not lists."""
    lists = column.label_lists
    if lists is None:
        mixed = any(isinstance(value, list | dict) for value in column.values)
        return "its cells are of several kinds: lists or objects among others" if mixed else ""
    items = [item for items in lists for item in items]
    if not items:
        return "every list is empty"
    if not all(isinstance(item, str) for item in items):
        return "lists of numbers or objects" if isinstance(column.values[0], list) else "lists that hold no texts"
    if all(len(items) == 1 for items in lists) and not column.writes_lists:
        return _words(replace(column, values=items))
    options = _separator_of_lists(column, lists)
    if not options:
        pairs = zip(column.values, lists, strict=True)
        lists = [parts_of(value, ",") if items == [value] else items for value, items in pairs]
    counts = Counter(label for items in lists for label in dict.fromkeys(item.strip() for item in items))
    if len(counts) > _MOST_CLASSES or 2 * len(counts) > len(items):
        return f"lists of {len(counts)} different values, too many to be labels"
    return _several(column, counts, options, _number_per_row(column, lists))


def _number_per_row(column: Column, lists: Sequence[Sequence[Any]]) -> tuple[str, str]:
    """Return how many labels a row has, and advice if it never has several."""
    if max(map(len, lists)) > 1:
        return "several labels per row", ""
    advice = "written without brackets, they are classes: `type: classification`"
    if min(map(len, lists)) == 1:
        return "one label per row", f"; {advice}"
    if not column.writes_lists:
        advice = "if such rows are not labelled, use `type: classification`"
    return "at most one label per row", f"; an empty list means none of them: {advice}"


def _separator_of_lists(column: Column, lists: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return the separator of texts next to lists of labels, if some of them are one label that has a comma.

    Next to objects of choices each text is one label; next to lists, if not all of its parts are labels elsewhere.
    """
    alone = [value for value, items in zip(column.values, lists, strict=True) if items == [value]]
    with_comma = [value for value in alone if "," in value]
    listed = {
        item.strip() for value, items in zip(column.values, lists, strict=True) if items != [value] for item in items
    }
    known = listed.union(value.strip() for value in alone if "," not in value)
    joined = all(value.strip() not in listed and known.issuperset(parts_of(value, ",")) for value in with_comma)
    if not with_comma or (joined and not any(choices_in(value) for value in column.values)):
        return {}
    return {"separator": next((mark for mark in ";|" if not any(mark in value for value in alone)), "\n")}


def _several(
    column: Column,
    counts: Counter[str],
    options: dict[str, Any],
    number: tuple[str, str] = ("several labels per row", ""),
) -> Labels | str:
    """Return multi-label options.

    Args:
        number: how many labels a row has, and advice.
    """
    if len(counts) < 2:
        return "one label at most, in lists"
    why = f"{number[0]}, {len(counts)} in all: {_shares(counts, len(column.values))}{number[1]}"
    return Labels({"type": "multilabel"}, {"label": column.name, **options}, why)


def _classes_or_numbers(column: Column) -> Labels | str:
    """Return classes for few whole numbers and truth values, a regression for other numbers; "" for text."""
    if column.labels is not None and all(isinstance(value, bool) for value in column.values):
        return _classification(column)
    stats = column.numbers
    if stats is None:
        return ""
    name = column.name.lower()
    scale = _SCALE.fullmatch(name) is not None
    rating = scale or _QUANTITY.fullmatch(name) is not None
    if scale and column.is_whole and 2 < column.distinct <= _MOST_LEVELS and stats.high - stats.low < _MOST_LEVELS:
        return _levels(column)
    few_values = column.distinct <= 2 or (column.distinct <= _MOST_GRADES and not rating and _is_dense(column))
    if column.is_whole and few_values:
        return _classification(column)
    if column.is_called_identifier and column.is_whole:
        return "an identifier, by its name"
    why = f"numbers from {stats.low:g} to {stats.high:g}"
    if column.has_decimal_comma:
        why += ", with a decimal comma"
        if isinstance(_joined(column), Labels):
            why += "; if they are several labels separated by commas, use `type: multilabel`"
    if column.distinct <= _MOST_GRADES:
        why += (
            f"; if these are the ends of the scale, add `range: [{stats.low:g}, {stats.high:g}]` to limit predictions; "
            "with `type: ordinal` they are ordered levels, with `type: classification` unordered classes"
        )
    return Labels({"type": "regression"}, {"label": column.name}, why)


def _without_mark(counts: Counter[str]) -> tuple[Counter[str], dict[str, Any], str]:
    """Leave out -1 if it can only mean that a label is missing: no other number is below 0, and one is above 1.

    Returns the counts of labels, options of the task, and a comment.
    """
    marked = sum(count for label, count in counts.items() if cell_text(label) == _MARK)
    rest = Counter({label: count for label, count in counts.items() if cell_text(label) != _MARK})
    numbers = [number for label in rest if (number := number_in(label)) is not None]
    if not marked or not numbers or min(numbers) < 0 or max(numbers) <= 1:
        return counts, {}, ""
    return rest, {"unlabelled": [_MARK]}, f"; the {marked} rows with {_MARK} are taken for rows without a label"


def _levels(column: Column) -> Labels:
    """Return ordered levels for a rating with few whole numbers."""
    counts, options, left_out = _without_mark(Counter(map(level_text, column.spelled)))
    levels = sorted(counts, key=float)
    scale = list(range(int(levels[0]), int(levels[-1]) + 1))
    missing = ", ".join(str(level) for level in scale if f"{level}" not in counts)
    gap = f"; no row has {missing}" if missing else ""
    why = (
        f"{len(scale)} ordered levels, {levels[0]} to {levels[-1]}: {_shares(counts, len(column.values))}{gap}; for "
        f"predictions with decimals use `type: regression` with `range: [{levels[0]}, {levels[-1]}]`, and for "
        "classes without an order `type: classification`"
    )
    options |= {"levels": scale} if missing else {}
    return Labels({"type": "ordinal"}, {"label": column.name, **options}, why + left_out)


def _is_dense(column: Column) -> bool:
    """Whether the values are frequent enough to be classes."""
    filled = len(column.values)
    return filled >= column.distinct * (_ROWS_OF_CLASS if filled >= _SMALL else _ROWS_OF_CLASS_IN_SMALL)


def _classification(column: Column) -> Labels:
    counts, options, left_out = column.labels or Counter[str](), dict[str, Any](), ""
    if column.is_whole:
        counts, options, left_out = _without_mark(counts)
    most = max(counts.values()) / counts.total()
    lopsided = ""
    if most >= _LOPSIDED and len(counts) == 2:
        rare = min(counts, key=lambda label: counts[label])
        options |= {"positive": rare, "metric": "f1", "threshold": "tuned"}
        lopsided = f"; accuracy would say little, so f1 of {_shown(rare)!r} is the main metric"
    elif most >= _LOPSIDED:
        options |= {"metric": "macro_f1"}
        lopsided = "; accuracy would say little, so macro_f1 is the main metric"
    why = f"{len(counts)} classes: {_shares(counts, counts.total())}{lopsided}{left_out}"
    why += "".join(f"; {note}" for note in joined_labels_notes(counts))
    single = [label for label, count in counts.items() if count == 1]
    if single and counts.total() >= _SMALL:
        why += f"; found only once: {few([repr(_shown(label)) for label in single])}: mistakes, or a line of totals?"
    why += _as_number(counts)
    if column.is_whole and len(counts) > 2:
        why += "; if the numbers are ordered, like ratings, use `type: ordinal`"
    return Labels({"type": "classification"}, {"label": column.name, **options}, why)


def _as_number(labels: Iterable[str]) -> str:
    """Return a comment if the labels are numbers with something else, such as 4/5, 4 stars or 30 %; otherwise ""."""
    parts = [_NUMBER_IN.fullmatch(label.strip()) for label in labels]
    if len(parts) > 2 and all(parts):
        around = {(part[1].strip(), part[3].strip().removesuffix("s")) for part in parts if part}
        if len(around) == 1 and around != {("", "")} and not _is_name(around.pop()[0]):
            return "; these are numbers with a unit: to predict numbers or ordered levels, write only the numbers"
    if len(parts) > 2 and len({character for label in labels for character in label.strip()}) == 1:
        return "; these are levels drawn by their length: write numbers, and use `type: ordinal`"
    return ""


def _is_name(prefix: str) -> bool:
    """Whether the text before a number names a class (cls3), since it has letters and is no currency."""
    return any(map(str.isalpha, prefix)) and prefix.strip(" .").casefold() not in _CURRENCIES


def _joined(column: Column) -> Labels | str:
    """Return multi-label options for labels joined by a separator; "" if the cells are single labels."""
    for separator in ALL_SEPARATORS:
        cells = [parts_of(text, separator) for text in column.texts]
        if separator in IN_NAMES and any(
            cell != joined_parts(text, separator) for cell, text in zip(cells, column.texts, strict=True)
        ):
            continue  # C# and A+ would lose a character
        if cells and _are_labels(cells, separator):
            counts = Counter(part for parts in cells for part in dict.fromkeys(parts))
            options = {} if separator == "," else {"separator": separator}
            advice = f"; if {separator!r} is part of the names, use `type: classification`"
            number = "several labels per row", advice if separator in IN_NAMES else ""
            return _several(column, counts, options, number)
    return ""


def _are_labels(cells: Sequence[Sequence[str]], separator: str) -> bool:
    """Whether the parts of cells are labels: few, short, and combined in different ways.

    If the separator may be one between the words of a name, there have to be several combinations, and all of their
    parts have to occur in others too; otherwise half of them.
    """
    sizes = {len(parts) for parts in cells}
    if 0 in sizes or sizes == {1} or (len(sizes) == 1 and not trade_places(cells, separator)):
        return False
    parts = Counter(part for listed in cells for part in listed)
    if len(parts) > _MOST_CLASSES or sum(parts.values()) < 2 * len(parts) or max(map(len, parts)) > 50:
        return False
    company: dict[str, set[tuple[str, ...]]] = {}
    for listed in cells:
        for part in listed:
            company.setdefault(part, set()).add(tuple(sorted(listed)))
    combinations = {tuple(sorted(listed)) for listed in cells if len(listed) > 1}
    joined = {part for listed in combinations for part in listed}
    combined = sum(len(company[part]) > 1 for part in joined)
    if separator in COMPOUND:
        return combined == len(joined) and len(combinations) > 1 and not all(map(str.isdecimal, joined))
    return 2 * combined >= len(joined)


def _words(column: Column) -> Labels | str:
    """Return classes for few different texts; otherwise the reason why they are not classes."""
    if column.labels is None:
        return "its cells are of several kinds"
    longest = max(map(len, column.labels))
    if column.distinct <= _MOST_CLASSES and _is_dense(column) and longest <= 100:
        return _classification(column)
    why = f"{column.distinct} different texts in {len(column.values)} rows, too many to be classes"
    if column.code:
        return f"{why}; {column.code} has leading zeros, so they are codes and not numbers"
    odd = Counter(text for text in column.texts if not _PLAIN_NUMBER.fullmatch(text.strip()))
    words = ", ".join(json.dumps(text, ensure_ascii=False) for text in list(odd)[:5])
    share = odd.total() / len(column.values)
    if 0 < share <= _MOST_UNLABELLED and all(text.strip().casefold() in SAYS_NOTHING for text in odd):
        why = f"numbers; the {odd.total()} rows with {words} are taken for rows without a label"
        return Labels({"type": "regression"}, {"label": column.name, "unlabelled": list(odd)}, why)
    if 0 < share <= _MOST_ODD:
        return (
            f"numbers, except in {odd.total()} rows: {words}; to learn the numbers, write a `type: regression` task, "
            f"with `unlabelled: [{words}]` if these rows have none"
        )
    return why


def _shares(counts: Counter[str], total: int) -> str:
    return few([f"{label[:40]} {100 * count / total:.1f} %" for label, count in counts.most_common()])


def _shown(value: object) -> str:
    return str(value)[:60]
