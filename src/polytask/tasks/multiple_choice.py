"""One of several options that come with each row, such as the answers to a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from polytask.errors import nearest
from polytask.tasks.answering import Answering, ComparedAnswers
from polytask.tasks.arrays import Bools, Floats, Outputs, rounded, softmax
from polytask.tasks.calibrated import Calibrated
from polytask.tasks.calibration import fit_temperature
from polytask.tasks.cells import brief, listed
from polytask.tasks.contrast import HALF, direction_loss, text_identity
from polytask.tasks.label_stats import LabelStats
from polytask.tasks.labels import is_seen, label_text, require_whole, says_nothing
from polytask.tasks.reader import Row
from polytask.tasks.task import ON_DEV
from polytask.tasks.vector_task import VectorTask
from polytask.terms import Label, WordSpan

if TYPE_CHECKING:
    from torch import Tensor

# Targets have room for this many options; choosing among more is a search.
MOST_OPTIONS = 64


@dataclass(frozen=True)
class MultipleChoice(VectorTask, Calibrated):
    """The option of a row whose vector is closest to the text's: `type: matching` with `options`.

    The encoder reads the text and each option separately, as rows. The label of a text is the number of the right
    option, from 1, and the hashes of its options; that of an option is 0 and its own hash.
    """

    name: str
    options: Any  # MatchingOptions, whose file imports this one
    temperature: float = field(default=1.0, metadata=ON_DEV)
    width: int = 0

    type_name = "matching"
    label_type = "list<double>"
    target_type = "list<int>"
    activation = "identity"
    head_type = "matching"
    companions_recur = True
    target_width = 1 + 2 * MOST_OPTIONS

    @classmethod
    def columns(cls, options: Any) -> tuple[str, ...]:  # noqa: ANN401
        assert options.options is not None
        return options.options, options.label

    @classmethod
    def read(cls, options: Any, row: Row, stats: LabelStats) -> Label:  # noqa: ANN401
        del stats
        assert options.options is not None
        cell = row.get(options.label)
        if says_nothing(cell, options):
            return None
        texts = options_in(row, options.options)
        if isinstance(cell, Mapping | list):
            raise ValueError(f"found the label {brief(cell)}; a label is the text of one of the row's options")
        label = label_text(cell)
        if label not in texts:
            raise ValueError(
                f"found the label {brief(label)}, which is not one of the row's options; a label is the text of an "
                f"option, not its number or letter; {nearest(label, texts)}"
            )
        return [float(texts.index(label) + 1), *(float(text_identity(text)) for text in texts)]

    @classmethod
    def companions(cls, options: Any, row: Row, label: Label) -> list[tuple[str, Label]]:  # noqa: ANN401
        assert options.options is not None
        assert isinstance(label, list)
        texts = options_in(row, options.options)
        return [(text, [0.0, identity]) for text, identity in zip(texts, label[1:], strict=True)]  # type: ignore[list-item]

    @classmethod
    def fit(cls, name: str, options: Any, stats: LabelStats) -> MultipleChoice:  # noqa: ANN401
        if not stats.present:
            raise ValueError("the training rows hold no label at all")
        return cls(name, options)

    @property
    def own_metrics(self) -> tuple[str, ...]:
        return ("accuracy",)

    @property
    def labels(self) -> tuple[str, ...]:
        return ()

    def with_labels(self, labels: Mapping[Any, Any] | list[Any]) -> NoReturn:
        del labels
        raise ValueError(f"its options come with each row, in the column {self.options.options!r}")

    @property
    def options_column(self) -> str | None:
        return self.options.options

    def with_options(self, texts: Sequence[str]) -> RowChoice:
        return RowChoice(tuple(texts), self.temperature)

    @property
    def example(self) -> dict[str, Any]:
        return RowChoice(("a", "b")).format_prediction(np.zeros(2, np.float32), "", (), ())

    def only_label(self, stats: LabelStats) -> str | None:
        del stats
        return None

    def encode(self, label: Label) -> list[int]:
        assert isinstance(label, list)
        right, *identities = (int(number) for number in label)  # type: ignore[arg-type]
        return [right, *(half for number in identities for half in divmod(number, HALF))]

    def logits(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of each text's options, padded with -inf, and the index of the right option.

        Args:
            outputs, targets: outputs and targets of texts and options, in any order; texts may share an option.
        """
        import torch

        identities = targets[:, 1::2] * HALF + targets[:, 2::2]
        is_text = targets[:, 0] > 0
        options, available = identities[is_text], identities[~is_text][:, 0]
        order = torch.argsort(available)
        index = (
            order[torch.searchsorted(available[order], options).clamp(max=max(len(available) - 1, 0))]
            if len(available)
            else options
        )
        products = outputs[is_text] @ outputs[~is_text].T
        logits = products.gather(1, index) if len(available) else products.new_zeros(options.shape)
        return logits.masked_fill(options == 0, float("-inf")), targets[is_text, 0] - 1

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        import torch

        logits, right = self.logits(outputs, targets)
        if not len(right):
            return outputs.sum() * 0.0
        return torch.nn.functional.cross_entropy(logits, right, reduction="sum")

    def loss_denominator(self, targets: Tensor) -> float:
        """Return the number of rows; a row has several texts."""
        return float((targets[:, 0] > 0).sum())

    def distillation_loss(self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return 1 - cosine between the texts' vectors and the teacher's, summed."""
        texts = targets[:, 0] > 0
        return direction_loss(outputs[texts], teacher_logits[texts]).sum()

    def training_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """1 - probability of the right options."""
        sums, counts = outputs.new_zeros(outputs.shape[-1]), outputs.new_zeros(outputs.shape[-1])
        logits, right = self.logits(outputs, targets)
        if len(right):
            sums[0] = (1 - logits.softmax(-1).gather(1, right.unsqueeze(1))).sum()
            counts[0] = float(len(right))
        return sums, counts

    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        """Return the vectors, which `compared` turns into choices."""
        del words
        return [list(line) for line in outputs.astype(np.float64).tolist()]

    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> NoReturn:
        del outputs, text, words, has_token
        raise AssertionError("a row is answered by `with_options`")

    def compared(self, labels: Sequence[Label], predictions: Sequence[Label]) -> ComparedAnswers:
        """Compare each text with its options, which follow it: the numbers of the right and of the chosen option."""
        vectors = np.array(predictions, dtype=np.float64).reshape(len(predictions), -1)
        places, logits, right = choices(vectors, labels)
        chosen = logits.argmax(-1) if len(places) else []
        return ComparedAnswers(places, [str(place + 1) for place in right], [str(place + 1) for place in chosen])

    def temperature_for(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None
    ) -> tuple[float, list[str]]:
        del words
        _, logits, right = choices(outputs, labels)
        return fit_temperature(logits, right)

    def certainty(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Floats, Bools]:
        del words
        _, logits, right = choices(outputs, labels)
        return softmax(logits / self.temperature).max(-1, initial=0.0), logits.argmax(-1) == right

    def readable_label(self, label: Label, others: Sequence[str]) -> Label:
        return others[int(label) - 1] if isinstance(label, str) else label

    def baseline(self, labels: Sequence[Label]) -> list[Label]:
        """Return vectors that choose an option by its hash, a choice at chance level."""
        return [[1.0 if label[0] else float(label[1])] for label in labels if isinstance(label, list)]  # type: ignore[arg-type]


@dataclass(frozen=True)
class RowChoice(Answering):
    """Answers a row with these options."""

    texts: tuple[str, ...]
    temperature: float = 1.0

    @property
    def labels(self) -> tuple[str, ...]:
        return self.texts

    @property
    def label_texts(self) -> tuple[str, ...]:
        return self.texts

    def against(self, outputs: Outputs, labels: Outputs) -> Outputs:
        return outputs @ labels.T

    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        del words
        return [self.texts[place] for place in outputs.argmax(-1).tolist()]

    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> dict[str, Any]:
        del text, words, has_token
        return {
            "label": self.texts[int(outputs.argmax())],
            "options": list(self.texts),
            "probabilities": [rounded(value) for value in softmax(outputs / self.temperature).tolist()],
        }

    def baseline(self, labels: Sequence[Label]) -> list[Label]:
        return [self.texts[0] for _ in labels]


def choices(outputs: Outputs | Floats, labels: Sequence[Label]) -> tuple[list[int], Floats, NDArray[np.int64]]:
    """Return the indices of the texts, the logits of each text's options, and the index of the right option.

    Args:
        outputs: vectors of texts, each followed by those of its options: rows x width.
        labels: labels of these rows.

    The logits have as many columns as the longest list of options; shorter ones are padded with -inf.
    """
    texts = [(place, label) for place, label in enumerate(labels) if isinstance(label, list) and label[0]]
    logits = np.full((len(texts), max((len(label) - 1 for _, label in texts), default=1)), -np.inf)
    for line, (place, label) in zip(logits, texts, strict=True):
        vectors = outputs[place : place + len(label)].astype(np.float64)
        line[: len(label) - 1] = vectors[1:] @ vectors[0]
    right = np.array([int(label[0]) - 1 for _, label in texts], np.int64)  # type: ignore[arg-type]
    return [place for place, _ in texts], logits, right


def options_in(row: Mapping[str, Any], column: str) -> tuple[str, ...]:
    """Return the texts of a row's options, spelled as labels are.

    Raises ValueError unless they are a list of two or more different texts.
    """
    cell = row.get(column)
    items = listed(cell) if isinstance(cell, str) else cell
    if not isinstance(items, list | tuple):
        raise ValueError(f'{column!r} holds {brief(cell)}; expected a list of the row\'s options, such as ["a", "b"]')
    if not 2 <= len(items) <= MOST_OPTIONS:
        raise ValueError(f"{column!r} holds {_counted(items)}; expected 2 to {MOST_OPTIONS} options")
    texts: dict[str, str] = {}
    for number, item in enumerate(items, start=1):
        if not isinstance(item, str | int | float) or (isinstance(item, str) and not is_seen(item)):
            raise ValueError(f"{column!r}: option {number} is {brief(item)}; expected a text")
        text = label_text(item)
        require_whole(text)
        other = texts.setdefault(text.casefold(), text)
        if len(texts) < number:
            raise ValueError(f"{column!r} holds the option {brief(text)} twice (as {brief(other)}); options differ")
    return tuple(texts.values())


def _counted(items: Sequence[Any]) -> str:
    return f"one option only, {brief(items[0])}" if len(items) == 1 else f"{len(items) or 'no'} options"
