"""The bundled corpus: enough texts, none of them alike, every label where it belongs."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from polytask.corpus import CorpusText, read_line, texts, write_files
from polytask.data.words import split_words
from polytask.tasks.bio import repair, spans

LABELS = {
    "kind": {"review", "news", "message"},
    "sentiment": {"positive", "negative", "neutral"},
    "topic": {"books", "business", "film", "food", "science", "sport", "technology", "travel"},
    "entity": {"PER", "ORG", "LOC", "WORK"},
}
SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def corpus() -> list[CorpusText]:
    return list(texts())


def word_trigrams(text: str) -> set[tuple[str, ...]]:
    words = [text[start:end].lower() for start, end in split_words(text)]
    return set(zip(words, words[1:], words[2:], strict=False))


def test_it_is_large_enough(corpus: list[CorpusText]) -> None:
    assert len(corpus) >= 1_900
    counts = Counter(text.split for text in corpus)
    assert 0.6 < counts["train"] / len(corpus) < 0.8
    assert min(counts["dev"], counts["test"]) >= 200


def test_each_label_has_enough_texts_to_learn_from(corpus: list[CorpusText]) -> None:
    train = [text for text in corpus if text.split == "train"]
    assert min(Counter(text.sentiment for text in train if text.sentiment).values()) >= 350
    assert min(Counter(text.topic for text in train if text.topic).values()) >= 125
    assert min(Counter(label for text in train for *_, label in text.entities or ()).values()) >= 200


def test_topics_are_balanced(corpus: list[CorpusText]) -> None:
    counts = Counter(text.topic for text in corpus if text.topic)
    assert max(counts.values()) < 1.25 * min(counts.values()), counts


def test_each_entity_type_is_marked_in_each_topic(corpus: list[CorpusText]) -> None:
    """A name's type must not be learned from the topic: films name companies, and business texts name works."""
    counts = Counter((text.topic, label) for text in corpus for *_, label in text.entities or ())
    for topic in LABELS["topic"]:
        for label in LABELS["entity"]:
            assert counts[topic, label] >= 8, (topic, label)


def test_no_newspaper_is_a_work_in_one_text_and_an_organisation_in_another(corpus: list[CorpusText]) -> None:
    types: dict[str, set[str]] = defaultdict(set)
    for text in corpus:
        for start, end, label in text.entities or ():
            types[text.text[start:end]].add(label)
    assert not [name for name, labels in types.items() if {"ORG", "WORK"} <= labels]


def test_no_text_stands_twice(corpus: list[CorpusText]) -> None:
    seen: dict[str, str] = {}
    for text in corpus:
        plain = " ".join(word for word in text.text.lower().split())
        assert plain not in seen, f"{text.place} repeats {seen[plain]}"
        seen[plain] = text.place


def test_no_two_texts_are_nearly_alike(corpus: list[CorpusText]) -> None:
    """Two texts share at most 30 of 100 word trigrams of the smaller one."""
    found = [word_trigrams(text.text) for text in corpus]
    index: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, grams in enumerate(found):
        for gram in grams:
            index[gram].append(number)
    shared: Counter[tuple[int, int]] = Counter()
    for places in index.values():
        shared.update((a, b) for at, a in enumerate(places) for b in places[at + 1 :])
    alike = [
        (corpus[a].place, corpus[b].place)
        for (a, b), count in shared.items()
        if count > 0.3 * min(len(found[a]), len(found[b]))
    ]
    assert not alike


def test_labels_are_of_their_sets(corpus: list[CorpusText]) -> None:
    for text in corpus:
        assert text.kind in LABELS["kind"], text.place
        assert text.sentiment in LABELS["sentiment"] | {None}, text.place
        assert text.topic in LABELS["topic"] | {None}, text.place
        assert {label for *_, label in text.entities or ()} <= LABELS["entity"], text.place


def test_every_split_has_every_label(corpus: list[CorpusText]) -> None:
    for split in SPLITS:
        chosen = [text for text in corpus if text.split == split]
        assert {text.sentiment for text in chosen} - {None} == LABELS["sentiment"]
        assert {text.topic for text in chosen} - {None} == LABELS["topic"]
        assert {label for text in chosen for *_, label in text.entities or ()} == LABELS["entity"]


def test_each_column_has_empty_cells_but_not_many(corpus: list[CorpusText]) -> None:
    for column in ("sentiment", "topic", "entities"):
        empty = sum(getattr(text, column) is None for text in corpus)
        assert 0 < empty < len(corpus) / 3, column


def test_spans_begin_and_end_at_words(corpus: list[CorpusText]) -> None:
    for text in corpus:
        words = split_words(text.text)
        starts, ends = {start for start, _ in words}, {end for _, end in words}
        for start, end, _ in text.entities or ():
            assert start in starts, f"{text.place}: {text.text[start:end]}"
            assert end in ends, f"{text.place}: {text.text[start:end]}"


def test_tags_say_what_the_marks_say(corpus: list[CorpusText]) -> None:
    for text in corpus:
        row = text.row()
        words = split_words(text.text)
        assert row["tokens"] == [text.text[start:end] for start, end in words]
        assert ("tags" in row) == (text.entities is not None)
        tags = row.get("tags", [])
        assert repair(tags) == (tags, 0)
        found = tuple((words[span.first][0], words[span.end - 1][1], span.label) for span in spans(tags))
        assert found == (text.entities or ()), text.place


def test_marks_leave_no_trace_in_the_text(corpus: list[CorpusText]) -> None:
    for text in corpus:
        assert not set("[]|") & set(text.text), text.place
        assert "](" not in text.text, text.place
        assert text.text == text.text.strip(), text.place


def test_texts_follow_no_template(corpus: list[CorpusText]) -> None:
    openings = Counter(" ".join(text.text.lower().split()[:4]) for text in corpus if len(text.text.split()) > 4)
    assert openings.most_common(1)[0][1] <= 3, openings.most_common(5)


def test_files_hold_all_rows_and_leave_out_empty_cells(corpus: list[CorpusText], tmp_path: Path) -> None:
    counts = write_files(tmp_path / "data")
    assert sum(counts.values()) == len(corpus)
    for split in SPLITS:
        rows = [json.loads(line) for line in (tmp_path / "data" / f"{split}.jsonl").read_text("utf-8").splitlines()]
        assert rows == [text.row() for text in corpus if text.split == split]
        assert len(rows) == counts[split]
        assert all(None not in row.values() for row in rows)


def test_a_line_is_read_with_its_marks_and_empty_cells() -> None:
    text = read_line("review | positive | - | By [Ang Lee](PER), of [Salt](WORK).", "here:1")
    assert (text.sentiment, text.topic, text.text) == ("positive", None, "By Ang Lee, of Salt.")
    assert text.entities == ((3, 10, "PER"), (15, 19, "WORK"))
    assert read_line("news | - | film | ~ Ang Lee again.", "here:2").entities is None
