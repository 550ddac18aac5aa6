"""Embedding: what is read, what is learned from which texts, how it is scored, and where the vectors go."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import polytask as pt
from polytask.errors import ConfigError, DataError
from polytask.tasks import METRICS, LabelStats
from polytask.tasks.embedding import Embedding, EmbeddingOptions
from vectors import Rows, config, pairs, scored


def options(**values: Any) -> EmbeddingOptions:
    return EmbeddingOptions.model_validate({"type": "embedding", **values})


def read(rows: Rows, **values: Any) -> tuple[Embedding, list[list[float]]]:
    """Return the task fitted to rows, on an encoder of four numbers, and the labels of all of their texts."""
    chosen, stats, labels = options(**values), LabelStats(), list[Any]()
    for row in rows:
        label = Embedding.read(chosen, row, stats)
        stats.present += label is not None
        if label is not None:
            labels += [label, *(own for _, own in Embedding.companions(chosen, row, label))]
    return Embedding.fit("near", chosen, stats).on_encoder(4), labels


def targets(task: Embedding, labels: list[list[float]]) -> torch.Tensor:
    return torch.tensor([task.encode(label) for label in labels])


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


TRIPLETS: Rows = [
    {"text": "a", "positive": "b", "negative": "c"},
    {"text": "d", "positive": "e", "negative": ["f", "g"]},
    {"text": "h", "positive": "i", "negative": None},
]
SCORED: Rows = [{"text": f"t{n}", "positive": f"o{n}", "score": score} for n, score in enumerate((0.1, 0.9, 0.4, 0.4))]


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


def test_in_batch_negatives_are_the_formula() -> None:
    task, labels = read(TRIPLETS)
    found = vectors(len(labels))
    anchors, others, candidates = [0, 3, 7], [1, 4, 8], [1, 2, 4, 5, 6, 8]
    expected = 0.0
    for anchor, other in zip(anchors, others, strict=True):
        logits = {place: 20 * cosine(found[anchor], found[place]) for place in candidates}
        expected += math.log(sum(map(math.exp, logits.values()))) - logits[other]
    told = targets(task, labels)
    assert float(task.loss(found, told)) == pytest.approx(expected, rel=1e-5)
    assert task.loss_denominator(told) == 3
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(task.loss(found[order], told[order]), task.loss(found, told))


def test_texts_that_belong_to_the_text_are_no_negatives() -> None:
    """The same positive in two rows, the same text in two rows, and a text that is another's positive."""
    rows: Rows = [
        {"text": "a", "positive": "b"}, {"text": "c", "positive": "b"},
        {"text": "a", "positive": "d"}, {"text": "b", "positive": "e"},
    ]  # fmt: skip
    task, labels = read(rows)
    found = vectors(len(labels), 1)
    allowed = {0: [1, 7], 2: [3, 5, 7], 4: [5, 7], 6: [7, 5]}  # anchors and what they are told from, their own first
    allowed[0] = [1, 7]
    expected = 0.0
    for anchor, places in allowed.items():
        logits = [20 * cosine(found[anchor], found[place]) for place in places]
        expected += math.log(sum(map(math.exp, logits))) - logits[0]
    assert float(task.loss(found, targets(task, labels))) == pytest.approx(expected, rel=1e-5)


def test_cosent_is_the_formula() -> None:
    task, labels = read(SCORED, score="score")
    found = vectors(len(labels), 2)
    cosines = [20 * cosine(found[2 * row], found[2 * row + 1]) for row in range(4)]
    scores = [row["score"] for row in SCORED]
    terms = [
        math.exp(cosines[low] - cosines[high]) for high in range(4) for low in range(4) if scores[high] > scores[low]
    ]
    loss = task.loss(found, targets(task, labels))
    assert float(loss) == pytest.approx(4 * math.log(1 + sum(terms)), rel=1e-5)


