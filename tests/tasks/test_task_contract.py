"""What every task type promises: one test a promise, over all rows of TASKS."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from polytask.evaluation.scoring import score
from polytask.tasks import METRICS, TASKS, LabelStats, Task, smaller_is_better
from polytask.tasks.bio import is_bio
from polytask.tasks.question import TypedQuestion
from polytask.terms import Label

WORDS = ["Ann", "met", "Bo", "Li"]
# Their losses compare texts with one another: test_embedding.py and test_matching.py have their laws.
OF_SEVERAL_TEXTS = {"embedding", "matching"}


@dataclass(frozen=True)
class Case:
    """A task type with samples.

    Attributes:
        train: label cells of the training rows; every label that `dev` has is among them.
        useless: label cells from which nothing can be learned, and what the error says.
        unseen: a cell with a label that training never has; None where there is no label space.
    """

    type: str
    train: list[Any]
    useless: list[tuple[list[Any], str]]
    unseen: Any
    options: dict[str, Any]


CASES = {
    "classification": Case(
        "classification", ["pos", "neg", "pos", 3, "neg", True],
        [([], "no label at all"), (["pos", "pos"], "only the label 'pos'")], "new", {},
    ),
    "balanced classification": Case(
        "classification", ["pos", "neg", "pos"], [], "new", {"class_weights": "balanced", "label_smoothing": 0.1},
    ),
    "classification of two labels": Case(
        "classification", [True, False, False, "True", False], [], "maybe", {"threshold": 0.3},
    ),
    "multilabel": Case(
        "multilabel", [["a", "b"], [], "b, c", ["c"], ["a", "a"]],
        [([], "no label at all"), ([[], []], "no label at all"),
         ([["a"], ["a"]], "every training row has the labels a")],
        ["a", "new"], {"class_weights": "balanced", "label_smoothing": 0.2},
    ),
    "regression": Case(
        "regression", [1.5, -2, "3.25", 0],
        [([], "no score at all"), ([2.0, 2, "2"], "every training row has the score 2.0")], None, {},
    ),
    "ordinal": Case(
        "ordinal", [1, "2.0", 4.5, "1", 2, 5],
        [([], "no level at all"), (["3", 3], "only the level '3'"), (list(range(101)), "more than 100 levels")],
        "3", {},
    ),
    "ordinal in words": Case(
        "ordinal", ["low", "high", "middle", "low"], [(["low", "low"], "only the level 'low'")], None,
        {"levels": ["low", "middle", "high"]},
    ),
    "ordinal by mode": Case(
        "ordinal", [1, "2.0", 4.5, "1", 2, 5], [], "3", {"prediction": "mode"},
    ),
    "mlm": Case(
        "mlm", ["Ann met Bo.", "Bo left.", "Nobody knows why."],
        [([], "no text at all"), (["", " "], "no text at all")], None, {},
    ),
    "tagging entities": Case(
        "tagging", [["B-PER", "O", "B-PER", "I-PER"], ["O", "O", "B-LOC", "O"], "B-PER O O O"],
        [([], "no tag at all"), ([["O", "O", "O", "O"]], "only the tag 'O'")], ["B-NEW", "O", "O", "O"], {},
    ),
    "tagging without O": Case(
        "tagging", [["B-PER", "I-PER", "B-LOC", "I-LOC"], ["B-PER", "B-PER", "B-LOC", "I-LOC"]], [],
        ["B-NEW", "B-LOC", "B-LOC", "B-LOC"], {"scheme": "bio", "class_weights": "balanced"},
    ),
    "tagging, greedy": Case(
        "tagging", [["B-PER", "O", "B-PER", "I-PER"], ["O", "O", "B-LOC", "O"]], [], ["B-NEW", "O", "O", "O"],
        {"decode": "greedy"},
    ),
    "tagging plain": Case(
        "tagging", [["NOUN", "VERB", "NOUN", "NOUN"], ["X", "VERB", "X", "X"]],
        [([["NOUN"] * 4], "only the tag 'NOUN'")], ["NEW", "VERB", "X", "X"], {"label_smoothing": 0.1},
    ),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def read_all(case: Case, cells: Sequence[Any]) -> tuple[list[Label], LabelStats]:
    """Read rows as the data layer does."""
    kind, stats, labels = TASKS[case.type], LabelStats(), list[Label]()
    options = kind.Options.model_validate({"type": case.type, **case.options})
    for cell in cells:
        label = kind.read(options, {kind.columns(options)[-1]: cell, "tokens": WORDS}, stats)
        stats.present += label is not None
        stats.missing += label is None
        labels.append(label)
    return labels, stats


def fit(case: Case, cells: Sequence[Any] | None = None) -> tuple[Task, list[Label]]:
    labels, stats = read_all(case, case.train if cells is None else cells)
    kind = TASKS[case.type]
    return kind.fit("it", kind.Options.model_validate({"type": case.type, **case.options}), stats), labels


def targets_of(task: Task, labels: Sequence[Label]) -> Tensor:
    encoded: list[Any] = [task.encode(label) for label in labels]
    return torch.tensor([item for row in encoded for item in row] if task.level == "word" else encoded)


def perfect_outputs(task: Task, labels: Sequence[Label]) -> Tensor:
    """Return the outputs of a model that is right."""
    targets = targets_of(task, labels)
    if task.scale:
        return 40.0 * (targets[:, None] > torch.arange(task.head.size)) - 20.0
    if targets.dtype.is_floating_point:
        return targets[:, None] if targets.dim() == 1 else 20 * (2 * targets - 1)
    return 20.0 * torch.nn.functional.one_hot(targets, task.head.size)


def decode(task: Task, outputs: Tensor, rows: int) -> list[Label]:
    return task.decode(outputs.numpy(), [[1] * len(WORDS)] * rows if task.level == "word" else None)


def scores_of(task: Task, labels: Sequence[Label], found: Sequence[Label], outputs: Tensor) -> dict[str, Any]:
    """Return every metric of a task, where outputs tell how probable the positive label is."""
    shown = task.positive_probabilities(outputs.detach().numpy())
    return score(task, labels, found, None if shown is None else shown.tolist())


def random_outputs(task: Task, rows: int) -> Tensor:
    count = rows * (len(WORDS) if task.level == "word" else 1)
    return torch.randn(count, task.head.size, generator=torch.Generator().manual_seed(5))


def test_every_task_type_has_a_case() -> None:
    assert len(TASKS) == 9
    # What spans promise is in test_nested_spans.py: their targets are no classes of words.
    assert {case.type for case in CASES.values()} | OF_SEVERAL_TEXTS | {"spans"} == set(TASKS)
    for name, kind in TASKS.items():
        assert kind.type_name == name
        assert kind.Options.model_fields["type"].annotation.__args__ == (name,)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", TASKS)
def test_rows_are_read_again_where_another_column_is_named(kind: str) -> None:
    """The cache goes by `reading`: an option that names what is read is none of learning."""
    type_ = TASKS[kind]
    options = type_.Options.model_validate({"type": kind})
    changed = 0
    for name, field in type_.Options.model_fields.items():
        optional = field.annotation == str | None and name not in ("metric", "head", "loss", "no_label")
        if name == "type" or not (isinstance(getattr(options, name), str) or optional):
            continue
        other = options.model_copy(update={name: "other"})
        if type_.columns(other) != type_.columns(options) or other.inputs != options.inputs:
            changed += 1
            assert other.reading() != options.reading(), name
    assert changed > 0


def test_samples_go_from_reading_to_scores(case: Case) -> None:
    task, labels = fit(case)
    outputs, targets = random_outputs(task, len(labels)), targets_of(task, labels)
    assert task.head.level == task.level
    assert task.head.size == (len(task.labels) - bool(task.scale) or 1)  # a scale has one step less than levels
    loss = task.loss(outputs.requires_grad_(), targets)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    assert task.loss_denominator(targets) > 0
    found = decode(task, outputs.detach(), len(labels))
    for predictions in (found, task.baseline(labels)):
        scores = scores_of(task, labels, predictions, outputs)
        assert all(value is None or isinstance(value, float) for value in scores.values())
    if task.labels:
        named = {label for one_label in found for label in (one_label if isinstance(one_label, list) else [one_label])}
        assert named <= set(task.labels)


def test_json_form_decides_alike(case: Case) -> None:
    task, labels = fit(case)
    copy = TASKS[case.type].from_json("it", json.loads(json.dumps(task.to_json())))
    outputs, targets = random_outputs(task, len(labels)), targets_of(task, labels)
    assert decode(copy, outputs, len(labels)) == decode(task, outputs, len(labels))
    assert torch.equal(copy.loss(outputs, targets), task.loss(outputs, targets))
    assert (copy.labels, copy.metrics, copy.head) == (task.labels, task.metrics, task.head)
    assert copy.baseline(labels) == task.baseline(labels)
    assert copy.to_json() == task.to_json()


def test_perfect_outputs_decode_to_the_golds_and_score_1(case: Case) -> None:
    task, labels = fit(case)
    outputs = perfect_outputs(task, labels).float()
    found = decode(task, outputs, len(labels))
    if task.labels:
        assert found == labels
    else:
        assert found == pytest.approx(labels, abs=1e-5)
    for name, value in scores_of(task, labels, found, outputs).items():
        assert value == pytest.approx(0.0 if smaller_is_better(name) else 1.0, abs=1e-5), name


def test_metrics_are_those_of_the_table(case: Case) -> None:
    task, _ = fit(case)
    assert set(task.metrics) <= set(TASKS[case.type].Options.metrics) <= set(METRICS[task.level])
    assert len(set(task.metrics)) == len(task.metrics)
    assert task.metric == task.metrics[0]
    for name in task.metrics:
        chosen, _ = fit(Case(**{**case.__dict__, "options": {**case.options, "metric": name}}))
        assert chosen.metric == name
        assert sorted(chosen.metrics) == sorted(task.metrics)


def test_unseen_labels_leave_the_loss_alone_and_count_as_errors(case: Case) -> None:
    if case.unseen is None:
        pytest.skip("a number has no label space, and other words than those that `levels` names are refused")
    task, seen = fit(case)
    (label,), _ = read_all(case, [case.unseen])
    encoded = task.encode(label)
    outputs = random_outputs(task, 1).requires_grad_()
    task.loss(outputs, targets_of(task, [label])).backward()  # type: ignore[no-untyped-call]
    assert outputs.grad is not None
    if isinstance(label, list) and task.level == "row":  # several labels: the unseen one has no output
        assert isinstance(encoded, list)
        assert sum(encoded) == 1
    else:
        assert (encoded[0] if isinstance(encoded, list) else encoded) == -100
        assert not outputs.grad[0].any()
        assert task.loss_denominator(targets_of(task, [label])) == pytest.approx(
            task.loss_denominator(targets_of(task, [label])[1:])
        )
    if task.level == "row":
        found = decode(task, outputs.detach(), 1)
    else:  # every other word is right; the unseen tag's word gets another tag
        known = torch.where(targets_of(task, [label]) == -100, 1, targets_of(task, [label]))
        found = decode(task, 20.0 * torch.nn.functional.one_hot(known, task.head.size), 1)
    for name in task.metrics:
        if METRICS[task.level][name].takes != "labels":
            continue  # of a label that training has
        value = score(task, [*seen, label], [*seen, *found])[name]
        assert value is not None
        assert value > 0 if smaller_is_better(name) else value < 1, name


def test_useless_training_rows_are_refused_with_the_reason(case: Case) -> None:
    for cells, message in case.useless:
        with pytest.raises(ValueError, match=message):
            fit(case, cells)


def test_missing_cells_carry_no_label(case: Case) -> None:
    kind, stats = TASKS[case.type], LabelStats()
    options = kind.Options.model_validate({"type": case.type, **case.options})
    for row in ({}, {kind.columns(options)[-1]: None}):
        assert kind.read(options, row, stats) is None
    assert stats == LabelStats()


def test_label_stats_survive_json(case: Case) -> None:
    _, stats = read_all(case, case.train)
    assert LabelStats.from_json(json.loads(json.dumps(stats.to_json()))) == stats


def test_presentation_agrees_with_the_decision(case: Case) -> None:
    task, labels = fit(case)
    text = " ".join(WORDS)
    words = [(text.index(word), text.index(word) + len(word)) for word in WORDS]
    for label in labels:
        outputs = perfect_outputs(task, [label]).numpy()
        shown = task.format_prediction(outputs if task.level == "word" else outputs[0], text, words, [1] * len(words))
        assert json.loads(json.dumps(shown)) == shown
        if task.level == "word":
            assert isinstance(label, list)
            assert isinstance(shown, list)
            assert all(item["text"] == text[item["start"] : item["end"]] for item in shown)
            assert len(shown) == (sum(tag[0] == "B" for tag in label) if is_bio(label) else len(words))
        else:
            assert isinstance(shown, dict)
            kind = next(iter(shown))
            assert shown[kind] == (label if task.labels else pytest.approx(label, abs=1e-5))


def test_a_teachers_answer_that_is_the_label_is_the_label(case: Case) -> None:
    """Against outputs that are certain of the labels, without smoothing, the teacher's loss is the labels' loss."""
    task, labels = fit(Case(**{**case.__dict__, "options": {**case.options, **_unsmoothed(case)}}))
    outputs, targets = random_outputs(task, len(labels)), targets_of(task, labels)
    certain = perfect_outputs(task, labels).float() * (1.0 if not task.labels else 5.0)
    without_teacher = task.loss(outputs, targets)
    torch.testing.assert_close(task.distillation_loss(outputs, targets, certain), without_teacher, rtol=1e-5, atol=1e-5)
    for share in (0.0, 0.3, 1.0):
        torch.testing.assert_close(
            task.loss_with_teacher(outputs, targets, certain, share), without_teacher, rtol=1e-5, atol=1e-5
        )


def _unsmoothed(case: Case) -> dict[str, float]:
    return {"label_smoothing": 0.0} if case.type != "regression" and "label_smoothing" in case.options else {}


def test_the_loss_with_a_teacher_is_the_mixture_of_both(case: Case) -> None:
    task, labels = fit(case)
    outputs, targets = random_outputs(task, len(labels)), targets_of(task, labels)
    teacher_logits = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(6))
    if not task.answers:  # so that nothing teaches it
        return
    expected = _distillation_loss(task, outputs.double().numpy(), targets.numpy(), teacher_logits.double().numpy())
    assert float(task.distillation_loss(outputs, targets, teacher_logits)) == pytest.approx(expected, rel=1e-5)
    without_teacher = float(task.loss(outputs, targets))
    assert torch.equal(task.loss_with_teacher(outputs, targets, teacher_logits, 1.0), task.loss(outputs, targets))
    for share in (0.0, 0.25):
        found = float(task.loss_with_teacher(outputs, targets, teacher_logits, share))
        assert found == pytest.approx(share * without_teacher + (1 - share) * expected, rel=1e-5)


def _distillation_loss(task: Task, outputs: Any, targets: Any, teacher_logits: Any) -> float:
    """The closed forms, written out."""
    if not task.labels:
        return float(((outputs - teacher_logits) ** 2).sum())
    if targets.ndim == 2:
        given, wanted = 1 / (1 + np.exp(-outputs)), 1 / (1 + np.exp(-teacher_logits))
        positive = (task.rows - np.array(task.counts)) / np.array(task.counts)  # type: ignore[attr-defined]
        positive = np.maximum(positive, 1 / np.array(task.counts)) if task.options.class_weights else np.ones(1)  # type: ignore[attr-defined]
        each = -(positive * wanted * np.log(given) + (1 - wanted) * np.log(1 - given))
        return float(each.mean(-1).sum())
    if task.scale:
        levels, wanted = (_level_probabilities(one) for one in (outputs, teacher_logits))
        return float(-(wanted * np.log(levels)).sum())
    given = outputs - np.log(np.exp(outputs).sum(-1, keepdims=True))
    wanted = np.exp(teacher_logits) / np.exp(teacher_logits).sum(-1, keepdims=True)
    own = task.weights()  # type: ignore[attr-defined]
    weights = np.ones(len(task.labels)) if own is None else np.array(own)
    return float((-(wanted * given).sum(-1) * weights[targets]).sum())


def _level_probabilities(outputs: Any) -> Any:
    """Shi et al. 2021, equation 5: "above level k" is the product of the conditional probabilities up to k."""
    above = np.cumprod(1 / (1 + np.exp(-outputs)), -1)
    ends = np.ones((len(outputs), 1))
    return -np.diff(np.concatenate([ends, above, 0 * ends], 1))


def test_ignored_labels_ignore_the_teacher_and_its_silence_leaves_the_label(case: Case) -> None:
    task, labels = fit(case)
    outputs, targets = random_outputs(task, len(labels)).requires_grad_(), targets_of(task, labels)
    teacher_logits = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(6))
    teacher_logits[0] = float("nan")
    loss = task.loss_with_teacher(outputs, targets, teacher_logits, 0.25)
    parts = [
        task.loss(outputs[:1], targets[:1]),
        task.loss_with_teacher(outputs[1:], targets[1:], teacher_logits[1:], 0.25),
    ]
    torch.testing.assert_close(loss, parts[0] + parts[1])
    loss.backward()  # type: ignore[no-untyped-call]
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    if not targets.dtype.is_floating_point:
        without = task.loss_with_teacher(outputs[1:-1], targets[1:-1], teacher_logits[1:-1], 0.25)
        targets[-1] = -100
        torch.testing.assert_close(task.loss_with_teacher(outputs[1:], targets[1:], teacher_logits[1:], 0.25), without)
        assert task.loss_denominator(targets) == pytest.approx(task.loss_denominator(targets[:-1]))


def test_a_teachers_outputs_are_translated_into_the_tasks_units(case: Case) -> None:
    task, labels = fit(case)
    outputs = random_outputs(task, len(labels))
    assert torch.equal(task.convert_teacher_logits(outputs, task), outputs) or not task.labels
    if not task.labels and task.answers:
        other, _ = fit(case, [10.0, 30.0])
        assert decode(task, task.convert_teacher_logits(outputs, other), 4) == pytest.approx(
            decode(other, outputs, 4), rel=1e-5
        )


def test_training_errors_are_those_of_the_outputs_and_add_up_over_the_pieces_of_a_step(case: Case) -> None:
    task, labels = fit(case)
    targets = targets_of(task, labels)
    other = torch.randn(len(targets), task.head.size, generator=torch.Generator().manual_seed(5))
    for outputs in (perfect_outputs(task, labels), other if task.answers else other.abs()):
        sums, counts = task.training_errors(outputs, targets)
        assert sums.shape == counts.shape == (task.head.size,)
        assert (sums >= 0).all()
        assert case.type == "regression" or (sums <= counts + 1e-6).all()
        pieces = [task.training_errors(outputs[place::2], targets[place::2]) for place in (0, 1)]
        for whole, parts in zip((sums, counts), zip(*pieces, strict=True), strict=True):
            assert sum(parts).tolist() == pytest.approx(whole.tolist(), abs=1e-5)
        assert counts.sum() > 0
        perfect = torch.equal(outputs, perfect_outputs(task, labels))
        assert (float((sums / counts.clamp(min=1)).max()) < 0.01) == perfect


def test_every_typed_question_that_a_task_lists_is_answered(case: Case) -> None:
    task, labels = fit(case)
    outputs = random_outputs(task, len(labels)).numpy()
    for question in task.typed_questions:
        found = task.asked(question)(outputs[0])
        assert found.shape == (len(question.options),)
        assert found.sum() == pytest.approx(1.0)
        assert (found >= 0).all()
        assert question.answer(found)["type"] == question.type
    listed = {question.type for question in task.typed_questions}
    for other in (
        TypedQuestion("choice", ("nothing",)),
        TypedQuestion("noul", label="nothing"),
        TypedQuestion.score(["a"]),
    ):
        if other.type != "score" or "score" not in listed:
            with pytest.raises(ValueError, match=r"\w"):
                task.asked(other)
