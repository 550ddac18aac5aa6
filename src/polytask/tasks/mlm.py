"""Masked language modelling: trains the encoder to predict masked words; the trained model does not answer it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from polytask.tasks.arrays import Outputs, rounded
from polytask.tasks.label_stats import LabelStats
from polytask.tasks.labels import is_seen
from polytask.tasks.reader import Row
from polytask.tasks.task import Task
from polytask.tasks.task_options import TaskOptions
from polytask.terms import HeadSpec, Label, WordSpan

if TYPE_CHECKING:
    from torch import Tensor

# The loss of a uniform guess over a small vocabulary; every model should be better.
GUESSING = math.log(30_000)


class MlmOptions(TaskOptions):
    """Options of masked language modelling."""

    type: Literal["mlm"]  # pyright: ignore[reportIncompatibleVariableOverride]
    mask: float = Field(default=0.15, gt=0, lt=1, description="share of a text's words that are masked")

    metrics: ClassVar[tuple[str, ...]] = ("loss",)
    learning: ClassVar[tuple[str, ...]] = ("mask",)
    answers: ClassVar[bool] = False


@dataclass(frozen=True)
class Mlm(Task):
    """The mean negative log-likelihood of a text's masked tokens, which the head computes: one number per text."""

    name: str
    options: MlmOptions
    rows: int

    type_name = "mlm"
    also_called = (
        "masked-language-modelling",
        "masked-language-modeling",
        "masked-lm",
        "fill-mask",
        "lm",
        "unlabelled",
    )
    Options = MlmOptions
    label_type = "double"
    target_type = "float"
    activation = "identity"
    head_type = "masked"

    @classmethod
    def columns(cls, options: MlmOptions) -> tuple[str, ...]:
        return (options.inputs.first,)

    @classmethod
    def read(cls, options: MlmOptions, row: Row, stats: LabelStats) -> Label:
        """Return 0, the best possible loss, for every text that is not empty."""
        del stats
        text = row.get(options.inputs.first)
        return 0.0 if isinstance(text, str) and is_seen(text) else None

    @classmethod
    def fit(cls, name: str, options: MlmOptions, stats: LabelStats) -> Mlm:
        if not stats.present:
            raise ValueError("the training rows hold no text at all")
        return cls(name, options, stats.present)

    @property
    def head(self) -> HeadSpec:
        return HeadSpec("row", 1, self.options.pooling, self.options.dropout)

    @property
    def mask_rate(self) -> float:
        return self.options.mask

    @property
    def labels(self) -> tuple[str, ...]:
        return ()

    def only_label(self, stats: LabelStats) -> str | None:
        del stats
        return None

    def encode(self, label: Label) -> float:
        del label
        return 0.0

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        del targets
        return outputs.sum()

    def training_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """1 - the geometric mean of the masked tokens' probabilities."""
        return (1 - (-outputs.clamp(min=0)).exp()).sum().unsqueeze(0), outputs.new_tensor([float(len(targets))])

    def distillation_loss(self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the loss of the texts: a teacher has no predictions to add."""
        del teacher_logits
        return self.loss(outputs, targets)

    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        del words
        return list(np.asarray(outputs, np.float64).reshape(-1).tolist())

    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> dict[str, Any]:
        del text, words, has_token
        return {"loss": rounded(float(outputs.item()))}

    def baseline(self, labels: Sequence[Label]) -> list[Label]:
        return [GUESSING] * len(labels)