def test_the_losses_are_those_of_sentence_transformers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("sentence_transformers")
        from sentence_transformers import losses
    rows: Rows = [{"text": f"a{n}", "positive": f"b{n}", "negative": f"c{n}"} for n in range(5)]
    task, labels = read(rows)
    found = vectors(15, 4)
    by_part = [found[part::3] for part in range(3)]
    module: Any = losses.MultipleNegativesRankingLoss(torch.nn.Identity())
    theirs = module.compute_loss_from_embeddings(by_part, None)
    torch.testing.assert_close(task.loss(found, targets(task, labels)) / 5, theirs)
    task, labels = read(SCORED, score="score")
    found = vectors(8, 5)
    module = losses.CoSENTLoss(torch.nn.Identity())
    theirs = module.compute_loss_from_embeddings([found[::2], found[1::2]], torch.tensor([0.1, 0.9, 0.4, 0.4]))
    torch.testing.assert_close(task.loss(found, targets(task, labels)) / 4, theirs)


def test_a_matryoshka_loss_is_the_mean_over_sizes() -> None:
    task, labels = read(TRIPLETS, sizes=[2, 3])
    whole, _ = read(TRIPLETS)
    found, told = vectors(len(labels)), targets(task, labels)
    each = [float(whole.loss(found[:, :size], told)) for size in (2, 3, 4)]
    assert float(task.loss(found, told)) == pytest.approx(sum(each) / 3, rel=1e-5)


