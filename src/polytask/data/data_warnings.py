"""Notes for the user about rows and labels before training, each given once for all splits."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from polytask.tasks import LabelStats, Task
from polytask.terms import DataWarning, Split

# Scores on fewer rows are chance.
_FEW_ROWS = 10
# With so many rows, a label of one row may be a mistake.
_MANY_ROWS = 100
# Truth values as `loosely` returns them.
_TRUTH = {"1.0": "true", "true": "true", "yes": "true", "0.0": "false", "false": "false", "no": "false"}
# Hyphens, dashes and the minus sign.
_DASHES = dict.fromkeys([*range(0x2010, 0x2016), 0x2212], "-")
# Labels that often mean `no label`.
SAYS_NOTHING = frozenset({"na", "n/a", "#n/a", "<na>", "nan", "null", "nil", "none", "-", "?", "-1"})
_NUMBER = re.compile(r"[-+]?[0-9]{1,15}(\.[0-9]{1,15})?(e[-+]?[0-9]{1,2})?")
_THOUSANDS = re.compile(r"[-+]?[0-9]{1,3}(,[0-9]{3}){1,4}(\.[0-9]{1,15})?")
_SHOWN = 8
_IN_QUOTES = re.compile(r"""(["']).+\1""", re.DOTALL)
_IN_TYPESET_QUOTES = re.compile(
    "[\u201c\u201d\u201e][^\u201c\u201d\u201e]+[\u201c\u201d]|\u00ab[^\u00ab\u00bb]+\u00bb|\u300c[^\u300c\u300d]+\u300d"
)
_LIST = re.compile(r"""\[\s*(["'].*["']|[^\]]*,[^\]]*)\s*\]|\(\s*["'].*["']\s*,?\s*\)""", re.DOTALL)
# A bracket next to a word or a quote, since smileys can be labels.
_OPENED, _CLOSED = re.compile(r"""[(\[{]\s*['"\w]"""), re.compile(r"""['"\w]\s*[)\]}]$""")


@dataclass(frozen=True)
class Finding:
    """A note for the user about one split.

    Attributes:
        text: the finding, with placeholders {count} and {first} for what differs between splits.
        count: number of cases, as text.
        first: place of the first case.
        tail: added after the text.
    """

    split: Split
    tasks: str
    text: str
    count: str = ""
    first: str = ""
    tail: str = ""


def merged(findings: Iterable[Finding]) -> list[DataWarning]:
    """Turn findings into notes: one for all splits with the same finding.

    Splits that are parts of one file find the same cases in it, which count once.
    """
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.tasks, finding.text, finding.tail), []).append(finding)
    notes: list[DataWarning] = []
    for (tasks, text, tail), group in alike.items():
        counts = listed([finding.count for finding in _different(group)])
        splits = listed([finding.split for finding in group])
        message = text.replace("{count}", counts).replace("{first}", group[0].first) + tail
        notes.append(DataWarning(f"{splits} of {tasks}", message))
    return notes


