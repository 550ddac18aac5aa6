"""Spans that may be nested: their places, their scores, what is learned from them, and what is answered."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from polytask.data.annotations import nest_words
from polytask.tasks import METRICS, TASKS, LabelStats, span_losses
from polytask.tasks.bio import Span
from polytask.tasks.nested import LEVELS, TokenPlaces, join_spans, relation, spans_of
from polytask.tasks.span_decoding import SpanDecoding
from polytask.tasks.span_scores import scores_of
from polytask.tasks.spans import Spans

LABELS = ("LOC", "ORG", "PER")
LENGTHS = [4, 0, 1, 7, 3]
SIZE = 3


def task(*, longest: int = 3, overlap: str = "any", **options: Any) -> Spans:
    fitted = {"classes": list(LABELS), "counts": [3, 2, 1], "longest": longest, "overlap": overlap}
    found = TASKS["spans"].from_json("it", {"options": {"type": "spans", "size": SIZE, **options}, "fitted": fitted})
    assert isinstance(found, Spans)
    return found


def drawn(seed: int, lengths: Sequence[int] = LENGTHS) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return what words say, and a table."""
    numbers = np.random.default_rng(seed)
    outputs = numbers.normal(size=(sum(lengths), 2 * SIZE)).astype(np.float32)
    return outputs, numbers.normal(size=(len(LABELS), SIZE + 1, SIZE + 1))


def with_table(outputs: NDArray[np.float32], table: NDArray[np.float64]) -> torch.Tensor:
    """Return what a head gives the loss: outputs, and its table behind them."""
    width = outputs.shape[1]
    flat = table.astype(np.float32).ravel()
    lines = np.concatenate([flat, np.zeros(-len(flat) % width, np.float32)]).reshape(-1, width)
    return torch.from_numpy(np.concatenate([outputs, lines]))


def score_of(outputs: NDArray[np.float32], table: NDArray[np.float64], first: int, last: int, label: int) -> float:
    """One span's score, written out: Yu et al. 2020, equation 3."""
    start, end = outputs[first, :SIZE], outputs[last, SIZE:]
    inner = sum(table[label, i, j] * start[i] * end[j] for i in range(SIZE) for j in range(SIZE))
    sides = table[label, :SIZE, SIZE] @ start + table[label, SIZE, :SIZE] @ end
    return float(inner + sides + table[label, SIZE, SIZE])


@st.composite
def rows(draw: st.DrawFn) -> list[str]:
    words = draw(st.integers(1, 9))
    spans = draw(st.lists(st.tuples(st.integers(0, words - 1), st.integers(1, words), st.sampled_from(LABELS))))
    return join_spans((Span(label, at, min(at + size, words)) for at, size, label in spans), words)


@given(label=rows())
def test_spans_survive_being_written(label: list[str]) -> None:
    assert join_spans(spans_of(label), len(label)) == label