def test_a_step_without_a_pair_has_a_loss_of_0_with_a_gradient() -> None:
    task, labels = read(TRIPLETS)
    for chosen in ([], [2], [0, 2]):
        found = vectors(len(labels)).requires_grad_()
        loss = task.loss(found[chosen], targets(task, labels)[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        assert float(loss.detach()) == 0.0


def test_targets_hold_numbers_beyond_float32() -> None:
    task, _ = read(TRIPLETS)
    one, other = 2**30 + 1, 2**47 + 12345
    told = torch.tensor([task.encode([float(one), 0.0, 0.5, float(other)])])
    from polytask.tasks.contrast import BatchTexts

    texts = BatchTexts.of(told)
    assert (int(texts.rows[0]), int(texts.texts[0]), float(texts.scores[0])) == (one, other, 0.5)


def judged(task: Embedding, labels: list[list[float]], found: torch.Tensor) -> dict[str, float | None]:
    compared = task.compared(list(labels), task.decode(found.numpy()))
    return {name: METRICS["row"][name](compared.labels, compared.predictions) for name in task.metrics}


def test_perfect_vectors_score_1_and_a_constant_one_scores_the_least() -> None:
    rows: Rows = [{"text": f"a{n}", "positive": f"b{n}"} for n in range(4)]
    task, labels = read(rows)
    perfect = torch.eye(4).repeat_interleave(2, 0)
    assert judged(task, labels, perfect) == {"recall@1": 1.0, "recall@10": 1.0}
    assert judged(task, labels, torch.ones(8, 4)) == {"recall@1": 0.0, "recall@10": 1.0}
    compared = task.compared(list(labels), task.baseline(list(labels)))
    assert compared.predictions == [4.0] * 4  # ties count against what is found
    assert compared.rows == [0, 2, 4, 6]
    graded, told = read(SCORED, score="score")
    assert graded.metrics == ("spearman", "pearson")
    angles = [math.acos(row["score"]) for row in SCORED]
    right = torch.tensor(
        [line for angle in angles for line in ([1.0, 0, 0, 0], [math.cos(angle), math.sin(angle), 0, 0])]
    )
    assert judged(graded, told, right)["spearman"] == pytest.approx(1.0)
    assert judged(graded, told, torch.ones(8, 4))["spearman"] is None


def test_recall_is_counted_over_the_texts_that_do_not_belong_as_well() -> None:
    rows: Rows = [
        {"text": f"a{n % 5}", "positive": f"b{n % 7}", "negative": f"c{n}"} for n in range(12)
    ]  # texts with several others, and others of several texts
    task, labels = read(rows)
    found = vectors(len(labels), 7)
    texts = [text for row in rows for text in (row["text"], row["positive"], row["negative"])]
    place = {text: found[index] for index, text in reversed(list(enumerate(texts)))}
    for index, text in enumerate(texts):
        found[index] = place[text]  # the same text has the same vector
    belongs = {name: {row["positive"] for row in rows if row["text"] == name} for name in place}
    expected: list[float] = []
    for row in rows:
        others = {text for one in rows for text in (one["positive"], one["negative"])} - belongs[row["text"]]
        own = cosine(place[row["text"]], place[row["positive"]])
        expected.append(1.0 + sum(cosine(place[row["text"]], place[text]) >= own - 1e-7 for text in others))
    compared = task.compared(list(labels), task.decode(found.numpy()))
    assert compared.predictions == expected


def test_recalls_interval_is_that_of_repeated_rows() -> None:
    metric = METRICS["row"]["recall@1"]
    found = [1.0, 3.0, 1.0, 2.0]
    block = np.array([[1, 1, 1, 1], [4, 0, 0, 0], [0, 2, 0, 2], [1, 0, 2, 1]])
    assert metric.over_weights([1.0] * 4, found)(block).tolist() == [0.5, 1.0, 0.0, 0.75]


def test_training_errors_are_between_0_and_1() -> None:
    for rows, more in ((TRIPLETS, {}), (SCORED, {"score": "score"})):
        task, labels = read(rows, **more)
        for seed in range(3):
            sums, counts = task.training_errors(vectors(len(labels), seed), targets(task, labels))
            assert sums.shape == counts.shape == (4,)
            assert counts.sum() == len(rows)
            assert ((sums >= 0) & (sums <= counts)).all()
    task, labels = read([{"text": f"a{n}", "positive": f"b{n}"} for n in range(4)])
    sums, _ = task.training_errors(torch.eye(4).repeat_interleave(2, 0), targets(task, labels))
    assert float(sums.sum()) == pytest.approx(0.0, abs=1e-6)


def test_a_teacher_teaches_the_direction_of_every_text() -> None:
    task, labels = read(TRIPLETS)
    found, told = vectors(len(labels)), targets(task, labels)
    assert float(task.distillation_loss(found, told, 3 * found)) == pytest.approx(0.0, abs=1e-5)
    assert float(task.distillation_loss(found, told, -found)) == pytest.approx(2.0 * 3, rel=1e-5)


def test_the_json_form_is_the_task() -> None:
    for rows, more in ((TRIPLETS, {"sizes": [2], "normalize": False}), (SCORED, {"score": "score"})):
        task, _ = read(rows, **more)
        copy = Embedding.from_json("near", json.loads(json.dumps(task.to_json())))
        assert copy.to_json() == task.to_json()
        assert (copy.head, copy.metrics) == (task.head, task.metrics)


def test_an_answer_is_a_vector_of_length_1() -> None:
    task, _ = read(TRIPLETS)
    shown = task.format_prediction(np.array([3.0, 4.0, 0.0, 0.0], np.float32), "a", [], [])
    assert shown == {"vector": [0.6, 0.8, 0.0, 0.0]}
    plain, _ = read(TRIPLETS, normalize=False)
    assert plain.format_prediction(np.array([3.0, 4.0, 0, 0], np.float32), "a", [], []) == {"vector": [3.0, 4.0, 0, 0]}
    assert task.format_prediction(np.zeros(4, np.float32), "a", [], []) == {"vector": [0.0] * 4}


@pytest.mark.parametrize(
    ("row", "more", "message"),
    [
        ({"text": "a", "positive": 3}, {}, "'positive' holds 3; expected a text"),
        ({"text": "a", "positive": "b", "negative": ["c", ""]}, {}, "'negative' holds ''; expected a text"),
        ({"text": "a", "positive": "b", "score": "high"}, {"score": "score"}, "a score is a finite number"),
        (
            {"text": "a", "positive": "b", "score": 1, "negative": "c"},
            {"score": "score"},
            "a row with a score is a pair",
        ),
    ],
)
def test_bad_cells_are_refused(row: dict[str, Any], more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Embedding.read(options(**more), row, LabelStats())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text_pair": ["a", "b"]}, "each text has a vector of its own"),
        ({"positive": "text"}, "found one column twice"),
        ({"metric": "spearman"}, "accepted for pairs without a score: recall@1, recall@10"),
        ({"metric": "recall@1", "score": "s"}, "accepted for pairs with a score: spearman, pearson"),
        ({"sizes": [0]}, "a size is a whole number of 1 or more"),
        ({"sizes": [8], "size": 8}, "each has to be smaller than size"),
    ],
)
def test_options_that_do_not_fit_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(**values)


def test_useless_training_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="no pair at all"):
        read([{"text": "a"}])
    with pytest.raises(ValueError, match="only one pair"):
        read([{"text": "a", "positive": "b"}])
    with pytest.raises(ValueError, match="every training row has the score"):
        read([{"text": "a", "positive": "b", "score": 1}] * 2, score="score")


