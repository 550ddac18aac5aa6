"""Schemes of entity tags: every way to write the same entities is read as the same BIO tags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Entities

from polytask.tasks.bio import spans
from polytask.tasks.tag_scheme import UNTYPED, Style, find_scheme

# A sentence as its entities: (type or None for words outside, number of words), one after another.
SENTENCE = st.lists(st.tuples(st.sampled_from([None, "PER", "LOC", "art-x", "misc_y"]), st.integers(1, 3)), max_size=5)


def bio(parts: Sequence[tuple[str | None, int]]) -> list[str]:
    tags: list[str] = []
    for label, words in parts:
        tags += ["O"] * words if label is None else [f"B-{label}", *[f"I-{label}"] * (words - 1)]
    return tags


def ended(begin: str, inside: str, end: str, single: str) -> Callable[[list[str]], list[str]]:
    """Return what writes BIO tags with marks for the last word of an entity and for one of a single word."""

    def write(tags: list[str]) -> list[str]:
        found: list[str] = []
        for tag, after in zip(tags, [*tags[1:], "O"], strict=False):
            last = not after.startswith("I-")
            marks = {"B": single if last else begin, "I": end if last else inside}
            found.append(tag if tag == "O" else marks[tag[0]] + tag[1:])
        return found

    return write


def iob1(tags: list[str]) -> list[str]:
    found: list[str] = []
    for before, tag in zip(["O", *tags], tags, strict=False):
        beside = before != "O" and before[2:] == tag[2:]
        found.append(tag if tag == "O" or (tag[0] == "B" and beside) else f"I-{tag[2:]}")
    return found


SCHEMES: dict[str, Callable[[list[str]], list[str]]] = {
    "BIO": lambda tags: tags,
    "BIOES": ended("B", "I", "E", "S"),
    "BILOU": ended("B", "I", "L", "U"),
    "BMES": ended("B", "M", "E", "S"),
    "IOB1": iob1,
}
STYLES: dict[str, Callable[[str], str]] = {
    "B-X": lambda tag: tag,
    "B_X": lambda tag: tag if tag == "O" else f"{tag[0]}_{tag[2:]}",
    "B:X": lambda tag: tag if tag == "O" else f"{tag[0]}:{tag[2:]}",
    "b-X, o": lambda tag: tag[0].lower() + tag[1:],
    "X-B": lambda tag: tag if tag == "O" else f"{tag[2:]}-{tag[0]}",
    "X_B": lambda tag: tag if tag == "O" else f"{tag[2:]}_{tag[0]}",
}
# What every file holds, so that its scheme can be told: long and single entities of each type, and other words.
ANCHOR = bio([(label, words) for label in ("PER", "LOC", "art-x", "misc_y") for words in (3, 1)] + [(None, 2)])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", SCHEMES)
@given(parts=SENTENCE)
def test_every_scheme_in_every_style_is_read_as_the_same_entities(
    name: str, style: str, parts: list[tuple[str | None, int]]
) -> None:
    write = SCHEMES[name]
    files = [[STYLES[style](tag) for tag in write(tags)] for tags in (ANCHOR, bio(parts))]
    scheme = find_scheme(Counter(tag for tags in files for tag in tags))
    assert scheme is not None
    assert scheme.odd == ()
    found = [scheme.read(tags) for tags in files]
    assert [one.tags for one in found] == [ANCHOR, bio(parts)]
    if name == "IOB1":
        assert sum(one.begins for one in found) == 0
    else:
        assert sum(one.orphans for one in found) == 0
        assert scheme.name == name


@given(
    st.lists(st.sampled_from(["O", *(f"{mark}-{label}" for mark in "BIES" for label in ("PER", "LOC"))]), max_size=8)
)
def test_entities_of_damaged_tags_are_at_least_those_of_seqeval(tags: list[str]) -> None:
    """What is well written is read as seqeval's strict mode reads it; every other marked word still has an entity."""
    counts = Counter([*tags, "B-PER", "E-PER", "S-LOC", "O"])
    scheme = find_scheme(counts)
    assert scheme is not None
    found = {(span.label, span.first, span.end) for span in spans(scheme.read(tags).tags)}
    assert {index for _, first, end in found for index in range(first, end)} == {
        index for index, tag in enumerate(tags) if tag != "O"
    }
    strict = [(one.tag, one.start, one.end) for one in Entities([tags], IOBES).entities[0]]
    assert all((label, first) in {(label, first) for label, first, _ in found} for label, first, _ in strict)