@pytest.mark.parametrize("text", ["PER", "2", "0\tPER", "3\tPER", "-1\tPER", "1\tPER\n", "B-PER"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="which is no span"):
        spans_of([text, ""])


@given(label=rows(), data=st.data())
def test_targets_are_the_spans_that_tokens_tell(label: list[str], data: st.DataObject) -> None:
    """Encoded, and read back from the targets: what is left out was counted as lost."""
    kinds = data.draw(st.lists(st.integers(0, 2), min_size=len(label), max_size=len(label)))
    words = [1 if kind == 2 and 1 not in kinds[:at] else kind for at, kind in enumerate(kinds)]
    own = task(longest=9)
    encoded = own.encode(label)
    targets = own.word_targets(np.array(encoded, np.int64), np.array(words))
    places = TokenPlaces.of(words)
    band = targets.reshape(places.count, 9, len(LABELS))
    read = set[Span]()
    for start, length, at in np.argwhere(band == 1).tolist():
        assert start + length < places.count
        read.add(Span(LABELS[at], *places.words(start, start + length)))
    kept = read & set(spans_of(label))
    assert len(kept) == len(encoded) // 3 - own.lost_words(encoded, words)
    for start, length in itertools.product(range(places.count), range(9)):
        assert (band[start, length] == -100).all() == (start + length >= places.count)
    if words == [1] * len(words):
        assert kept == set(spans_of(label))
        scores = np.where(band == 1, 5.0, -5.0).astype(np.float32)
        decoding = SpanDecoding(LABELS, np.zeros((len(LABELS), SIZE + 1, SIZE + 1), np.float32), 9, "any")
        assert {span for span, _ in decoding.row_spans(scores, places, 0.0)} == kept


@pytest.mark.parametrize("longest", [1, 3, 9])
def test_scores_are_those_written_out_in_torch_and_numpy(longest: int) -> None:
    outputs, table = drawn(1)
    own = task(longest=longest)
    band = own._band(with_table(outputs, table)).reshape(-1, longest, len(LABELS))  # pyright: ignore[reportPrivateUsage]
    parts = [scores for _, scores in scores_of(outputs, LENGTHS, table.astype(np.float32), longest)]
    scores = np.concatenate(parts)
    assert scores.shape == (len(outputs), longest, len(LABELS))
    start = 0
    for words in LENGTHS:
        for first, length, label in itertools.product(range(words), range(longest), range(len(LABELS))):
            at = start + first
            if first + length >= words:
                assert scores[at, length, label] == -np.inf
                continue
            expected = score_of(outputs, table, at, at + length, label)
            assert scores[at, length, label] == pytest.approx(expected, abs=1e-4)
            assert float(band[at, length, label]) == pytest.approx(expected, abs=1e-4)
        start += words


def batch_targets(own: Spans, labels: Sequence[list[str]]) -> torch.Tensor:
    found = [own.word_targets(np.array(own.encode(label), np.int64), np.ones(len(label), int)) for label in labels]
    return torch.from_numpy(np.concatenate(found))


LABELLED = [
    ["2\tPER\n1\tLOC", "", "2\tORG", ""],
    [],
    ["1\tPER"],
    ["3\tORG", "1\tLOC", "1\tLOC", "", "", "2\tNEW", ""],
    [""] * 3,
]


def test_loss_is_of_the_spans_that_begin_at_a_word_and_adds_up_over_rows() -> None:
    outputs, table = drawn(2)
    own = task()
    expected, start = 0.0, 0
    sums = torch.zeros(())
    for words, label in zip(LENGTHS, LABELLED, strict=True):
        true = set(spans_of(label))
        for first in range(words):
            absent, present = [0.0], [0.0]
            for length, at in itertools.product(range(min(3, words - first)), range(len(LABELS))):
                score = score_of(outputs, table, start + first, start + first + length, at)
                right = Span(LABELS[at], first, first + length + 1) in true
                (present if right else absent).append(-score if right else score)
            expected += float(np.logaddexp.reduce(absent) + np.logaddexp.reduce(present))
        part = with_table(outputs[start : start + words], table)
        sums = sums + own.loss(part, batch_targets(own, [label]))
        start += words
    targets = batch_targets(own, LABELLED)
    assert float(own.loss(with_table(outputs, table), targets)) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(own.loss(with_table(outputs, table), targets), sums)
    errors, counts = own.training_errors(with_table(outputs, table), targets)
    assert errors.shape == counts.shape == (own.head.size,)
    assert counts.tolist() == [3, 2, 2, 0, 0, 0], "LOC, ORG, PER; what training never had is no span"
    assert ((errors >= 0) & (errors <= counts)).all()


def test_a_teacher_that_is_certain_of_the_labels_is_the_labels() -> None:
    outputs, table = drawn(3)
    own = task()
    targets = batch_targets(own, LABELLED)
    given, certain = with_table(outputs, table), 60.0 * (targets.clamp(min=0).float() * 2 - 1)
    certain[2] = float("nan")
    for share in (0.0, 0.3, 1.0):
        torch.testing.assert_close(own.loss_with_teacher(given, targets, certain, share), own.loss(given, targets))


def test_a_student_that_scores_as_its_teacher_has_nothing_to_learn_from_it() -> None:
    targets = batch_targets(task(), LABELLED)
    logits = 2 * torch.randn(targets.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    nearest = span_losses.distillation_loss(logits, targets, logits)
    for step in (0.0, 0.1, 1.0):
        scores = (logits + step * torch.ones_like(logits).cumsum(1).sin()).requires_grad_()
        found = span_losses.distillation_loss(scores, targets, logits)
        found.backward()
        assert scores.grad is not None
        assert (scores.grad.abs().max() < 1e-12) == (step == 0.0)
        assert float(found.detach()) >= float(nearest)


def test_a_teachers_band_is_cut_or_filled_to_the_students() -> None:
    outputs, table = drawn(4, [5])
    teacher = task(longest=2).with_learned({"pairs": table})
    logits = torch.from_numpy(teacher.as_teacher(outputs))
    assert logits.shape == (5, teacher.teacher_size)
    wider, narrower = task(longest=3), task(longest=1)
    found = wider.convert_teacher_logits(logits, teacher)
    assert torch.equal(found[:, :6], logits)
    assert (found[:, 6:] == -30).all()
    assert torch.equal(narrower.convert_teacher_logits(logits, teacher), logits[:, :3])


@given(seed=st.integers(0, 2**16), overlap=st.sampled_from(LEVELS), data=st.data())
def test_answers_obey_the_overlap_and_hold_the_surest(seed: int, overlap: str, data: st.DataObject) -> None:
    outputs, table = drawn(seed)
    words = [[1] * length for length in LENGTHS]
    words[3] = data.draw(st.permutations([1] * 7 + [0, 2])) if seed % 2 else words[3]
    words[3] = [1 if kind == 2 and 1 not in words[3][:at] else kind for at, kind in enumerate(words[3])]
    extra = sum(kind == 1 for kind in words[3]) - 7
    if extra:
        words[3][words[3].index(1)] = 0
    own = task(longest=4, overlap=overlap).with_learned({"pairs": table})
    free = task(longest=4).with_learned({"pairs": table}).decode(outputs, words)
    for label, everything, row in zip(own.decode(outputs, words), free, words, strict=True):
        assert isinstance(label, list)
        assert isinstance(everything, list)
        assert len(label) == len(row)
        chosen = spans_of(label)
        assert set(chosen) <= set(spans_of(everything))
        for one, other in itertools.combinations(chosen, 2):
            assert relation(one, other) <= LEVELS.index(overlap)
        left_out = set(spans_of(everything)) - set(chosen)
        for span in left_out:
            assert any(relation(span, other) > LEVELS.index(overlap) for other in chosen)


def test_rows_are_answered_alike_in_any_company_and_as_they_are_shown() -> None:
    outputs, table = drawn(6)
    own = task(overlap="nested").with_learned({"pairs": table})
    words = [[1] * length for length in LENGTHS]
    together = own.decode(outputs, words)
    cuts = np.split(outputs, np.cumsum(LENGTHS)[:-1])
    assert together == [own.decode(part, [row])[0] for part, row in zip(cuts, words, strict=True)]
    text = "abcdefg"
    shown = own.format_prediction(cuts[3], text, [(at, at + 1) for at in range(7)], words[3])
    assert json.loads(json.dumps(shown)) == shown
    found = {(one["label"], one["start"], one["end"]) for one in shown}
    assert isinstance(together[3], list)
    assert found == {(span.label, span.first, span.end) for span in spans_of(together[3])}
    assert all(one["text"] == text[one["start"] : one["end"]] and 0.5 <= one["score"] <= 1 for one in shown)


@given(seed=st.integers(0, 2**16), overlap=st.sampled_from(LEVELS))
def test_the_threshold_is_the_best_one_on_dev(seed: int, overlap: str) -> None:
    outputs, table = drawn(seed, [6] * 8)
    own = task(overlap=overlap).with_learned({"pairs": table})
    words = [[1] * 6] * 8
    # Labels that go with the scores, so that there is something to find: what another threshold answers, and less.
    labels = replace(own, cut=1.0).decode(outputs, words)
    labels[::3] = [[""] * 6] * len(labels[::3])
    found, notes = own.tuned(outputs, labels, words)
    f1 = METRICS["word"]["span_f1"]

    def score(cut: float | None) -> float:
        return f1(labels, replace(own, cut=cut).decode(outputs, words)) or 0.0

    if sum(len(spans_of(label)) for label in labels) < 10:
        assert found.cut is None
        assert "stays at 0.5" in notes[0]
        return
    assert score(found.cut) >= max(map(score, [None, *np.linspace(-2.9, 4.0, 40)])) - 1e-9
    assert TASKS["spans"].from_json("it", json.loads(json.dumps(found.to_json()))).to_json() == found.to_json()
    assert found.describe_tuned() == {"threshold": pytest.approx(1 / (1 + np.exp(-found.cut)), abs=1e-5)}
    assert found.tuned(outputs, labels, words)[0].cut == found.cut


def test_a_given_threshold_stays() -> None:
    outputs, table = drawn(3)
    own = task(threshold=0.8).with_learned({"pairs": table})
    words = [[1] * length for length in LENGTHS]
    assert own.tuned(outputs, [[""] * length for length in LENGTHS], words) == (own, [])
    shown = [one for row in range(5) if LENGTHS[row] for one in own.format_prediction(
        outputs[sum(LENGTHS[:row]) : sum(LENGTHS[: row + 1])], "abcdefg", [(at, at + 1) for at in range(LENGTHS[row])],
        [1] * LENGTHS[row])]  # fmt: skip
    assert shown
    assert all(one["score"] >= 0.8 for one in shown)


@given(pairs=st.lists(st.integers(1, 6).flatmap(lambda _: st.tuples(rows(), rows())), min_size=1, max_size=6))
def test_scores_are_those_of_sets(pairs: list[tuple[list[str], list[str]]]) -> None:
    labels, found = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    true = {(row, span) for row, label in enumerate(labels) for span in spans_of(label)}
    guess = {(row, span) for row, label in enumerate(found) for span in spans_of(label)}
    right = len(true & guess)
    expected = {
        "span_precision": right / len(guess) if guess else 0.0,
        "span_recall": right / len(true) if true else 0.0,
        "span_f1": 2 * right / (len(true) + len(guess)) if true or guess else 0.0,
    }
    for name, value in expected.items():
        metric = METRICS["word"][name]
        assert metric(labels, found) == pytest.approx(value)
        once = np.ones((1, len(labels)), np.int64)
        assert metric.over_weights(labels, found)(once)[0] == pytest.approx(value)
    matrix = task().confusion_pairs(labels, found)
    assert sum(one == other for one, other in matrix) == right
    assert sum(one != "O" for one, _ in matrix) == len(true)
    assert sum(other != "O" for _, other in matrix) == len(guess)


def test_a_table_survives_json_and_one_that_is_none_is_refused() -> None:
    outputs, table = drawn(7)
    own = task().with_learned({"pairs": table})
    told = json.loads(json.dumps(own.to_json()))
    again = TASKS["spans"].from_json("it", told)
    assert again == own
    words = [[1] * length for length in LENGTHS]
    assert again.decode(outputs, words) == own.decode(outputs, words)
    for wrong in ("AAAA", "?", told["tuned"]["table"][:-8]):
        with pytest.raises(ValueError):  # noqa: PT011 - of base64, or of the shape
            TASKS["spans"].from_json("it", {**told, "tuned": {"table": wrong}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_span": 0}, "at least 1 word"),
        ({"max_span": 513}, "at most 512"),
        ({"max_span": "long"}, "max_span"),
        ({"overlap": "some"}, "overlap"),
        ({"size": 0}, "size"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TASKS["spans"].Options.model_validate({"type": "spans", **options})


def fitted(cells: Sequence[Any], **options: Any) -> tuple[Spans, LabelStats]:
    kind, stats = TASKS["spans"], LabelStats()
    chosen = kind.Options.model_validate({"type": "spans", **options})
    for cell in cells:
        tagged = nest_words("a b c d e f g h", cell, None, strict=False)
        stats.present += kind.read(chosen, {"tokens": tagged.tokens, "spans": tagged.tags}, stats) is not None
    found = kind.fit("it", chosen, stats)
    assert isinstance(found, Spans)
    return found, stats


def test_the_longest_span_and_the_overlap_are_those_of_the_training_rows() -> None:
    for cells, overlap in (
        ([[[0, 3, "A"], [4, 5, "B"]]], "none"),
        ([[[0, 3, "A"]], [[0, 3, "A"], [2, 3, "B"]]], "nested"),
        ([[[0, 3, "A"], [0, 3, "B"]]], "nested"),
        ([[[0, 3, "A"], [2, 5, "B"]]], "any"),
    ):
        found, stats = fitted(cells)
        assert (found.overlap, found.longest) == (overlap, 2)
        assert list(found.notes_on(stats)) == [f"spans have up to 2 words (`max_span`); overlap: {overlap}"]
    found, stats = fitted([[[0, 1, "A"]]] * 500 + [[[0, 15, "A"]]])
    assert found.longest == 1
    assert list(found.notes_on(stats)) == [
        "spans have up to 1 words (`max_span`); 1 spans are longer and cannot be found; overlap: none"
    ]
    assert fitted([[[0, 1, "A"]]], max_span=5, overlap="any")[0].longest == 5
    task, _ = fitted([[[0, 1, "A"]]])
    with pytest.raises(ValueError, match="longest"):  # of a folder that somebody wrote: memory goes by it
        replace(task, longest=10**9).require_sound({})
    assert LabelStats.from_json(json.loads(json.dumps(stats.to_json()))) == stats
    with pytest.raises(ValueError, match="hold no span at all"):
        fitted([[]])


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ([[0, 1], [4, 5], "A"], "a span of several parts"),
        ({"fragments": [[0, 1], [4, 5]], "label": "A"}, "a span of several parts"),
        ({"start": [0, 4], "end": [1, 5], "label": "A"}, "a span of several parts"),
        ([3, 2, "A"], "ends before it begins"),
        ([0, 99, "A"], "lies outside the text"),
        ([0, 1, "A\nB"], "a label is one line"),
        ([0, 1, "B-A"], "the tag of a word"),
    ],
)
def test_spans_that_are_not_read_say_why(span: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nest_words("a b c d", [span], None, strict=False)


def test_spans_of_several_labels_and_cut_words_are_read() -> None:
    found = nest_words(
        "New York", [{"start": 0, "end": 6, "labels": ["A", "B"]}, [0, 3, "A"], [0, 3, "A"]], None, strict=False
    )
    assert found.tags == ["2\tA\n2\tB\n1\tA", ""]
    assert sorted(remark.split("{")[1][:5] for remark in found.remarks) == ["count"] * 3
    with pytest.raises(ValueError, match="cuts the word 'York'"):
        nest_words("New York", [[0, 6, "A"]], None, strict=True)


def test_tags_are_refused_with_the_type_that_reads_them() -> None:
    kind = TASKS["spans"]
    options = kind.Options.model_validate({"type": "spans"})
    for cell in (["B-A", "O"], "B-A O", 3):
        with pytest.raises(ValueError, match="use `type: tagging`"):
            kind.read(options, {"tokens": ["a", "b"], "spans": cell}, LabelStats())
    assert kind.read(options, {"tokens": ["a", "b"], "spans": None}, LabelStats()) is None


@pytest.mark.slow
def test_memory_is_linear_in_the_length_of_a_text() -> None:
    words, longest = 20_000, 4  # of which a table of all pairs would have 400 million
    outputs, table = drawn(8, [words])
    own = task(longest=longest).with_learned({"pairs": table - 5})
    tracemalloc.start()
    own.decode(outputs, [[1] * words])
    assert tracemalloc.get_traced_memory()[1] < 64e6
    tracemalloc.stop()
    assert own._band(with_table(outputs, table)).shape == (words, longest * len(LABELS))  # pyright: ignore[reportPrivateUsage]


def test_a_rows_weight_is_the_weight_of_its_spans() -> None:
    found, (outputs, table) = task(), drawn(9)
    cuts = np.cumsum([0, *LENGTHS])
    kinds = [np.ones(length, np.int64) for length in LENGTHS]
    spans = [[0, min(2, length), 1] if length else [] for length in LENGTHS]
    targets = [
        torch.from_numpy(found.word_targets(np.array(one, np.int64), kind))
        for one, kind in zip(spans, kinds, strict=True)
    ]
    heavy = [2.0, 1.0, 0.0, 0.5, 2.0]
    weights = torch.tensor(np.repeat(heavy, LENGTHS), dtype=torch.float32)
    expected = sum(
        weight * float(found.loss(with_table(outputs[cuts[at] : cuts[at + 1]], table), targets[at]))
        for at, weight in enumerate(heavy)
        if LENGTHS[at]
    )
    whole = found.weighed_loss(with_table(outputs, table), torch.cat(targets), weights)
    assert float(whole) == pytest.approx(expected, rel=1e-5)
