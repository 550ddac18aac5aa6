"""BIO tags: repair makes them valid and no more; spans are seqeval's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.scheme import IOB2, Entities

from polytask.tasks.bio import is_bio, repair, spans, word_tags
from polytask.terms import NO_TOKEN, OWN_TOKEN, SHARED_TOKEN

TAGS = st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-A-B", "I-A-B"]), max_size=9)


def strictly_valid(tags: list[str]) -> bool:
    """Whether every I- goes on from a B- or I- of its own label."""
    pairs = zip(["O", *tags], tags, strict=False)
    return all(not tag.startswith("I-") or before in (tag, f"B-{tag[2:]}") for before, tag in pairs)


@settings(max_examples=50, deadline=None)
@given(TAGS)
def test_repair_makes_every_sequence_valid(tags: list[str]) -> None:
    mended, count = repair(tags)
    assert strictly_valid(mended)
    assert count == sum(a != b for a, b in zip(tags, mended, strict=True))
    assert all(a == b or (a[:2], b[:2], a[2:]) == ("I-", "B-", b[2:]) for a, b in zip(tags, mended, strict=True))
    assert repair(mended) == (mended, 0)


@settings(max_examples=50, deadline=None)
@given(TAGS)
def test_repair_changes_nothing_that_was_valid(tags: list[str]) -> None:
    if strictly_valid(tags):
        assert repair(tags) == (tags, 0)
    else:
        assert repair(tags)[1] > 0


@settings(max_examples=50, deadline=None)
@given(TAGS)
def test_spans_are_the_entities_of_strict_iob2(tags: list[str]) -> None:
    expected = [(found.tag, found.start, found.end) for found in Entities([tags], IOB2).entities[0]]
    assert [(span.label, span.first, span.end) for span in spans(tags)] == expected


@settings(max_examples=50, deadline=None)
@given(TAGS)
def test_every_word_of_a_repaired_entity_lies_in_a_span(tags: list[str]) -> None:
    covered = {index for span in spans(repair(tags)[0]) for index in range(span.first, span.end)}
    assert covered == {index for index, tag in enumerate(tags) if tag != "O"}


KINDS = st.lists(st.sampled_from([NO_TOKEN, OWN_TOKEN, SHARED_TOKEN]), max_size=9).map(
    lambda kinds: [OWN_TOKEN if kind == SHARED_TOKEN and OWN_TOKEN not in kinds[:at] else kind
                   for at, kind in enumerate(kinds)]
)  # fmt: skip


@given(KINDS, st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), min_size=9, max_size=9))
def test_tags_of_words_are_valid_and_have_the_entities_of_the_tokens(kinds: list[int], tags: list[str]) -> None:
    own = tags[: kinds.count(OWN_TOKEN)]
    found = word_tags(own, kinds)
    assert strictly_valid(found)
    assert [tag for tag, kind in zip(found, kinds, strict=True) if kind == OWN_TOKEN] == repair(own)[0]
    number = [kinds[: at + 1].count(OWN_TOKEN) - 1 for at in range(len(kinds))]
    assert {(span.label, number[span.first], number[span.end - 1] + 1) for span in spans(found)} == {
        (span.label, span.first, span.end) for span in spans(repair(own)[0])
    }
    last = len(kinds)
    while last and kinds[last - 1] == NO_TOKEN:
        last -= 1
    assert found[last:] == ["O"] * (len(kinds) - last)


@given(TAGS)
def test_words_with_tokens_of_their_own_keep_their_tags(tags: list[str]) -> None:
    assert word_tags(tags, [OWN_TOKEN] * len(tags)) == repair(tags)[0]


def test_a_word_that_shares_a_token_goes_on_and_one_without_belongs_to_what_goes_on_behind_it() -> None:
    own, shared, none = OWN_TOKEN, SHARED_TOKEN, NO_TOKEN
    assert word_tags(["B-A", "B-A"], [own, shared, shared, own]) == ["B-A", "I-A", "I-A", "B-A"]
    assert word_tags(["O", "I-A"], [own, shared, own, shared]) == ["O", "O", "B-A", "I-A"]
    assert word_tags(["B-A", "I-A", "B-B"], [none, own, none, own, none, own, none]) == [
        "O", "B-A", "I-A", "I-A", "O", "B-B", "O",
    ]  # fmt: skip
    assert word_tags(["B-A"], [own, none, shared]) == ["B-A", "I-A", "I-A"]
    assert word_tags([], [none, none]) == ["O", "O"]


@pytest.mark.parametrize(
    ("tags", "answer"),
    [
        (["O", "B-PER"], True),
        (["B-PER", "I-PER"], True),
        (["I-PER"], True),
        (["O", "O"], False),
        ([], False),
        (["O", "NOUN"], False),
        (["B-PER", "NOUN"], False),
        (["NOUN", "VERB"], False),
    ],
)
def test_bio_is_told_by_the_tags_alone(tags: list[str], answer: bool) -> None:
    assert is_bio(tags) is answer