@pytest.mark.parametrize(("name", "oracle"), [("BIO", IOB2), ("BIOES", IOBES), ("BILOU", BILOU), ("IOB1", IOB1)])
@given(parts=SENTENCE)
def test_entities_are_those_of_seqeval(name: str, oracle: type, parts: list[tuple[str | None, int]]) -> None:
    tags = SCHEMES[name](bio(parts))
    scheme = find_scheme(Counter([*tags, *SCHEMES[name](ANCHOR)]))
    assert scheme is not None
    expected = [(one.tag, one.start, one.end) for one in Entities([tags], oracle).entities[0]]
    assert [(span.label, span.first, span.end) for span in spans(scheme.read(tags).tags)] == expected


@pytest.mark.parametrize("tags", [["B", "I", "O", "B"], ["B", "E", "O", "S"], ["B", "M", "E", "S"]])
def test_entities_without_a_type_have_one_name(tags: list[str]) -> None:
    scheme = find_scheme(Counter(tags))
    assert scheme is not None
    assert {span.label for span in spans(scheme.read(tags).tags)} == {UNTYPED}
    assert len(spans(scheme.read(tags).tags)) == 2


@pytest.mark.parametrize(
    "tags",
    [
        ["NOUN", "VERB", "ADJ"],
        ["NN", "-LRB-", "-RRB-", "."],
        ["S-ADJ", "E-NOUN", "VERB"],
        ["n.m", "n.f", "v.i"],
        ["N", "V", "I", "P"],
        ["nsubj", "obl:arg", "I:x"],
        ["O", "PER", "LOC"],
        ["X-1", "Y-2"],
        [],
        ["O", "o"],
    ],
)
def test_plain_tags_are_no_entities(tags: list[str]) -> None:
    assert find_scheme(Counter(tags)) is None


@pytest.mark.parametrize(
    ("tags", "odd"),
    [
        (["B-PER"] * 9 + ["O"] * 50 + ["PER"], ("PER",)),
        (["B-PER", "I-PER", "O", "0"], ("0",)),
        (["B-PER", "I-PER", "O", "B", "B-"], ("B", "B-")),
        (["B_PER", "I_PER", "O", "B-PER"], ("B-PER",)),
        (["PER-B", "PER-I", "O", "x"], ("x",)),
        (["B", "I", "O", "O", "P"], ("P",)),
        (["B-PER", "I-PER", "O", "O", "B-PER|B-LOC"], ("B-PER|B-LOC",)),
        (["B-PER", "I-PER", "O", "O", "B-PER, I-LOC"], ("B-PER, I-LOC",)),
    ],
)
def test_odd_tags_among_entities_are_named_and_make_no_plain_tags_of_them(
    tags: list[str], odd: tuple[str, ...]
) -> None:
    scheme = find_scheme(Counter(tags))
    assert scheme is not None
    assert scheme.odd == odd


def test_tags_known_to_be_entities_need_not_look_like_them() -> None:
    assert find_scheme({"S-PER": 1}) is None
    found = find_scheme({"S-PER": 1}, entities=True)
    assert found is not None
    assert found.read(["S-PER"]).tags == ["B-PER"]
    assert find_scheme({"PER": 1}, entities=True).odd == ("PER",)  # type: ignore[union-attr]


def test_styles_write_what_they_split() -> None:
    for style in (Style("-"), Style("_"), Style("-", mark_first=False), Style("")):
        assert style.split(style.write("B", UNTYPED)) == ("B", UNTYPED)
