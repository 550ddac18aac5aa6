"""Tagging: which tags are entities, what is repaired, and words that the tokenizer drops."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.tasks import LabelStats
from polytask.tasks.bio import spans
from polytask.tasks.label_stats import BadLabel
from polytask.tasks.tagging import Tagging, TaggingOptions
from polytask.terms import Label


def read(tags: Any, tokens: Any = ("a", "b", "c"), **options: Any) -> tuple[Label, LabelStats]:
    stats = LabelStats()
    row = {"tags": tags, "tokens": list(tokens) if isinstance(tokens, tuple) else tokens}
    return Tagging.read(TaggingOptions(type="tagging", **options), row, stats), stats


def read_file(rows: list[list[str]], **options: Any) -> tuple[list[list[str]], LabelStats]:
    """Read all rows of a file as the data layer does: once as they are, and again as they are meant."""
    chosen, stats = TaggingOptions(type="tagging", **options), LabelStats()
    for tags in rows:
        Tagging.read(chosen, {"tags": tags, "tokens": ["w"] * len(tags)}, stats)
    again = Tagging.rereading(chosen, stats)
    if again is None:
        return rows, stats
    found = [again.read(tags, f"row {number}") for number, tags in enumerate(rows, start=1)]
    again.finish(stats)
    stats.labels = Counter(tag for tags in found for tag in tags)
    return found, stats


def fit(*tags: str, **options: Any) -> Tagging:
    stats = LabelStats()
    stats.labels.update(tags)
    stats.present = 1
    return Tagging.fit("it", TaggingOptions(type="tagging", **options), stats)


@pytest.mark.parametrize("scheme", ["auto", "bio"])
def test_orphans_are_repaired_and_counted(scheme: str) -> None:
    labels, stats = read_file([["B-LOC", "O", "B-PER"], ["I-PER", "I-PER", "I-LOC"]], scheme=scheme)
    assert labels == [["B-LOC", "O", "B-PER"], ["B-PER", "I-PER", "B-LOC"]]
    assert (stats.repaired, stats.repaired_at) == (2, "row 2")
    assert stats.labels == {"B-PER": 2, "I-PER": 1, "B-LOC": 2, "O": 1}


def test_strict_data_refuse_orphans_and_accept_a_scheme_in_which_entities_begin_with_i() -> None:
    strict = {"data": {"train": "x", "strict": True}}
    with pytest.raises(
        BadLabel, match="an I- tag continues no entity; begin the entity with B-, or leave out `strict`"
    ) as bad:
        read_file([["B-LOC", "O", "O"], ["O", "I-PER", "O"]], **strict)
    assert bad.value.place == "row 2"
    assert read_file([["O", "B-PER", "O"]], **strict)[0] == [["O", "B-PER", "O"]]
    labels, stats = read_file([["I-PER", "B-PER", "O"]], **strict)
    assert labels == [["B-PER", "B-PER", "O"]]
    assert "IOB1" in stats.scheme


def test_plain_tags_are_left_as_they_are() -> None:
    assert read_file([["I-PER", "O", "O"]], scheme="plain")[0] == [["I-PER", "O", "O"]]
    assert read_file([["NOUN", "VERB", "S-ADJ"]])[0] == [["NOUN", "VERB", "S-ADJ"]]


@pytest.mark.parametrize("tags", [["O", "O", "O"], ["B-A", "I-A", "B-B"], ["B-A", "O", "O"]])
def test_scheme_bio_accepts_sentences_with_and_without_entities(tags: list[str]) -> None:
    assert read_file([tags], scheme="bio")[0] == [tags]


def test_scheme_bio_refuses_other_tags() -> None:
    with pytest.raises(BadLabel, match="found the tag 'NOUN' .* which does not fit the others"):
        read_file([["B-A", "NOUN", "O"]], scheme="bio")
    with pytest.raises(BadLabel, match="found the tag 'NOUN'; scheme bio accepts O, B-x and I-x"):
        read_file([["NOUN", "O", "O"]], scheme="bio")


def test_other_rows_are_read_as_the_training_rows_were() -> None:
    assert fit("B-PER", "O").reading_options.scheme == "bio"
    assert fit("NOUN", "B-X").reading_options.scheme == "plain"


@pytest.mark.parametrize(
    ("tags", "tokens", "message"),
    [
        (["O", "O"], ("a",), "found 1 tokens and 2 tags; each token needs one tag"),
        (["O"], None, "the row has tags but no 'tokens'"),
        (3, ("a",), "found 3 in 'tags'; words and tags are lists of text, or text split at spaces"),
        (["O", 1.5], ("a", "b"), "found 1.5; a label is text or a whole number"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tags: Any, tokens: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tags, tokens)


def test_text_cells_are_split_at_spaces() -> None:
    assert read("O B-PER O", "a b c")[0] == ["O", "B-PER", "O"]


def test_every_entity_type_has_both_tags_and_o_comes_first() -> None:
    assert fit("B-PER", "B-LOC", "I-LOC").labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert fit("B-PER", "O", scheme="plain").labels == ("B-PER", "O")


def test_metrics_follow_the_scheme() -> None:
    assert fit("B-PER", "O").metrics == ("f1", "precision", "recall", "accuracy")
    assert fit("NOUN", "VERB").metrics == ("accuracy", "macro_f1")
    with pytest.raises(ValueError, match=r"the tags are plain \(accuracy, macro_f1\), and the metric is 'f1'"):
        fit("NOUN", "VERB", metric="f1")
    with pytest.raises(ValueError, match=r"the tags are BIO .*, and the metric is 'macro_f1'"):
        fit("B-PER", "O", metric="macro_f1")


def test_words_without_a_token_get_the_default_tag() -> None:
    entities, plain = fit("B-PER", "O", decode="greedy"), fit("NOUN", "NOUN", "VERB")
    outputs = np.array([[0.0, 9, 0], [9, 0, 0]], np.float32)
    assert entities.decode(outputs, [[0, 1, 0], [1], []]) == [["O", "B-PER", "O"], ["O"], []]
    assert plain.decode(np.array([[0.0, 9]], np.float32), [[0, 1]]) == [["NOUN", "VERB"]]


def test_words_that_share_a_token_go_on_with_its_entity_or_have_its_plain_tag() -> None:
    entities, plain = fit("B-PER", "O", decode="greedy"), fit("NOUN", "NOUN", "VERB")
    outputs = np.array([[0.0, 9, 0], [9, 0, 0]], np.float32)
    assert entities.decode(outputs, [[1, 2, 2], [1, 2]]) == [["B-PER", "I-PER", "I-PER"], ["O", "O"]]
    assert plain.decode(np.array([[0.0, 9]], np.float32), [[0, 1, 2]]) == [["NOUN", "VERB", "VERB"]]
    assert entities.targets([["B-PER", "I-PER", "O"]], [[1, 2, 1]]).tolist() == [1, 0]
    text, words = "北京在", [(0, 1), (1, 2), (2, 3)]
    found = entities.format_prediction(np.array([[0.0, 0.0, 2.0], [0.0, 2.0, 0.0]], np.float32), text, words, [1, 2, 1])
    each = pytest.approx(float(np.exp(2) / (np.exp(2) + 2)), abs=1e-6)
    assert found == [
        {"label": "PER", "start": 0, "end": 2, "text": "北京", "score": each},
        {"label": "PER", "start": 2, "end": 3, "text": "在", "score": each},
    ]
    shown = plain.format_prediction(np.array([[0.0, 40.0]], np.float32), text, words, [1, 2, 0])
    assert [(word["label"], word["text"], word["score"]) for word in shown] == [
        ("VERB", "北", 1.0), ("VERB", "京", 1.0), ("NOUN", "在", 0.0),
    ]  # fmt: skip


def test_a_token_that_words_share_is_one_decision() -> None:
    task = fit("B-PER", "O")
    outputs = np.array([[0.0, 9, 0], [9, 0, 0]], np.float32)
    probability, right = task.certainty(outputs, [["B-PER", "I-PER", "I-PER"]], [[1, 2, 1]])
    assert len(probability) == 2
    assert right.tolist() == [True, False]


@pytest.mark.parametrize("decode", ["greedy", "viterbi"])
@given(
    kinds=st.lists(st.sampled_from([0, 1, 1, 2]), max_size=8),
    logits=st.lists(st.lists(st.sampled_from([-1.0, 0.0, 3.0]), min_size=5, max_size=5), min_size=9, max_size=9),
)
def test_scores_and_answers_see_the_same_entities(decode: str, kinds: list[int], logits: list[list[float]]) -> None:
    """Orphan I- tags too, wherever words share tokens or have none."""
    task = fit("B-PER", "B-LOC", "O", decode=decode)
    kinds = [1, *kinds]
    outputs = np.array(logits[: kinds.count(1)], np.float32)
    words = [(2 * at, 2 * at + 1) for at in range(len(kinds))]
    (tags,) = task.decode(outputs, [kinds])
    assert isinstance(tags, list)
    shown = task.format_prediction(outputs, "x " * len(kinds), words, kinds)
    assert [(one["label"], one["start"] // 2, one["end"] // 2 + 1) for one in shown] == [
        (span.label, span.first, span.end) for span in spans(tags)
    ]


def test_balanced_weights_are_finite_for_tags_that_training_never_has() -> None:
    weights = fit("B-PER", "O", "O", class_weights="balanced").weights()
    assert weights is not None
    assert len(weights) == 3
    assert all(0 < weight < float("inf") for weight in weights)


def test_presented_entities_have_offsets_and_mean_scores() -> None:
    task = fit("B-PER", "O", decode="greedy")
    text, words = "Ann Lee left", [(0, 3), (4, 7), (8, 12)]
    outputs = np.array([[0.0, 20, 0], [0, 0, 20]], np.float32)
    found = task.format_prediction(outputs, text, words, [1, 1, 0])
    assert found == [{"label": "PER", "start": 0, "end": 7, "text": "Ann Lee", "score": 1.0}]
    orphan = task.format_prediction(np.array([[0.0, 0, 20], [20, 0, 0]], np.float32), text, words, [0, 1, 1])
    assert [(item["label"], item["text"]) for item in orphan] == [("PER", "Lee")]


@pytest.mark.parametrize("words", [["Ann", "sings", "here"], "Ann sings here"])
def test_tags_joined_by_commas_are_as_many_as_the_words(words: Any) -> None:
    assert read("B-PER,O,O", words)[0] == read(["B-PER", "O", "O"], words)[0]


@pytest.mark.parametrize("tags", ["B-PER,O", "B-PER,O,", ",,", "B-PER,O,O,O", "B-PER"])
def test_tags_joined_by_commas_that_are_fewer_or_more_are_refused(tags: str) -> None:
    with pytest.raises(ValueError, match="each token needs one tag"):
        read(tags)


def test_a_comma_may_be_a_tag_and_part_of_one() -> None:
    assert read("NN , VB,X")[0] == ["NN", ",", "VB,X"]
    assert read(",", ("a",))[0] == [","]
