"""Notes about rows and labels: what a person should know before training, each said once for all splits."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from polytask.tasks import LabelStats, Task
from polytask.terms import DataWarning, Split

# A score of fewer rows is chance.
_FEW_ROWS = 10
# Labels that often mean that there is none.
_NOTHING = frozenset({"na", "n/a", "#n/a", "<na>", "nan", "null", "nil", "none", "-", "?", "-1"})
_NUMBER = re.compile(r"[-+]?[0-9]{1,15}(\.[0-9]{1,15})?(e[-+]?[0-9]{1,2})?")
_THOUSANDS = re.compile(r"[-+]?[0-9]{1,3}(,[0-9]{3}){1,4}(\.[0-9]{1,15})?")
_SHOWN = 8
_IN_QUOTES = re.compile(r"""(["']).+\1""", re.DOTALL)
_IN_TYPESET_QUOTES = re.compile(
    "[\u201c\u201d\u201e][^\u201c\u201d\u201e]+[\u201c\u201d]|\u00ab[^\u00ab\u00bb]+\u00bb|\u300c[^\u300c\u300d]+\u300d"
)
_LIST = re.compile(r"""\[\s*(["'].*["']|[^\]]*,[^\]]*)\s*\]|\(\s*["'].*["']\s*,?\s*\)""", re.DOTALL)
# A bracket beside a word or a quote: smileys are labels too.
_OPENED, _CLOSED = re.compile(r"""[(\[{]\s*['"\w]"""), re.compile(r"""['"\w]\s*[)\]}]$""")


@dataclass(frozen=True)
class Finding:
    """Something about one split that a person should know.

    Attributes:
        text: what was found, with {count} and {first} for what differs between splits.
        count: the number of cases, as it is to be read.
        first: where the first case stands.
        tail: what follows the text.
    """

    split: Split
    tasks: str
    text: str
    count: str = ""
    first: str = ""
    tail: str = ""


def merged(findings: Iterable[Finding]) -> list[DataWarning]:
    """Turn findings into notes: one for all splits of which the same is to be said."""
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.tasks, finding.text, finding.tail), []).append(finding)
    notes: list[DataWarning] = []
    for (tasks, text, tail), found in alike.items():
        counts = listed([finding.count for finding in found])
        splits = listed([finding.split for finding in found])
        message = text.replace("{count}", counts).replace("{first}", found[0].first) + tail
        notes.append(DataWarning(f"{splits} of {tasks}", message))
    return notes


def listed(items: Sequence[str]) -> str:
    """Join words: `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def few(items: Sequence[str]) -> str:
    """Join the first items, and count the others."""
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def label_findings(split: Split, task: Task, stats: LabelStats) -> Iterator[Finding]:
    """Find what is to be known of a task's labels in one split."""

    def finding(text: str, count: str = "", first: str = "", tail: str = "") -> Finding:
        return Finding(split, task.name, text, count, first, tail)

    yield from (finding("", tail=note) for note in task.notes_on(stats))
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
        said = few(_unseen(task, stats, unseen))
        yield finding("", tail=f"labels that training never has count as errors: {said}")
    notes = task.label_notes(stats) if split == "train" else _too_little(split, task, stats)
    yield from (finding("", tail=message) for message in notes)


def _unseen(task: Task, stats: LabelStats, labels: Iterable[str]) -> list[str]:
    """Say of labels how often they occur and where, and which label of training they may stand for."""
    known = {loosely(label): label for label in task.labels}
    found: list[str] = []
    for label in labels:
        meant = known.get(loosely(label))
        mend = "" if meant is None else f"; write it as in training: {meant!r}"
        found.append(f"{label} ({stats.labels[label]}, the first at {stats.places.get(label, '')}{mend})")
    return found


def _too_little(split: Split, task: Task, stats: LabelStats) -> Iterator[str]:
    """Say where the rows of dev or test are too few, or too much alike, to score anything."""
    use = "the model is chosen by them" if split == "dev" else "they tell what the model is worth"
    if stats.present < _FEW_ROWS:
        rows = "1 row carries" if stats.present == 1 else f"{stats.present} rows carry"
        yield f"only {rows} a label, and {use}: scores of so few are chance; add rows, or hold out more training rows"
    alone = task.only_label(stats)
    if alone is not None and stats.present > 1:
        yield (
            f"every row has {alone}, and {use}: scores cannot tell a model that learned something from one that did "
            "not; add rows with other labels"
        )


