"""Text embeddings: vectors that are close for related texts, learned from pairs, triplets or scored pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from polytask.tasks import nearest
from polytask.tasks.answering import ComparedAnswers
from polytask.tasks.arrays import Floats, Outputs, rounded
from polytask.tasks.cells import brief
from polytask.tasks.contrast import (
    ANCHOR,
    OTHER,
    BatchTexts,
    as_targets,
    cosent_loss,
    direction_loss,
    in_batch_loss,
    of_sizes,
    text_identity,
)
from polytask.tasks.label_stats import LabelStats
from polytask.tasks.labels import says_nothing
from polytask.tasks.objective import RateBound
from polytask.tasks.reader import Row
from polytask.tasks.regression import Regression, RegressionOptions
from polytask.tasks.task_options import TaskOptions
from polytask.tasks.vector_task import VectorTask
from polytask.terms import Label, WordSpan

if TYPE_CHECKING:
    from torch import Tensor

# For pairs without scores; docs/tasks/embedding.md has figures for this rate and others.
_BOUND = RateBound(1e-4, "which texts it found similar before")
_PAIRED = ("recall@1", "recall@10")
_SCORED = ("spearman", "pearson")


class EmbeddingOptions(TaskOptions):
    """Options of an embedding task."""

    type: Literal["embedding"]  # pyright: ignore[reportIncompatibleVariableOverride]
    positive: str = Field(default="positive", description="column of the matching text, or of the text to compare with")
    negative: str | None = Field(
        default=None,
        description="column of a text, or a list of texts, that does not match; by default `negative`, if rows have it",
    )
    score: str | None = Field(
        default=None, description="column of a similarity score of the two texts, a number; without it, they match"
    )
    normalize: bool = Field(default=True, description="return vectors of length 1")
    size: int | None = Field(
        default=None, ge=2, description="size of the vectors, by a linear layer; by default the encoder's hidden size"
    )
    sizes: tuple[int, ...] = Field(
        default=(), description="smaller sizes to which vectors can be truncated later (Matryoshka): [32, 128]"
    )
    scale: float = Field(default=20.0, gt=0, description="factor of the cosines in the loss (inverse temperature)")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout of the vectors during training")

    metrics: ClassVar[tuple[str, ...]] = (*_PAIRED, *_SCORED)
    learning: ClassVar[tuple[str, ...]] = ("normalize", "size", "sizes", "scale")

    @model_validator(mode="after")
    def _columns_and_metric_fit(self) -> Self:
        if self.text_pair is not None:
            raise ValueError(
                "found text_pair, and each text has a vector of its own; give the columns as `text` and `positive`"
            )
        if self.label_weight is not None:
            raise ValueError("found label_weight, and rows that are compared with one another weigh the same")
        if self.loss is not None:
            raise ValueError("found loss, and vectors are learned by comparison; leave it out")
        used = [self.text, self.positive, *([] if self.score is None else [self.score])]
        if len(set(used)) < len(used):
            raise ValueError(f"found one column twice among text, positive and score: {', '.join(used)}")
        metrics = _PAIRED if self.score is None else _SCORED
        if self.metric in (set(_PAIRED) | set(_SCORED)) - set(metrics):
            kind = "pairs without a score" if self.score is None else "pairs with a score"
            raise ValueError(f"found metric {self.metric}; accepted for {kind}: {', '.join(metrics)}")
        if any(size < 1 for size in self.sizes):
            raise ValueError(f"found sizes {list(self.sizes)}; a size is a whole number of 1 or more")
        if self.size is not None and any(size >= self.size for size in self.sizes):
            raise ValueError(f"found sizes {list(self.sizes)}; each has to be smaller than size ({self.size})")
        return self


@dataclass(frozen=True)
class Embedding(VectorTask):
    """A vector; texts are compared by the cosine of their vectors.

    A row has several texts, which the encoder reads separately: other tasks share the row's own text, but the others
    belong to this task alone. The label of a text holds its row's number, which part of the row it is, the row's score,
    and a hash of the text.
    """

    name: str
    options: EmbeddingOptions
    low: float = 0.0
    high: float = 1.0
    width: int = 0

    type_name = "embedding"
    also_called = (
        "sentence-embedding", "sentence-embeddings", "embeddings", "feature-extraction", "sentence-transformer",
        "retrieval", "semantic-search", "triplet", "contrastive", "vector",
    )  # fmt: skip
    Options = EmbeddingOptions
    label_type = "list<double>"
    target_type = "list<float>"
    activation = "identity"
    head_type = "vector"
    joins_rows = True

    @property
    def rate_bound(self) -> RateBound | None:
        return _BOUND if self.options.score is None else None

    @classmethod
    def columns(cls, options: EmbeddingOptions) -> tuple[str, ...]:
        return (*(name for name in (options.negative, options.score) if name is not None), options.positive)

    @classmethod
    def read(cls, options: EmbeddingOptions, row: Row, stats: LabelStats) -> Label:
        others = _others(options, row)
        if not others:
            return None
        score: Label = 1.0
        if options.score is not None:
            numbers = RegressionOptions(type="regression", label=options.score, unlabelled=options.unlabelled)
            score = Regression.read(numbers, row, stats)
            if score is None:
                return None
            if len(others) > 1:
                problem = f"found {_negative(options)!r} and {options.score!r}"
                raise ValueError(f"{problem}; a row with a score is a pair: leave one out")
        return [float(stats.present), float(ANCHOR), score, float(text_identity(row.get(options.text)))]

    @classmethod
    def companions(cls, options: EmbeddingOptions, row: Row, label: Label) -> list[tuple[str, Label]]:
        assert isinstance(label, list)
        number, _, score, _ = label
        return [
            (text, [number, float(part), score, float(text_identity(text))]) for text, part in _others(options, row)
        ]

    @classmethod
    def fit(cls, name: str, options: EmbeddingOptions, stats: LabelStats) -> Embedding:
        if not stats.present:
            raise ValueError("the training rows hold no pair at all")
        if options.score is None:
            if stats.present < 2:
                raise ValueError("the training rows hold only one pair; negatives are the texts of other rows")
            return cls(name, options)
        if stats.low == stats.high:
            raise ValueError(f"every training row has the score {stats.low}; there is nothing to learn")
        return cls(name, options, stats.low, stats.high)

    def on_encoder(self, width: int) -> Self:
        task = super().on_encoder(width)
        wrong = [cut for cut in self.options.sizes if cut >= task.width]
        if wrong:
            raise ValueError(
                f"sizes: found {max(wrong)}, and the vectors have {task.width} elements; give smaller sizes"
            )
        return task

    @property
    def own_metrics(self) -> tuple[str, ...]:
        return _PAIRED if self.options.score is None else _SCORED

    @property
    def labels(self) -> tuple[str, ...]:
        return ()

    @property
    def gives_vectors(self) -> bool:
        return True

    def only_label(self, stats: LabelStats) -> str | None:
        same = self.options.score is not None and stats.low == stats.high
        return f"the score {stats.low:g}" if same else None

    def encode(self, label: Label) -> list[float]:
        assert isinstance(label, list)
        row, part, score, text = label
        return as_targets(int(row), int(part), float(score), int(text))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        import torch

        texts, scale = BatchTexts.of(targets), self.options.scale
        compare = in_batch_loss if self.options.score is None else cosent_loss
        losses = [compare(vectors, texts, scale) for vectors in of_sizes(outputs, self.options.sizes)]
        return torch.stack(losses).mean()

    def loss_denominator(self, targets: Tensor) -> float:
        """Return the number of rows; a row has several texts."""
        return float((BatchTexts.of(targets).parts == ANCHOR).sum())

    def distillation_loss(self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return 1 - cosine between vectors and the teacher's: the mean over a row's texts, summed over rows."""
        distances = direction_loss(outputs, teacher_logits)
        rows = BatchTexts.of(targets).rows
        _, index, count = rows.unique(return_inverse=True, return_counts=True)
        return (distances / count[index]).sum()

    def training_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Half the distance of pairs' cosines from their targets: 1, or the score scaled to -1 to 1."""
        import torch

        texts = BatchTexts.of(targets)
        anchors, others = texts.pairs()
        cosines = torch.nn.functional.cosine_similarity(outputs[anchors], outputs[others], dim=-1)
        expected = torch.ones_like(cosines)
        if self.options.score is not None:
            position = (texts.scores[anchors].to(cosines) - self.low) / (self.high - self.low)
            expected = 2.0 * position - 1.0
        sums, counts = outputs.new_zeros(outputs.shape[-1]), outputs.new_zeros(outputs.shape[-1])
        sums[0] = ((cosines - expected).abs() / 2.0).clamp(0.0, 1.0).sum()
        counts[0] = float(len(anchors))
        return sums, counts

    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        del words
        return [list(line) for line in self._answers(outputs).tolist()]

    def _answers(self, outputs: Outputs) -> Floats:
        vectors = outputs.astype(np.float64)
        return nearest.unit(vectors) if self.options.normalize else vectors

    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> dict[str, Any]:
        del text, words, has_token
        return {"vector": [rounded(value) for value in self._answers(outputs).tolist()]}

    def compared(self, labels: Sequence[Label], predictions: Sequence[Label]) -> ComparedAnswers:
        """Compare the texts of each row: the cosine with the score, or the rank of the other text."""
        values = np.array(labels, dtype=np.float64).reshape(-1, 4)
        rows, parts, texts = (values[:, at].astype(np.int64) for at in (0, 1, 3))
        vectors = np.array(predictions, dtype=np.float64).reshape(len(labels), -1)
        anchors, others = _paired(rows, parts)
        places = anchors.tolist()
        if self.options.score is None:
            ranks = nearest.ranks(vectors, texts, anchors, others, np.flatnonzero(parts != ANCHOR))
            return ComparedAnswers(places, [1.0] * len(places), ranks.tolist())
        units = nearest.unit(vectors)
        cosines = (units[anchors] * units[others]).sum(axis=-1)
        return ComparedAnswers(places, values[anchors, 2].tolist(), cosines.tolist())

    def neighbours(self, labels: Sequence[Label], outputs: Outputs, count: int) -> list[list[tuple[int, float]]]:
        values = np.array(labels, dtype=np.float64).reshape(-1, 4)
        rows, parts, texts = (values[:, at].astype(np.int64) for at in (0, 1, 3))
        anchors, _ = _paired(rows, parts)
        return nearest.closest(self._answers(outputs), texts, anchors.tolist(), np.flatnonzero(parts != ANCHOR), count)

    def baseline(self, labels: Sequence[Label]) -> list[Label]:
        """Return the same vector for all texts."""
        return [[1.0] for _ in labels]


def _others(options: EmbeddingOptions, row: Row) -> list[tuple[str, int]]:
    """Return the other texts of a row, each with its part number; empty if the row is not labelled."""
    positive = row.get(options.positive)
    if says_nothing(positive, options):
        return []
    column = _negative(options)
    negative = row.get(column)
    many = negative if isinstance(negative, list) else [] if says_nothing(negative, options) else [negative]
    for name, text in [(options.positive, positive), *((column, text) for text in many)]:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name!r} holds {brief(text)}; expected a text")
    return [(str(text), OTHER + place) for place, text in enumerate([positive, *many])]


def _negative(options: EmbeddingOptions) -> str:
    return "negative" if options.negative is None else options.negative


def _paired(rows: NDArray[np.int64], parts: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of the anchors that have another text, and the indices of those texts."""
    places = {row: place for place, row in enumerate(rows.tolist()) if parts[place] == OTHER}
    anchors = [place for place in np.flatnonzero(parts == ANCHOR).tolist() if int(rows[place]) in places]
    others = [places[int(rows[place])] for place in anchors]
    return np.array(anchors, dtype=np.intp), np.array(others, dtype=np.intp)
