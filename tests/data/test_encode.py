"""Token ids: every word finds its own first token, every label its target, and nothing is tokenised twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.data import encode
from polytask.data.encode import Source, encode_table
from polytask.data.prepare import read_tables
from polytask.data.tokens import Tokenization, TokenRow
from polytask.data.words import join_words, split_words
from polytask.tasks import TaskOptions
from polytask.terms import WordSpan

Build = Callable[..., TaskOptions]
Write = Callable[..., str]

LETTERS = st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("ab '.-@#中文é\u0301\u200b\u2028\x00😀ß"))
texts = st.text(LETTERS, max_size=40)


@cache
def tokenization(tokenizer: Any, max_tokens: int) -> Tokenization:
    """Make it once for all examples: it is read from the text of a vocabulary."""
    return Tokenization.of(tokenizer, max_tokens)


def sources_of(tokenizer: Any, max_tokens: int = 32, **tasks: TaskOptions) -> list[Source]:
    tables = read_tables(tasks)
    tokens = Tokenization.of(tokenizer, max_tokens)
    return [encode_table(table, tables.tasks, tokens) for table in tables.tables["train"]]


def rows_of(tokenizer: Any, max_tokens: int, *inputs: Any) -> list[TokenRow]:
    return tokenization(tokenizer, max_tokens).rows(*inputs)


def check_words(tokenizer: Any, text: str, words: list[WordSpan], found: list[int], max_tokens: int) -> None:
    """A word's token is the first of the text's tokens with a character in common, which one word reads.

    -1 says that there is none, -2 that the word before reads it.
    """
    encoding = tokenizer(text, truncation=True, max_length=max_tokens).encodings[0]
    kept = [at for at, sequence in enumerate(encoding.sequence_ids) if sequence == 0]
    read = {-1}
    for word, token in zip(words, found, strict=True):
        touching = [at for at in kept if encoding.offsets[at][0] < word[1] and word[0] < encoding.offsets[at][1]]
        first = touching[0] if touching else -1
        assert token == (-2 if first in read - {-1} else first)
        read.add(first)


@given(text=texts, max_tokens=st.integers(3, 30))
def test_a_word_reads_the_first_token_that_covers_a_part_of_it(text: str, max_tokens: int, tokenizer: Any) -> None:
    words = split_words(text)
    (row,) = rows_of(tokenizer, max_tokens, [text], None, [words])
    check_words(tokenizer, text, words, list(row.word_tokens), max_tokens)
    assert len(row.ids) <= max_tokens
    assert row.truncated == (len(tokenizer(text)["input_ids"]) > max_tokens)


@given(tokens=st.lists(st.text(LETTERS, max_size=8), max_size=8), max_tokens=st.integers(3, 30))
def test_given_tokens_read_tokens_of_their_own(tokens: list[str], max_tokens: int, tokenizer: Any) -> None:
    text, words = join_words(tokens)
    (row,) = rows_of(tokenizer, max_tokens, [text], None, [words])
    check_words(tokenizer, text, words, list(row.word_tokens), max_tokens)
    assert all(token < len(row.ids) - 1 for token in row.word_tokens)  # never the closing one


def test_the_token_of_a_word_lies_inside_it_and_no_two_words_share_one(tokenizer: Any) -> None:
    text = "Björk's unbelievable U.S. tour — 我爱北京 @ann #now: 3.5% 😀"
    words = split_words(text)
    (row,) = rows_of(tokenizer, 64, [text], None, [words])
    encoding = tokenizer(text).encodings[0]
    for word, token in zip(words, row.word_tokens, strict=True):
        start, end = encoding.offsets[token]
        assert word[0] == start
        assert end <= word[1]
    assert len(set(row.word_tokens)) == len(words)


def test_words_that_the_tokenizer_drops_or_cuts_off_have_no_token(tokenizer: Any) -> None:
    tokens = ["go", "\x00", "\u200b", "\ufe0f", "", "now", "and", "then"]
    text, words = join_words(tokens)
    (whole,) = rows_of(tokenizer, 32, [text], None, [words])
    assert list(whole.word_tokens) == [1, -1, -1, -1, -1, 2, 3, 4]
    (cut,) = rows_of(tokenizer, 4, [text], None, [words])
    assert list(cut.word_tokens) == [1, -1, -1, -1, -1, 2, -1, -1]
    assert (whole.truncated, cut.truncated) == (False, True)


@given(rows=st.lists(st.tuples(texts, st.one_of(st.none(), texts)), min_size=1, max_size=5))
def test_a_row_is_tokenised_as_if_it_were_alone(rows: list[tuple[str, str | None]], tokenizer: Any) -> None:
    columns = {
        "text": [text for text, _ in rows],
        "pair": [pair for _, pair in rows],
        "starts": [None] * len(rows),
        "ends": [None] * len(rows),
    }
    batch = encode._encode(columns, {}, tokenization(tokenizer, 16), encode._schema({}))
    for (text, pair), row in zip(rows, batch.to_pylist(), strict=True):
        # In a list: transformers takes an empty second text outside of one for none.
        inputs = [text], None if pair is None else [pair]
        alone = tokenizer(*inputs, truncation=True, max_length=16)
        assert (row["ids"], row["type_ids"]) == (alone["input_ids"][0], alone["token_type_ids"][0])
        assert row["length"] == len(row["ids"]) <= 16
        assert row["truncated"] == (len(tokenizer(*inputs)["input_ids"][0]) > 16)


def test_words_of_a_pair_are_those_of_the_first_text(tokenizer: Any) -> None:
    words = split_words("one two")
    (row,) = rows_of(tokenizer, 16, ["one two"], ["two one"], [words])
    assert list(row.word_tokens) == [1, 2]
    assert list(row.type_ids or ()) == [0, 0, 0, 0, 1, 1, 1]


def test_labels_become_targets_and_rows_without_them_carry_nothing(
    options: Build, jsonl: Write, tokenizer: Any
) -> None:
    path = jsonl(
        [
            {"text": "a b", "label": "y", "score": 1, "labels": ["p"], "tokens": ["a", "b"], "tags": ["O", "B-X"]},
            {"text": "c", "score": 3, "tokens": ["c"]},
            {"text": "d e", "label": "x", "labels": ["p", "q"], "tokens": ["d", "e"], "tags": ["B-X", "O"]},
        ]
    )
    kinds = ("classification", "multilabel", "regression", "tagging")
    (source,) = sources_of(tokenizer, **{kind: options(kind, path, dev=path) for kind in kinds})
    assert {name: rows.tolist() for name, rows in source.carries.items()} == {
        "classification": [0, 2], "multilabel": [0, 2], "regression": [0, 1], "tagging": [0, 2],
    }  # fmt: skip
    assert [int(source.targets["classification"][row]) for row in (0, 2)] == [1, 0]
    assert [source.targets["multilabel"][row].tolist() for row in (0, 2)] == [[1, 0], [1, 1]]
    assert [float(source.targets["regression"][row]) for row in (0, 1)] == [-1, 1]
    assert [source.targets["tagging"][row].tolist() for row in (0, 2)] == [[0, 1], [1, 0]]
    assert [source.word_tokens[row].tolist() for row in range(3)] == [[1, 2], [1], [1, 2]]
    assert source.lengths.tolist() == [len(source.ids[row]) for row in range(len(source))]


def test_rows_keep_their_order_across_the_batches_of_the_encoder(
    options: Build, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "_BATCH", 3)
    rows = [{"text": "word " * at, "label": "xy"[at % 2]} for at in range(1, 11)]
    (source,) = sources_of(tokenizer, it=options("classification", rows, dev=rows))
    assert source.lengths.tolist() == [at + 2 for at in range(1, 11)]
    assert [len(source.ids[row]) for row in range(10)] == source.lengths.tolist()
    assert source.targets["it"].tolist() == [1, 0] * 5


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of texts whenever texts are tokenised."""
    calls: list[int] = []
    inner = Tokenization.rows

    def rows(self: Tokenization, texts: Sequence[str], *rest: Any) -> list[TokenRow]:
        calls.append(len(texts))
        return inner(self, texts, *rest)

    monkeypatch.setattr(Tokenization, "rows", rows)
    return calls