def _different(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings without those of the same cases, which have the first place and the count in common."""
    seen: set[tuple[str, str]] = set()
    different: list[Finding] = []
    for finding in findings:
        if not finding.first or (finding.first, finding.count) not in seen:
            different.append(finding)
        seen.add((finding.first, finding.count))
    return different


def listed(items: Sequence[str]) -> str:
    """Join words: `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def few(items: Sequence[str]) -> str:
    """Join the first items, and count the others."""
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def label_findings(split: Split, task: Task, stats: LabelStats, *, trained: bool = False) -> Iterator[Finding]:
    """Yield findings about a task's labels in one split.

    Args:
        trained: whether a trained model is scored on the split, so that facts about the task itself are known.
    """

    def finding(text: str, count: str = "", first: str = "", tail: str = "") -> Finding:
        return Finding(split, task.name, text, count, first, tail)

    yield from (finding("", tail=note) for note in (task.unreachable if trained else task.notes_on)(stats))
    if stats.scheme:
        yield finding("", tail=stats.scheme)
    if stats.repaired:
        text = "{count} orphan I- tags were read as B-, the first at {first}"
        yield finding(text, str(stats.repaired), stats.repaired_at)
    if stats.respelled:
        pairs = [f"{old!r} as {new!r}" for old, new in sorted(stats.respelled.items())]
        yield finding("labels are read in another spelling, the first at {first}: ", "", stats.respelled_at, few(pairs))
    if stats.missing:
        rows = f"{stats.missing} of {stats.missing + stats.present}"
        yield finding("{count} rows carry no label and are masked", rows, tail=task.missing_hint)
    unseen = sorted(set(stats.labels).difference(task.labels))
    if task.labels and unseen:
        listing = few(_unseen(task, stats, unseen))
        yield finding("", tail=f"labels that training never has count as errors: {listing}")
    if split == "train" and task.level == "row" and stats.present >= _MANY_ROWS:
        single = [label for label in task.labels if stats.labels[label] == 1]
        if 0 < len(single) <= _SHOWN:
            listing = few([f"{label!r} ({stats.places.get(label, '')})" for label in single])
            text = f"labels with a single row, perhaps by mistake (a typing error, a line of totals): {listing}"
            yield finding("", tail=text)
    notes = task.label_notes(stats) if split == "train" else _too_little(split, task, stats)
    yield from (finding("", tail=message) for message in notes)


def _unseen(task: Task, stats: LabelStats, labels: Iterable[str]) -> list[str]:
    """Describe labels: how often and where they occur, and which training label they may stand for."""
    spellings = _spellings({*task.labels, *labels})
    trained = {spellings[label]: label for label in task.labels}
    descriptions: list[str] = []
    for label in labels:
        meant = trained.get(spellings[label])
        mend = "" if meant is None else f"; write it as in training: {meant!r}"
        if not mend and task.level == "row" and label.casefold() in SAYS_NOTHING:
            mend = "; if it means not labelled, leave its cells empty"
        descriptions.append(f"{label} ({stats.labels[label]}, the first at {stats.places.get(label, '')}{mend})")
    return descriptions


def _too_little(split: Split, task: Task, stats: LabelStats) -> Iterator[str]:
    """Yield notes if the dev or test rows are too few, or too much alike, for meaningful scores."""
    use = "the model is chosen by them" if split == "dev" else "the model is evaluated on them"
    if stats.present < _FEW_ROWS:
        rows = "1 row carries" if stats.present == 1 else f"{stats.present} rows carry"
        yield f"only {rows} a label, and {use}: scores on so few are chance; add rows, or hold out more training rows"
    alone = task.only_label(stats)
    if alone is not None and stats.present > 1:
        yield (
            f"every row has {alone}, and {use}: scores cannot distinguish a model that learned from one that did "
            "not; add rows with other labels"
        )


def spelling_warnings(task: Task, label_stats: Mapping[Split, LabelStats]) -> Iterator[DataWarning]:
    """Yield notes on labels that may be one label in several spellings, and on those that may mean `no label`."""
    counts: Counter[str] = Counter()
    places: dict[str, str] = {}
    for stats in label_stats.values():
        counts.update(stats.labels)
        places = {**stats.places, **places}
    labels = [label for label in task.label_names if counts[label]]

    def described(label: str) -> str:
        return f"{label!r} ({counts[label]}, the first at {places.get(label, '')})"

    alike: dict[str, list[str]] = {}
    for label, spelling in _spellings(labels).items():
        alike.setdefault(spelling, []).append(label)
    for spellings in alike.values():
        if len(spellings) > 1:
            ordered = sorted(spellings, key=lambda label: -counts[label])
            yield DataWarning(
                f"labels of {task.name}",
                f"{listed([described(label) for label in ordered])} differ only in spelling, but are learned as "
                f"separate labels; if they are the same, spell them alike, such as {ordered[0]!r}"
                f"{_unseen_difference(ordered)}",
            )
    if task.level == "row":
        yield from _odd_names(task, labels, described)
    elif "_" in labels:
        yield DataWarning(
            f"labels of {task.name}",
            f"{described('_')} is learned as a tag; in CoNLL-U it means not annotated: leave such sentences out",
        )
    # -1 is an ordinary label if there is a -2, or no 0.
    classes = {label for label in labels if label != "-1"}
    numbered = classes == {str(number) for number in range(len(classes))}
    for label in labels:
        if label.casefold() in SAYS_NOTHING and (numbered or label != "-1") and task.level == "row":
            yield DataWarning(
                f"labels of {task.name}", f"{described(label)} is learned as a label; {task.nothing_hint(label)}"
            )


def _odd_names(task: Task, labels: Iterable[str], described: Callable[[str], str]) -> Iterator[DataWarning]:
    """Yield notes on labels that look like a quoted cell, or like a list, rather than names."""
    odd: dict[str, list[str]] = {}
    for label in labels:
        odd.setdefault(_written_as(label), []).append(label)
    for written, group in odd.items():
        if written:
            yield DataWarning(
                f"labels of {task.name}", f"learned as labels: {few(list(map(described, group)))}; {written}"
            )


def _unseen_difference(labels: Sequence[str]) -> str:
    """Show the characters of labels that look the same, such as a separate character for an accent."""
    if len({unicodedata.normalize("NFC", label) for label in labels}) == len(labels):
        return ""
    return f" (they look the same, but are {listed([ascii(label) for label in labels])})"


def _written_as(label: str) -> str:
    """Describe a label that does not look like a name: a quoted cell, a list, or a part of one; else ""."""
    if _IN_QUOTES.fullmatch(label):
        return "if these quotes enclose the cells of a file, give `quoting: standard`, or remove them"
    if _IN_TYPESET_QUOTES.fullmatch(label):
        return "these are typographic quotes, which do not quote a cell; remove them, or write straight quotes"
    if _LIST.fullmatch(label):
        return "lists of labels are for `type: multilabel`; if each text has one label, write it without brackets"
    one_sided = any(label.count(opened) != label.count(closed) for opened, closed in ("()", "[]", "{}"))
    if one_sided and (_OPENED.match(label) or _CLOSED.search(label)):
        return 'these seem to be parts of something in brackets; write lists as JSON does, such as ["a", "b"]'
    return ""


def _spellings(labels: Collection[str]) -> dict[str, str]:
    """Return what each label has in common with its other spellings; if all are truth values, 1 is a true one."""
    spellings = {label: loosely(label) for label in labels}
    truths = {spelling for label, spelling in spellings.items() if label.casefold() not in SAYS_NOTHING}
    if truths.issubset(_TRUTH):
        return {label: _TRUTH.get(spelling, spelling) for label, spelling in spellings.items()}
    return spellings


def loosely(label: str) -> str:
    """Normalize a label's spelling: case, spaces, dashes, forms of characters and of numbers.

    Invisible characters, such as zero-width spaces, are removed too.

    >>> loosely("Very  Good") == loosely("very good"), loosely("01") == loosely("1"), loosely("a") == loosely("b")
    (True, True, False)
    >>> loosely("\uff11") == loosely("1"), loosely("\u0663.0") == loosely("3")
    (True, True)
    """
    visible = "".join(character for character in label if unicodedata.category(character) != "Cf")
    plain = " ".join(unicodedata.normalize("NFKC", visible).casefold().split())
    plain = plain.translate(_DASHES)
    # Digits of every script.
    plain = "".join(str(unicodedata.decimal(character, character)) for character in plain)
    plain = plain.replace(",", "") if _THOUSANDS.fullmatch(plain) else plain
    return repr(float(plain)) if _NUMBER.fullmatch(plain) else plain
