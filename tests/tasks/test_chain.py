"""Chains of tags: the best path, the partition and the marginals are those of all paths counted one by one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polytask.tasks import TASKS, LabelStats, chain
from polytask.tasks import crf as losses
from polytask.tasks.arrays import Floats
from polytask.tasks.bio import repair
from polytask.tasks.chain import Transitions, best_paths, log_marginals, scheme_transitions
from polytask.tasks.task import Task

BIO = ("O", "B-A", "I-A", "B-B", "I-B")
LENGTHS = [4, 0, 1, 3, 4, 2]


def tagging(**options: Any) -> Task:
    fitted = {"tagset": list(BIO), "counts": [9, 2, 1, 2, 1], "bio": True}
    return TASKS["tagging"].from_json("it", {"options": {"type": "tagging", **options}, "fitted": fitted})


def drawn(seed: int, lengths: Sequence[int] = LENGTHS, scale: float = 2.0) -> tuple[Floats, Floats]:
    """Return emissions and a table of transitions."""
    numbers = np.random.default_rng(seed)
    emissions = numbers.normal(0, scale, (sum(lengths), len(BIO))).astype(np.float32).astype(np.float64)
    return emissions, numbers.normal(0, scale, (len(BIO) + 2, len(BIO))).astype(np.float32).astype(np.float64)


def rows_of(emissions: Floats, lengths: Sequence[int] = LENGTHS) -> Iterator[Floats]:
    yield from np.split(emissions, np.cumsum(lengths)[:-1])


def all_paths(emissions: Floats, transitions: Transitions) -> dict[tuple[int, ...], float]:
    """Return the score of every path of a row, one by one."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(emissions.shape[1]), repeat=len(emissions)):
        score = transitions.start[path[0]] + transitions.end[path[-1]]
        score += sum(emissions[place, tag] for place, tag in enumerate(path))
        found[path] = score + sum(transitions.between[pair] for pair in itertools.pairwise(path))
    return found


def chain_targets(tags: Sequence[int], lengths: Sequence[int] = LENGTHS) -> torch.Tensor:
    begins = [float(place == 0) for length in lengths for place in range(length)]
    return torch.tensor([tags, [int(begin) for begin in begins]]).T


def as_outputs(emissions: Floats, table: Floats) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([emissions, table])).float()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scheme", [True, False], ids=["scheme", "free"])
def test_best_path_and_marginals_are_those_of_all_paths(seed: int, scheme: bool) -> None:
    emissions, table = drawn(seed)
    transitions = Transitions.read(table) + scheme_transitions(BIO, bio=scheme)
    best = best_paths(emissions, LENGTHS, transitions)
    logs = log_marginals(emissions, LENGTHS, transitions)
    at = 0
    for row in rows_of(emissions):
        if len(row):
            paths = all_paths(row, transitions)
            assert tuple(best[at : at + len(row)]) == max(paths, key=lambda path: paths[path])
            weights = {path: np.exp(score) for path, score in paths.items()}
            total = sum(weights.values())
            for place, tag in itertools.product(range(len(row)), range(len(BIO))):
                share = sum(weight for path, weight in weights.items() if path[place] == tag) / total
                assert np.exp(logs[at + place, tag]) == pytest.approx(share, abs=1e-9)
        at += len(row)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 5.0])