def test_rows_without_an_other_text_are_masked() -> None:
    stats = LabelStats()
    for row in ({"text": "a"}, {"text": "a", "positive": None}, {"text": "a", "positive": " "}):
        assert Embedding.read(options(), row, stats) is None
    assert Embedding.read(options(score="s"), {"text": "a", "positive": "b", "s": None}, stats) is None
    assert stats == LabelStats()


def test_sizes_beyond_the_encoder_are_refused_before_the_first_step(tiny: Path) -> None:
    rows = pairs(8)
    with pytest.raises(ConfigError, match=r"tasks.near.sizes: found 64, and the vectors have 32 elements"):
        pt.check(config(tiny, rows, rows, sizes=[16, 64]))


def test_a_missing_column_is_named(tiny: Path) -> None:
    rows = pairs(8)
    with pytest.raises((ConfigError, DataError), match="no column 'other'"):
        pt.check(config(tiny, rows, rows, positive="other"))
    with pytest.raises((ConfigError, DataError), match="no column 'bad'"):
        pt.check(config(tiny, rows, rows, negative="bad"))


def test_scored_pairs_are_learned(tiny: Path) -> None:
    rows, dev = scored(60), scored(20, start=60)
    run = pt.train(config(tiny, rows, dev, score="score", train={"epochs": 3, "learning_rate": 3e-3}))
    assert run.scores["dev"]["near"]["spearman"] > 0.5  # type: ignore[operator]


@pytest.mark.parametrize("rows", [TRIPLETS, SCORED])
def test_the_closest_texts_are_those_of_all_cosines(rows: Rows) -> None:
    task, labels = read(
        [*rows, {**rows[0], "positive": rows[1]["positive"]}], **({"score": "score"} if rows is SCORED else {})
    )
    outputs = vectors(len(labels)).numpy()
    found = task.neighbours(labels, outputs, 3)
    anchors = [place for place, label in enumerate(labels) if label[1] == 0]
    candidates = {label[3]: place for place, label in reversed(list(enumerate(labels))) if label[1] != 0}
    units = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
    for anchor, near in zip(anchors, found, strict=True):
        cosines = sorted(((float(units[anchor] @ units[place]), place) for place in candidates.values()), reverse=True)
        assert [place for place, _ in near] == [place for _, place in cosines[:3]]
        assert [value for _, value in near] == pytest.approx([value for value, _ in cosines[:3]], abs=1e-6)


def test_a_report_shows_the_closest_texts_of_what_was_not_found(tiny: Path, tmp_path: Path) -> None:
    dev = pairs(12, start=24)
    dev[0]["text"] = "<b>bold</b> " + dev[0]["text"]
    run = tmp_path / "run"
    model = pt.train(config(tiny, pairs(24), dev, train={"max_steps": 1}), run).model
    lines = [json.loads(line) for line in (run / "predictions" / "near.jsonl").read_text("utf-8").splitlines()]
    texts = [row["positive"] for row in dev]
    told = {text: np.array(answer["near"]["vector"]) for text, answer in zip(texts, model.predict(texts), strict=True)}
    own = model.predict([row["text"] for row in dev])
    for line, row, answer in zip(lines, dev, own, strict=True):
        cosines = {text: float(vector @ np.array(answer["near"]["vector"])) for text, vector in told.items()}
        best = sorted(cosines, key=lambda text: -cosines[text])[:3]
        assert [near["text"] for near in line["nearest"]] == [text[:300] for text in best]
        assert [near["cosine"] for near in line["nearest"]] == pytest.approx([cosines[text] for text in best], abs=1e-4)
        assert (line["prediction"] == 1) == (best[0] == row["positive"])
    assert any(line["prediction"] > 1 for line in lines)
    page = pt.report(run).read_text("utf-8")
    assert "closest texts" in page
    assert "not found at rank 1" in page
    assert "<b>bold" not in page