def test_rows_are_tokenised_once_and_again_only_when_something_changed(
    options: Build, jsonl: Write, tokenizer: Any, counted: list[int]
) -> None:
    rows = [{"text": "a b c d", "label": "x"}, {"text": "e", "label": "y"}]
    path = jsonl(rows)
    chosen = options("classification", path, dev=rows)
    first, second = (sources_of(tokenizer, it=chosen)[0] for _ in range(2))
    assert len(counted) == 1
    assert [first.ids[row].tolist() for row in range(2)] == [second.ids[row].tolist() for row in range(2)]
    assert np.array_equal(first.targets["it"], second.targets["it"])
    assert int(sources_of(tokenizer, max_tokens=4, it=chosen)[0].truncated.sum()) == 1
    assert len(counted) == 2
    jsonl([*rows, {"text": "new", "label": "x"}])
    assert len(sources_of(tokenizer, it=chosen)[0]) == 3
    assert len(counted) == 3
    tables = read_tables({"it": chosen})
    other = Tokenization(tokenizer.backend_tokenizer, 32, type_ids=False)
    encode_table(tables.tables["train"][0], tables.tasks, other)
    assert len(counted) == 4


def test_options_of_learning_read_and_tokenise_nothing_again(
    options: Build, jsonl: Write, tokenizer: Any, counted: list[int]
) -> None:
    rows = [{"text": "a b c d", "label": "x"}, {"text": "e", "label": "y"}]
    path = jsonl(rows)
    learning = {"dropout": 0.5, "weight": 3.0, "metric": "mcc", "label_smoothing": 0.1, "class_weights": "balanced"}
    chosen = options("classification", path, dev=rows)
    sources_of(tokenizer, it=chosen)
    sources_of(tokenizer, it=chosen.model_copy(update=learning))
    assert len(counted) == 1
    assert chosen.reading() == chosen.model_copy(update=learning).reading()
    assert chosen.reading() != chosen.model_copy(update={"label": "text"}).reading()


@settings(max_examples=30)
@given(text=st.text(LETTERS, min_size=1, max_size=20))
def test_any_text_has_its_special_tokens(text: str, tokenizer: Any) -> None:
    for given_text in (text, "", "\x00"):
        (row,) = rows_of(tokenizer, 8, [given_text], None, [None])
        assert (row.ids[0], row.ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert list(row.word_tokens) == []
