"""Labelled spans of words, which may be nested and may overlap: entities inside entities."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from polytask.tasks.arrays import Floats, Outputs, rounded, sigmoid
from polytask.tasks.label_stats import LabelStats
from polytask.tasks.labels import says_nothing
from polytask.tasks.nested import LEVELS, TokenPlaces, join_spans, relation, spans_of
from polytask.tasks.reader import Row
from polytask.tasks.span_decoding import SpanDecoding
from polytask.tasks.span_scores import scores_of, table_shape
from polytask.tasks.task import BY_HEAD, ON_DEV, Task
from polytask.tasks.thresholds import LEAST_POSITIVE
from polytask.tasks.word import Column, WordOptions
from polytask.terms import HeadSpec, Label, WordSpan

if TYPE_CHECKING:
    from torch import Tensor

# Share of the training rows' spans that an automatic `max_span` covers.
_COVERED = 0.995
# Upper limit of `max_span`: every word has a score for each length and label.
MOST_WORDS = 512
# A teacher's logit for a span that it cannot predict.
_NEVER = -30.0


class SpansOptions(WordOptions):
    """Options of a task that finds spans."""

    type: Literal["spans"]  # pyright: ignore[reportIncompatibleVariableOverride]
    spans: Column = Field(default="spans", description="column of the spans: [start, end, label], as character offsets")
    max_span: int | Literal["auto"] = Field(
        default="auto", description="number of words of the longest span; auto: enough for nearly all training spans"
    )
    overlap: Literal["auto", "none", "nested", "any"] = Field(
        default="auto", description="how predicted spans may overlap; auto: as in the training rows"
    )
    size: int = Field(
        default=64, ge=1, le=1024, description="number of features of a span's first word, and of its last word"
    )
    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["tuned"] = Field(
        default="tuned", description="probability from which a span is predicted; tuned: the best F1 on dev"
    )

    metrics: ClassVar[tuple[str, ...]] = ("span_f1", "span_precision", "span_recall")
    learning: ClassVar[tuple[str, ...]] = ("max_span", "overlap", "size", "threshold")
    values_option: ClassVar[str] = "spans"
    reads_spans: ClassVar[bool] = True
    nested_spans: ClassVar[bool] = True

    @model_validator(mode="after")
    def _pairs_have_their_own_head_and_loss(self) -> Self:
        conflicts = [name for name in ("head", "loss") if getattr(self, name)]
        if conflicts:
            raise ValueError(f"found {' and '.join(conflicts)}; spans are scored by a head and a loss of their own")
        if self.max_span != "auto" and not 1 <= self.max_span <= MOST_WORDS:
            raise ValueError(f"found max_span {self.max_span}; a span has at least 1 word, and at most {MOST_WORDS}")
        return self


@dataclass(frozen=True)
class Spans(Task):
    """Predicts labelled spans, each decided by its first and its last word.

    Attributes:
        longest: number of words of the longest span.
        overlap: how predicted spans may overlap: none, nested or any.
        table: the head's table as kept in a model folder: float32 in base64; "" before training.
    """

    name: str
    options: SpansOptions
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    longest: int
    overlap: str
    table: str = field(default="", metadata=BY_HEAD)
    # The score from which a span is predicted; None: the threshold of the options, or a probability of 0.5.
    cut: float | None = field(default=None, metadata=ON_DEV)

    type_name = "spans"
    also_called = ("nested-ner", "nested-entities", "span", "span-classification", "overlapping-entities", "biaffine")
    Options = SpansOptions
    level = "word"
    label_type = "list<string>"
    target_type = "list<int>"
    activation = "identity"
    head_type = "pairs"

    # rows

    @classmethod
    def columns(cls, options: SpansOptions) -> tuple[str, ...]:
        return (options.tokens, options.spans)

    @classmethod
    def read(cls, options: SpansOptions, row: Row, stats: LabelStats) -> Label:
        cell = row.get(options.spans)
        if says_nothing(cell, options):
            return None
        try:
            spans = spans_of(cell) if isinstance(cell, list) else None
        except (ValueError, AttributeError):
            spans = None
        if spans is None or cell is None:
            raise ValueError(
                f"found {str(cell)[:80]!r} in {options.spans!r}; spans are a list of [start, end, label] by character; "
                "for one tag per word use `type: tagging`"
            )
        for span in spans:
            stats.labels[span.label] += 1
            length = str(span.end - span.first)
            stats.lengths[length] = stats.lengths.get(length, 0) + 1
        pairs = (relation(span, other) for index, span in enumerate(spans) for other in spans[:index])
        stats.overlap = max(stats.overlap, *pairs, 0)
        return list(cell)

    @classmethod
    def names_in(cls, label: Label) -> Iterator[tuple[int, str]]:
        assert isinstance(label, list)
        yield from ((span.first, span.label) for span in spans_of(label))

    @classmethod
    def fit(cls, name: str, options: SpansOptions, stats: LabelStats) -> Spans:
        classes = tuple(sorted(stats.labels))
        if not classes:
            raise ValueError("the training rows hold no span at all")
        longest = min(_covering(stats.lengths), MOST_WORDS) if options.max_span == "auto" else options.max_span
        overlap = LEVELS[stats.overlap] if options.overlap == "auto" else options.overlap
        return cls(name, options, classes, tuple(stats.labels[label] for label in classes), longest, overlap)

    def notes_on(self, stats: LabelStats) -> Iterator[str]:
        beyond = self._beyond(stats)
        missed = f"; {beyond} spans are longer and cannot be found" if beyond else ""
        yield f"spans have up to {self.longest} words (`max_span`){missed}; overlap: {self.overlap}"

    def unreachable(self, stats: LabelStats) -> Iterator[str]:
        beyond = self._beyond(stats)
        if beyond:
            yield f"{beyond} spans have more than {self.longest} words (`max_span`) and cannot be found"

    def _beyond(self, stats: LabelStats) -> int:
        """Return the number of spans that are longer than any that the task finds."""
        return sum(count for length, count in stats.lengths.items() if int(length) > self.longest)

    def only_label(self, stats: LabelStats) -> str | None:
        return None if stats.labels else "no span at all"

    def require_sound(self, learned: Mapping[str, Any]) -> None:
        super().require_sound(learned)
        if not 1 <= self.longest <= MOST_WORDS or self.overlap not in LEVELS:
            raise ValueError(f"{self.name}: longest {self.longest}, overlap {self.overlap!r}")
        if self.cut is not None and not math.isfinite(self.cut):
            raise ValueError(f"{self.name}: cut {self.cut}")
        if self.table:
            _ = self._table

    # tensors

    @property
    def head(self) -> HeadSpec:
        options = self.options
        return HeadSpec(
            "word", 2 * options.size, options.pooling, options.dropout, (), "pairs", pairs=len(self.classes)
        )

    def encode(self, label: Label) -> list[int]:
        """Return the first word, number of words and class of each span, one after another."""
        assert isinstance(label, list)
        spans = [span for span in spans_of(label) if span.label in self._places]
        return [value for span in spans for value in (span.first, span.end - span.first, self._places[span.label])]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {label: index for index, label in enumerate(self.classes)}

    def word_targets(self, targets: NDArray[Any], words: NDArray[Any]) -> NDArray[Any]:
        places = TokenPlaces.of(words)
        matrix = np.zeros((places.count, self.longest, len(self.classes)), np.int64)
        remaining = np.arange(places.count, 0, -1)
        matrix[remaining[:, None] <= np.arange(self.longest)] = -100
        for first, length, label in targets.reshape(-1, 3).tolist():
            place = places.place(first, first + length)
            if place is not None and place[1] - place[0] < self.longest:
                matrix[place[0], place[1] - place[0], label] = 1
        return matrix.reshape(places.count, self.teacher_size)

    def lost_words(self, targets: Sequence[float], words: Sequence[int]) -> int:
        places, lost = TokenPlaces.of(words), 0
        for first, length, _ in np.asarray(targets, np.int64).reshape(-1, 3).tolist():
            place = places.place(first, first + length)
            lost += place is None or places.words(*place) != (first, first + length)
        return lost

    def _band(self, outputs: Tensor) -> Tensor:
        return _losses().band(outputs, len(self.classes), self.longest)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return _losses().loss(self._band(outputs), targets)

    def distillation_loss(self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
        return _losses().distillation_loss(self._band(outputs), targets, teacher_logits)

    def loss_with_teacher(
        self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor, label_weight: float
    ) -> Tensor:
        return _losses().loss_with_teacher(self._band(outputs), targets, teacher_logits, label_weight)

    def training_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return _losses().training_errors(self._band(outputs), targets, len(self.classes), self.head.size)

    @property
    def teacher_size(self) -> int:
        return self.longest * len(self.classes)

    def convert_teacher_logits(self, outputs: Tensor, teacher: Any) -> Tensor:  # noqa: ANN401
        import torch.nn.functional as F

        more = self.teacher_size - teacher.teacher_size
        silent = outputs.isnan().any(-1, keepdim=True)
        converted = F.pad(outputs, (0, more), value=_NEVER) if more > 0 else outputs[:, : self.teacher_size]
        return converted.masked_fill(silent, float("nan"))

    # answers

    @property
    def labels(self) -> tuple[str, ...]:
        return self.classes

    @property
    def finds_spans(self) -> bool:
        return True

    @property
    def example(self) -> list[dict[str, Any]]:
        return [{"label": self.classes[0], "start": 0, "end": 1, "text": "a", "score": 1.0}]

    @property
    def absent(self) -> str | None:
        return "O"

    def with_learned(self, learned: Mapping[str, Floats]) -> Self:
        table = learned["pairs"].astype("<f4").tobytes()
        return replace(self, table=base64.b64encode(table).decode("ascii"))

    @cached_property
    def _table(self) -> NDArray[np.float32]:
        shape = table_shape(len(self.classes), self.head.size)
        if not self.table:
            return np.zeros(shape, np.float32)
        return np.frombuffer(base64.b64decode(self.table, validate=True), "<f4").reshape(shape)

    def as_teacher(self, outputs: Outputs) -> Outputs:
        ((_, scores),) = scores_of(outputs, [len(outputs)], self._table, self.longest)
        return np.maximum(scores.reshape(len(outputs), self.teacher_size), _NEVER)

    @cached_property
    def _decoding(self) -> SpanDecoding:
        return SpanDecoding(self.classes, self._table, self.longest, self.overlap)

    @property
    def _least(self) -> float:
        """The score from which a span is predicted."""
        if self.cut is not None:
            return self.cut
        fixed = 0.5 if self.options.threshold == "tuned" else self.options.threshold
        return math.log(fixed / (1 - fixed))

    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        assert words is not None
        rows = zip(self._decoding.spans(outputs, words, self._least), words, strict=True)
        return [join_spans((span for span, _ in chosen), len(row)) for chosen, row in rows]

    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> list[dict[str, Any]]:
        (chosen,) = self._decoding.spans(outputs, [has_token], self._least)
        entities: list[dict[str, Any]] = []
        for span, score in sorted(chosen, key=lambda pair: (pair[0].first, -pair[0].end)):
            start, end = words[span.first][0], words[span.end - 1][1]
            sure = rounded(float(sigmoid(np.array([score], np.float64))[0]))
            entities.append({"label": span.label, "start": start, "end": end, "text": text[start:end], "score": sure})
        return entities

    @property
    def fits_on_dev(self) -> bool:
        return self.options.threshold == "tuned"

    def tuned(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Self, list[str]]:
        assert words is not None
        if not self.fits_on_dev:
            return self, []
        spans = [spans_of(label) if isinstance(label, list) else [] for label in labels]
        total = sum(map(len, spans))
        if total < LEAST_POSITIVE:
            return replace(self, cut=None), [
                f"threshold stays at 0.5: found {total} spans in the dev rows, and need {LEAST_POSITIVE}"
            ]
        cut = self._decoding.best_cut(outputs, words, spans)
        note = "the threshold was tuned on dev, so the dev scores are optimistic; those on test are not"
        if cut is None:
            note = "threshold stays at 0.5: no span of the dev rows has a probability of 0.05 or more"
        return replace(self, cut=cut), [note]

    def describe_tuned(self) -> dict[str, Any]:
        return {"threshold": rounded(float(sigmoid(np.array([self._least], np.float64))[0]))}

    def baseline(self, labels: Sequence[Label]) -> list[Label]:
        return [[""] * len(label) if isinstance(label, list) else [] for label in labels]

    def confusion_pairs(self, labels: Sequence[Label], predictions: Sequence[Label]) -> list[tuple[str, str]]:
        """Pair the labels of spans with equal boundaries; all other spans are paired with `O`."""
        pairs: list[tuple[str, str]] = []
        for label, prediction in zip(labels, predictions, strict=True):
            assert isinstance(label, list)
            assert isinstance(prediction, list)
            true, guessed = _by_ends(label), _by_ends(prediction)
            for ends in sorted({*true, *guessed}):
                pairs += _paired(true.get(ends, set()), guessed.get(ends, set()))
        return pairs


def _losses() -> ModuleType:
    """Return the module of the losses, which imports torch."""
    from polytask.tasks import span_losses

    return span_losses


def _covering(lengths: Mapping[str, int]) -> int:
    """Return the smallest length that is enough for nearly all spans."""
    total, covered = sum(lengths.values()), 0
    for length in sorted(map(int, lengths)):
        covered += lengths[str(length)]
        if covered >= _COVERED * total:
            return length
    return 1


def _by_ends(label: Sequence[str]) -> dict[tuple[int, int], set[str]]:
    labels: dict[tuple[int, int], set[str]] = {}
    for span in spans_of(label):
        labels.setdefault((span.first, span.end), set()).add(span.label)
    return labels


def _paired(true: set[str], guessed: set[str]) -> list[tuple[str, str]]:
    """Pair the true and predicted labels of one span: equal ones first, then others by name, then the rest with `O`."""
    missed, wrong = sorted(true - guessed), sorted(guessed - true)
    width = max(len(missed), len(wrong))
    unequal = zip(missed + ["O"] * (width - len(missed)), wrong + ["O"] * (width - len(wrong)), strict=True)
    return [*((label, label) for label in sorted(true & guessed)), *unequal]
