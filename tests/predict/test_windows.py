"""Long texts in windows: nothing is left out, nothing counts twice, and a text that fits is answered as ever."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import polytask as pt
from polytask.data.engine import RowOutputs
from polytask.data.tokens import Tokenization, TokenRow
from polytask.data.windows import OVERLAP, WindowEngine, count_windows, cut, starts_of
from polytask.data.words import split_words
from polytask.errors import ConfigError
from polytask.tasks import TASKS, LabelStats, Task
from polytask.tasks.arrays import sigmoid, softmax
from samples import corpus_rows, write_jsonl

MOST = 16


@pytest.fixture(scope="module")
def tokens(minilm: str) -> Tokenization:
    return Tokenization.read(Path(minilm, "tokenizer.json"), MOST, type_ids=True)


def fit(kind: str, cells: Sequence[Any]) -> Task:
    stats, type_ = LabelStats(), TASKS[kind]
    known = type_.Options.model_validate({"type": kind})
    for cell in cells:
        type_.read(known, {type_.columns(known)[-1]: cell, "tokens": ["a", "b"]}, stats)
        stats.present += 1
    return type_.fit(kind, known, stats)


TYPES = {
    "classification": fit("classification", ["x", "y", "z"]),
    "multilabel": fit("multilabel", [["x", "y"], ["z"]]),
    "regression": fit("regression", [1.0, 4.0]),
    "tagging": fit("tagging", [["X", "Y"], ["Z", "Z"]]),
}


class Echo:
    """An engine whose outputs tell what it read: at word level the token's id, at row level the window's ids."""

    def __init__(self) -> None:
        self.seen: list[TokenRow] = []

    def run(self, rows: Sequence[TokenRow], tasks: Sequence[tuple[str, ...]]) -> list[RowOutputs]:
        self.seen += rows
        return [{name: self._say(row, TYPES[name]) for name in names} for row, names in zip(rows, tasks, strict=True)]

    def _say(self, row: TokenRow, task: Task) -> Any:
        if task.level == "word":
            at = [token for token in row.word_tokens if token >= 0]
            return np.array([[row.ids[token]] * task.head.size for token in at], np.float32).reshape(-1, task.head.size)
        generator = np.random.default_rng(list(row.ids))
        return generator.normal(0, 3, task.head.size).astype(np.float32)

    def describe(self) -> dict[str, Any]:
        return {"runtime": "echo"}


@given(count=st.integers(1, 400), size=st.integers(1, 60))
def test_windows_cover_every_token_and_overlap_by_a_quarter(count: int, size: int) -> None:
    starts = starts_of(count, size)
    assert starts[0] == 0
    assert len(starts) == 1 if count <= size else starts[-1] + size == count
    for before, after in pairwise(starts):
        assert before < after <= before + size - int(OVERLAP * size)


def one(tokens: Tokenization, text: str) -> TokenRow:
    return tokens.rows([text], None, [split_words(text)])[0]


@settings(max_examples=30)
@given(words=st.lists(st.sampled_from(["word", "unbelievably", "a", "\x00", "Zürich", "!"]), min_size=1, max_size=60))
def test_each_word_is_read_once_where_it_has_most_context(tokens: Tokenization, words: list[str]) -> None:
    text = " ".join(words)
    row, (first, last) = one(tokens.whole, text), tokens.frame
    found = cut(row, MOST, tokens.frame)
    length, size = len(row.ids) - first - last, MOST - first - last
    assert sum(found.new) == length
    assert len(found.rows) == count_windows(row, tokens)
    kept = [token for token in row.word_tokens if token >= 0]
    assert sorted(word for own in found.words for word in own.tolist()) == list(range(len(kept)))
    if length <= size:
        assert found.rows == [row]
        return
    assert all(len(window.ids) == MOST for window in found.rows)
    starts = starts_of(length, size)

    def context(token: int, start: int) -> float:
        left = token - start if start else np.inf
        right = start + size - 1 - token if start + size < length else np.inf
        return min(left, right)

    for number, (window, own) in enumerate(zip(found.rows, found.words, strict=True)):
        at = [token for token in window.word_tokens if token >= 0]
        assert [window.ids[token] for token in at] == [row.ids[kept[word]] for word in own]
        for word in own:
            token = kept[word] - first
            assert context(token, starts[number]) == max(
                context(token, start) for start in starts if start <= token < start + size
            )


def test_the_first_window_is_what_truncation_reads(tokens: Tokenization) -> None:
    for text in ("a few words", "many words " * 30):
        short, whole = one(tokens, text), one(tokens.whole, text)
        window = cut(whole, MOST, tokens.frame).rows[0]
        assert (list(window.ids), window.type_ids) == (list(short.ids), short.type_ids)
        assert short.truncated == (count_windows(whole, tokens) > 1)
        assert not whole.truncated


def test_words_come_back_in_their_order_and_rows_as_weighted_means(tokens: Tokenization) -> None:
    texts = ["short text", "an unbelievably long text of many Zürich words " * 9, "word " * 14]
    rows = [one(tokens.whole, text) for text in texts]
    echo = Echo()
    names = tuple(TYPES)
    outputs = WindowEngine(echo, TYPES, tokens).run(rows, [names] * 3)
    assert max(len(row.ids) for row in echo.seen) == MOST
    for row, found in zip(rows, outputs, strict=True):
        kept = [token for token in row.word_tokens if token >= 0]
        assert found["tagging"][:, 0].tolist() == [row.ids[token] for token in kept]
        windows = cut(row, MOST, tokens.frame)
        weights = np.array(windows.new) / sum(windows.new)
        single = echo.run(windows.rows, [names] * len(windows.rows))
        for name, shown in (("classification", softmax), ("multilabel", sigmoid), ("regression", np.asarray)):
            expected = weights @ np.stack([shown(one[name]) for one in single])  # type: ignore[operator]
            assert shown(found[name]) == pytest.approx(expected, abs=1e-5)  # type: ignore[operator]
    assert outputs[0]["classification"].tolist() == echo.run(rows[:1], [names])[0]["classification"].tolist()


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
def test_averages_are_of_what_is_shown_and_stay_finite(temperature: float) -> None:
    from dataclasses import replace

    outputs = np.array([[200.0, -200.0, 0.0], [-200.0, 200.0, 1.0]], np.float32)
    weights = np.array([0.25, 0.75])
    for name, shown in (("classification", softmax), ("multilabel", sigmoid)):
        task = replace(TYPES[name], temperature=temperature)  # type: ignore[type-var]
        found = task.averaged(outputs, weights)
        assert np.isfinite(found).all()
        expected = weights @ shown((outputs / temperature).astype(np.float64))
        assert shown((found / temperature).astype(np.float64)) == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("windows")
    write_jsonl(folder / "rows.jsonl", corpus_rows(30))
    pairs = [{"a": row["text"], "b": row["text"], "same": index % 2} for index, row in enumerate(corpus_rows(30))]
    write_jsonl(folder / "pairs.jsonl", pairs)
    return folder


@pytest.fixture(scope="module")
def model(files: Path, tiny: Path) -> pt.Model:
    rows = {"train": str(files / "rows.jsonl"), "dev": 0.2}
    pairs = {"train": str(files / "pairs.jsonl"), "dev": 0.2}
    values = {
        "encoder": str(tiny),
        "max_tokens": 20,
        "tasks": {
            "sentiment": {"type": "classification", "data": rows, "label": "sentiment"},
            "tags": {"type": "tagging", "data": rows, "scheme": "plain"},
            "same": {"type": "classification", "data": pairs, "text_pair": ["a", "b"], "label": "same"},
        },
        "train": {"max_steps": 2, "batch_size": 8, "precision": "fp32"},
    }
    return pt.train(values).model


def test_a_text_that_fits_is_answered_as_without_windows(model: pt.Model) -> None:
    texts = ["", "a few words", "Ang Lee in Leeds", "\x00"]
    assert list(model.answers(texts, long="windows")) == list(model.answers(texts))


def test_a_long_text_has_a_tag_for_every_word(model: pt.Model) -> None:
    text = "The phone died after two days in Leeds . " * 8
    cut_off, whole = (next(model.answers([text], ["tags", "sentiment"], long=long)) for long in ("truncate", "windows"))
    assert (cut_off.truncated, cut_off.windows) == (True, 1)
    assert not whole.truncated
    assert whole.to_json()["windows"] == whole.windows > 4
    assert len(whole.predictions["tags"]) == 72
    assert all(item["score"] > 0 for item in whole.predictions["tags"])
    assert sum(item["score"] == 0 for item in cut_off.predictions["tags"]) > 50
    assert sum(whole.predictions["sentiment"]["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_pair_is_truncated_and_flagged(model: pt.Model) -> None:
    pair = ("many words " * 20, "others " * 20)
    found = [next(model.answers([pair], ["same"], long=long)) for long in ("truncate", "windows")]
    assert found[0] == found[1]
    assert found[1].truncated


def test_scores_of_whole_texts_are_those_of_their_answers(model: pt.Model, files: Path) -> None:
    rows = corpus_rows(30)
    labelled = [row for row in rows if "sentiment" in row]
    scores = pt.evaluate(model, {"sentiment": str(files / "rows.jsonl")}, long="windows").scores
    found = model.predict([row["text"] for row in labelled], ["sentiment"], long="windows")
    right = sum(one["sentiment"]["label"] == row["sentiment"] for one, row in zip(found, labelled, strict=True))
    assert scores["sentiment"]["accuracy"] == pytest.approx(right / len(labelled))


def test_an_unknown_way_is_refused(model: pt.Model) -> None:
    with pytest.raises(ConfigError, match="found 'window'; accepted: truncate, windows; did you mean 'windows'"):
        model.predict(["a"], long="window")  # type: ignore[arg-type]