def test_marginals_are_the_same_by_products_and_by_sums(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    emissions, table = drawn(12, scale=scale)
    transitions = Transitions.read(table) + scheme_transitions(BIO, bio=True)
    found = log_marginals(emissions, LENGTHS, transitions)
    monkeypatch.setattr(chain, "_SAFE", 0.0)
    np.testing.assert_allclose(found, log_marginals(emissions, LENGTHS, transitions), atol=1e-9)


def test_loss_is_the_likelihood_among_all_paths() -> None:
    emissions, table = drawn(7)
    tags = np.random.default_rng(8).integers(0, len(BIO), len(emissions)).tolist()
    expected, at = 0.0, 0
    for row in rows_of(emissions):
        if len(row):
            paths = all_paths(row, Transitions.read(table))
            expected += np.log(sum(map(np.exp, paths.values()))) - paths[tuple(tags[at : at + len(row)])]
        at += len(row)
    assert float(losses.loss(as_outputs(emissions, table), chain_targets(tags))) == pytest.approx(expected, rel=1e-5)


def test_words_without_a_known_tag_may_have_any() -> None:
    emissions, table = drawn(9, [3])
    paths = all_paths(emissions, Transitions.read(table))
    agreeing = [score for path, score in paths.items() if path[0] == 1 and path[2] == 4]
    expected = np.log(sum(map(np.exp, paths.values()))) - np.log(sum(map(np.exp, agreeing)))
    found = losses.loss(as_outputs(emissions, table), chain_targets([1, -100, 4], [3]))
    assert float(found) == pytest.approx(expected, rel=1e-5)
    nothing = as_outputs(emissions, table).requires_grad_()
    losses.loss(nothing, chain_targets([-100] * 3, [3])).backward()
    assert nothing.grad is not None
    assert nothing.grad.abs().max() < 1e-5


def test_a_chain_without_transitions_is_the_plain_softmax() -> None:
    emissions, table = drawn(3)
    plain, chain = tagging(), tagging(crf=True)
    tags = np.random.default_rng(4).integers(0, len(BIO), len(emissions))
    tags[2] = -100
    outputs, targets = as_outputs(emissions, 0 * table), chain_targets(tags.tolist())
    words, own = torch.from_numpy(emissions).float(), torch.from_numpy(tags)
    torch.testing.assert_close(chain.loss(outputs, targets), plain.loss(words, own))
    assert chain.loss_denominator(targets) == plain.loss_denominator(own)
    teacher = torch.randn(words.shape, generator=torch.Generator().manual_seed(5))
    teacher[3] = float("nan")
    for share in (0.0, 0.3, 1.0):
        torch.testing.assert_close(
            chain.loss_with_teacher(outputs, targets, teacher, share),
            plain.loss_with_teacher(words, own, teacher, share),
        )
    for found, expected in zip(chain.training_errors(outputs, targets), plain.training_errors(words, own), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("seed", range(3))
def test_marginals_for_students_and_errors_are_those_of_answers(seed: int) -> None:
    emissions, table = drawn(seed)
    targets = chain_targets([0] * len(emissions))
    found = losses.log_marginals(as_outputs(emissions, table), targets[:, 1])
    expected = log_marginals(emissions, LENGTHS, Transitions.read(table))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_rows_are_answered_and_learned_from_alike_in_any_company() -> None:
    emissions, table = drawn(11, scale=30.0)
    task = tagging(crf=True).with_learned({"transitions": table})
    words = [[1] * length for length in LENGTHS]
    rows: list[Any] = [row.astype(np.float32) for row in rows_of(emissions)]
    alone = [task.decode(row, [one])[0] for row, one in zip(rows, words, strict=True)]
    assert task.decode(emissions.astype(np.float32), words) == alone
    order = [3, 0, 5, 1, 4, 2]
    together = task.decode(np.concatenate([rows[at] for at in order]), [words[at] for at in order])
    assert together == [alone[at] for at in order]
    tags, numbers = [], np.random.default_rng(2)
    sums = torch.zeros(())
    for row in rows:
        own = numbers.integers(0, len(BIO), len(row)).tolist()
        tags += own
        sums = sums + losses.loss(as_outputs(row, table), chain_targets(own, [len(row)]))
    torch.testing.assert_close(losses.loss(as_outputs(emissions, table), chain_targets(tags)), sums)


ROW = st.lists(st.integers(0, 2), max_size=9)


@given(rows=st.lists(ROW, max_size=5), seed=st.integers(0, 2**16), scale=st.sampled_from([0.0, 1.0, 1e3, 1e30]))
def test_no_answer_is_an_invalid_sequence(rows: list[list[int]], seed: int, scale: float) -> None:
    numbers = np.random.default_rng(seed)
    # A shared token is that of a word before.
    words = [[1 if word == 2 and 1 not in row[:at] else word for at, word in enumerate(row)] for row in rows]
    count = sum(word == 1 for row in words for word in row)
    outputs = (scale * numbers.normal(size=(count, len(BIO)))).astype(np.float32)
    table = numbers.normal(0, 5, (len(BIO) + 2, len(BIO)))
    for task in (tagging(decode="greedy"), tagging(), tagging(crf=True).with_learned({"transitions": table})):
        answers = task.decode(outputs, words)
        assert [len(tags) for tags in answers if isinstance(tags, list)] == [len(row) for row in words]
        for tags in answers:
            assert isinstance(tags, list)
            assert repair(tags) == (tags, 0)
        certain = task.certainty(outputs, [["O"] * len(row) for row in words], words)
        assert certain is not None
        assert ((certain[0] >= 0) & (certain[0] <= 1 + 1e-9)).all()


def test_viterbi_changes_nothing_where_the_best_tags_are_a_valid_sequence() -> None:
    outputs = np.full((4, len(BIO)), -3, np.float32)
    outputs[range(4), [1, 2, 0, 3]] = 3
    assert tagging(decode="viterbi").decode(outputs, [[1] * 4]) == tagging(decode="greedy").decode(outputs, [[1] * 4])


def test_an_entity_that_lacks_its_beginning_gets_it_where_that_costs_least() -> None:
    # I-A, I-A: greedy makes the first one B-A; the best valid sequence may be another one.
    outputs = np.array([[2.0, -5, 2.1, -5, -5], [0, -5, 0.2, -5, -5]], np.float32)
    assert tagging(decode="greedy").decode(outputs, [[1, 1]]) == [["B-A", "I-A"]]
    assert tagging().decode(outputs, [[1, 1]]) == tagging(decode="viterbi").decode(outputs, [[1, 1]]) == [["O", "O"]]


def test_words_that_share_a_token_go_on_with_its_entity() -> None:
    outputs = np.full((2, len(BIO)), -3, np.float32)
    outputs[[0, 1], [1, 2]] = 3
    for task in (tagging(decode="viterbi"), tagging(crf=True)):
        assert task.decode(outputs, [[1, 2, 0, 1, 0]]) == [["B-A", "I-A", "I-A", "I-A", "O"]]
        words = [(at, at + 1) for at in range(5)]
        shown: Any = task.format_prediction(outputs, "abcdef", words, [1, 2, 0, 1, 0])
        found = shown[0]
        assert (found["start"], found["end"], found["label"]) == (0, 4, "A")
        assert found["score"] > 0.9


def test_temperature_of_a_chain_leaves_its_answers_and_makes_dev_likelier() -> None:
    emissions, table = drawn(5, [4] * 50)
    task = tagging(crf=True, calibrate=True).with_learned({"transitions": table})
    words = [[1] * 4] * 50
    outputs = emissions.astype(np.float32)
    noise = np.random.default_rng(1).normal(0, 4, outputs.shape).astype(np.float32)
    labels = task.decode(outputs + noise, words)
    fitted, notes = task.tuned(outputs, labels, words)
    assert notes == []
    assert fitted.describe_tuned()["temperature"] > 1
    assert fitted.decode(outputs, words) == task.decode(outputs, words)
    assert fitted.uncalibrated().to_json() == task.to_json()


def test_a_table_survives_json_and_one_of_another_size_is_refused() -> None:
    _, table = drawn(5)
    task = tagging(crf=True).with_learned({"transitions": table})
    told = task.to_json()
    assert "transitions" not in told["fitted"], "what targets depend on is the same with every head"
    again = TASKS["tagging"].from_json("it", told)
    assert again == task
    emissions, _ = drawn(6)
    words = [[1] * length for length in LENGTHS]
    assert again.decode(emissions.astype(np.float32), words) == task.decode(emissions.astype(np.float32), words)
    told["tuned"]["transitions"] = told["tuned"]["transitions"][:-1]
    with pytest.raises(ValueError, match="found 34 transitions; expected 5 x 7 with crf, or none"):
        TASKS["tagging"].from_json("it", told)
    told = {**task.to_json(), "options": {"type": "tagging"}}
    with pytest.raises(ValueError, match="found 35 transitions"):
        TASKS["tagging"].from_json("it", told)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crf": True, "decode": "greedy"}, "decoded as a whole: leave decode out"),
        ({"crf": True, "class_weights": "balanced"}, "found crf and class_weights"),
        ({"crf": True, "label_smoothing": 0.1}, "found crf and label_smoothing"),
        ({"decode": "beam"}, "greedy"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tagging(**options)


def test_plain_tags_have_nothing_to_forbid() -> None:
    fit = TASKS["tagging"]
    options = fit.Options.model_validate({"type": "tagging", "decode": "viterbi", "scheme": "plain"})
    stats = LabelStats()
    stats.labels.update(["NOUN", "VERB"])
    with pytest.raises(ValueError, match="plain tags may follow one another in any order"):
        fit.fit("it", options, stats)


def test_a_rows_weight_is_the_weight_of_its_chain() -> None:
    emissions, table = drawn(5)
    tags = np.random.default_rng(6).integers(0, len(BIO), sum(LENGTHS)).tolist()
    targets, outputs = chain_targets(tags), as_outputs(emissions, table).requires_grad_()
    heavy, cuts, table_lines = [2.0, 1.0, 0.0, 0.5, 1.0, 2.0], np.cumsum([0, *LENGTHS]), outputs[sum(LENGTHS) :]
    weights = torch.tensor(np.repeat(heavy, LENGTHS), dtype=torch.float32)
    task = tagging(crf=True)
    rows = [slice(cuts[at], cuts[at + 1]) for at in range(len(LENGTHS))]
    alone = [task.loss(torch.cat([outputs[row], table_lines]), targets[row]) for row in rows]
    expected = torch.stack([weight * loss for weight, loss in zip(heavy, alone, strict=True)]).sum()
    found = task.weighed_loss(outputs, targets, weights)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(one, outputs, retain_graph=True)[0] for one in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    assert task.weighed_denominator(targets, weights) == pytest.approx(float(weights.sum()))
