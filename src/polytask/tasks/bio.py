"""BIO tags and the spans they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from polytask.terms import NO_TOKEN, OWN_TOKEN


@dataclass(frozen=True)
class Span:
    """An entity: its label and its words `first` up to, not including, `end`."""

    label: str
    first: int
    end: int


def is_bio(tags: Iterable[str]) -> bool:
    """Whether the tags are O, B-x and I-x only, with at least one that is not O."""
    marks = set(tags) - {"O"}
    return bool(marks) and all(tag[:2] in ("B-", "I-") for tag in marks)


def spans(tags: Sequence[str]) -> list[Span]:
    """Return the entities under strict IOB2: an entity begins at B- and goes on only through I- of the same label.

    An I- tag that continues no entity is ignored.

    >>> spans(["B-PER", "I-PER", "O", "I-LOC"])
    [Span(label='PER', first=0, end=2)]
    """
    entities: list[Span] = []
    start, label = -1, ""
    for index, tag in enumerate([*tags, "O"]):
        if start >= 0 and tag != f"I-{label}":
            entities.append(Span(label, start, index))
            start = -1
        if tag.startswith("B-"):
            start, label = index, tag[2:]
    return entities


def repair(tags: Sequence[str]) -> tuple[list[str], int]:
    """Turn every I- tag that continues no entity into a B- tag, and count them.

    >>> repair(["I-PER", "I-PER", "I-LOC"])
    (['B-PER', 'I-PER', 'B-LOC'], 2)
    """
    mended: list[str] = []
    orphans = 0
    before = "O"
    for tag in tags:
        if tag.startswith("I-") and before not in (f"B-{tag[2:]}", tag):
            orphans += 1
            mended.append(f"B-{tag[2:]}")
        else:
            mended.append(tag)
        before = tag
    return mended, orphans


def continued(tag: str) -> str:
    """Return the tag of a word that continues the entity of a tag.

    >>> continued("B-PER"), continued("O")
    ('I-PER', 'O')
    """
    return f"I-{tag[2:]}" if tag.startswith("B-") else tag


def word_tags(tags: Sequence[str], words: Sequence[int]) -> list[str]:
    """Return a valid tag for each word, given the tags of the words that have a token of their own.

    An I- tag that continues no entity begins one, as in labels. A word that shares the token of the word before
    continues its entity. A word without a token belongs to an entity only if that goes on after it.

    Args:
        words: for each word NO_TOKEN, OWN_TOKEN or SHARED_TOKEN.

    >>> word_tags(["B-LOC", "I-LOC", "O"], [1, 2, 0, 1, 1, 0])
    ['B-LOC', 'I-LOC', 'I-LOC', 'I-LOC', 'O', 'O']
    """
    own = iter(repair(tags)[0])
    repaired: list[str] = []
    before, waiting = "O", 0
    for word in words:
        if word == NO_TOKEN:
            waiting += 1
            continue
        before = next(own) if word == OWN_TOKEN else continued(before)
        repaired += [before if before.startswith("I-") else "O"] * waiting + [before]
        waiting = 0
    return repaired + ["O"] * waiting


def span_confusion_pairs(labels: Sequence[str], predictions: Sequence[str]) -> list[tuple[str, str]]:
    """Return (true label, predicted label) for the entities of a row, `O` if there is none with these boundaries.

    A predicted entity with a wrong boundary counts as one missed entity and one false one, as in the strict F1.

    >>> span_confusion_pairs(["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "I-ORG", "B-LOC", "O"])
    [('PER', 'ORG'), ('O', 'LOC'), ('LOC', 'O')]
    """
    true = {(span.first, span.end): span.label for span in spans(labels)}
    guessed = {(span.first, span.end): span.label for span in spans(predictions)}
    return [(true.get(ends, "O"), guessed.get(ends, "O")) for ends in sorted({*true, *guessed})]