def spelling_warnings(task: Task, label_stats: Mapping[Split, LabelStats]) -> Iterator[DataWarning]:
    """Note labels that may be one label in several spellings, and those that may mean that there is no label."""
    counts: Counter[str] = Counter()
    places: dict[str, str] = {}
    for stats in label_stats.values():
        counts.update(stats.labels)
        places = {**stats.places, **places}
    labels = [label for label in task.label_names if counts[label]]

    def told(label: str) -> str:
        return f"{label!r} ({counts[label]}, the first at {places.get(label, '')})"

    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault(loosely(label), []).append(label)
    for spellings in alike.values():
        if len(spellings) > 1:
            ordered = sorted(spellings, key=lambda label: -counts[label])
            yield DataWarning(
                f"labels of {task.name}",
                f"{listed([told(label) for label in ordered])} differ in spelling only, and are learned as different "
                f"labels; if they are one, write them alike, such as {ordered[0]!r}{_unseen_difference(ordered)}",
            )
    if task.level == "row":
        yield from _odd_names(task, labels, told)
    elif "_" in labels:
        yield DataWarning(
            f"labels of {task.name}",
            f"{told('_')} is learned as a tag; CoNLL-U writes it where nothing is annotated: leave such sentences out",
        )
    # -1 is a label of its own beside -2, or where there is no 0.
    classes = {label for label in labels if label != "-1"}
    numbered = classes == {str(number) for number in range(len(classes))}
    for label in labels:
        if label.casefold() in _NOTHING and (numbered or label != "-1") and task.level == "row":
            yield DataWarning(
                f"labels of {task.name}", f"{told(label)} is learned as a label; {task.nothing_hint(label)}"
            )


def _odd_names(task: Task, labels: Iterable[str], told: Callable[[str], str]) -> Iterator[DataWarning]:
    """Note labels that seem to be no names, but a cell with its quotes, or a list."""
    odd: dict[str, list[str]] = {}
    for label in labels:
        odd.setdefault(_written_as(label), []).append(label)
    for written, found in odd.items():
        if written:
            yield DataWarning(f"labels of {task.name}", f"learned as labels: {few(list(map(told, found)))}; {written}")


def _unseen_difference(labels: Sequence[str]) -> str:
    """Say how labels that look the same are made up, such as an accent that is a character of its own."""
    if len({unicodedata.normalize("NFC", label) for label in labels}) == len(labels):
        return ""
    return f" (they look the same, and are {listed([ascii(label) for label in labels])})"


def _written_as(label: str) -> str:
    """Say what a label seems to be that is no name: a cell with its quotes, a list, or a piece of one."""
    if _IN_QUOTES.fullmatch(label):
        return "where these quotes stand around the cells of a file, give `quoting: standard`, or remove them"
    if _IN_TYPESET_QUOTES.fullmatch(label):
        return (
            "these are the quotes of a text program, which hold no cell together; remove them, or write straight ones"
        )
    if _LIST.fullmatch(label):
        return "lists of labels are for `type: multilabel`; where each text has one label, write it without brackets"
    one_sided = any(label.count(opened) != label.count(closed) for opened, closed in ("()", "[]", "{}"))
    if one_sided and (_OPENED.match(label) or _CLOSED.search(label)):
        return 'these seem to be pieces of something in brackets; write lists as JSON does, such as ["a", "b"]'
    return ""


def loosely(label: str) -> str:
    """Return a label without what spelling alone may have changed: case, spaces, form of characters and of numbers.

    What is not seen, such as a space of no width, is spelling too.

    >>> loosely("Very  Good") == loosely("very good"), loosely("01") == loosely("1"), loosely("a") == loosely("b")
    (True, True, False)
    >>> loosely("\uff11") == loosely("1"), loosely("\u0663.0") == loosely("3")
    (True, True)
    """
    seen = "".join(character for character in label if unicodedata.category(character) != "Cf")
    plain = " ".join(unicodedata.normalize("NFKC", seen).casefold().split())
    # Digits of every script.
    plain = "".join(str(unicodedata.decimal(character, character)) for character in plain)
    plain = plain.replace(",", "") if _THOUSANDS.fullmatch(plain) else plain
    return repr(float(plain)) if _NUMBER.fullmatch(plain) else plain
