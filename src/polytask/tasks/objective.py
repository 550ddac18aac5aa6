"""How a task type is trained: targets, losses, and the errors that balancers read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

from numpy.typing import NDArray

from polytask.tasks.arrays import per_word
from polytask.tasks.losses import own_loss
from polytask.tasks.metric import Level
from polytask.tasks.weighing import weighed_denominator, weighed_loss
from polytask.terms import OWN_TOKEN, SHARED_TOKEN, HeadSpec, Label

if TYPE_CHECKING:
    from torch import Tensor

TargetType: TypeAlias = Literal["int", "float", "list<int>", "list<float>"]


@dataclass(frozen=True)
class RateBound:
    """The encoder's learning rate above which training destroys more of what the task needs than it adds.

    Attributes:
        rate: upper limit of what `auto` chooses if all tasks have a bound.
        forgets: what the encoder forgets above it, as the end of a sentence.
    """

    rate: float
    forgets: str


class Objective(ABC):
    """The side of a task type that computes losses."""

    level: ClassVar[Level] = "row"
    # Type of what `encode` returns for a row: a class, a number, or a class or number for each word (or label).
    target_type: TargetType
    # Whether a row's loss depends on all other rows of its step, also those of other micro-batches and processes.
    joins_rows: ClassVar[bool] = False

    # Length to which a row's targets are padded with zeros in a batch; 0: they are not padded.
    target_width: ClassVar[int] = 0

    name: str
    options: Any
    # Whether the training rows have labels that are distributions: `encode` then returns a probability for each class.
    soft: bool = False

    @property
    @abstractmethod
    def head(self) -> HeadSpec:
        """The specification of the task's head; `head_specs` adds what it reads of other tasks."""

    @property
    def mask_rate(self) -> float | None:
        """Share of words masked in the task's copy of each row; None if it reads rows unmasked."""
        return None

    @property
    def rate_bound(self) -> RateBound | None:
        """Bound of the encoder's learning rate, for tasks that rely on what the encoder already knows; else None."""
        return None

    @property
    def label_targets(self) -> tuple[int, ...]:
        """Targets that mark the labels' texts, in the order of `label_texts`, when they are added to a batch."""
        return ()

    def on_encoder(self, width: int) -> Self:
        """Return the task for an encoder with states of this width. Raises ValueError if it does not fit."""
        del width
        return self

    @abstractmethod
    def encode(self, label: Label) -> int | float | list[int] | list[float]:
        """Turn a label into what the loss takes; labels unseen in training become -100 (ignored by the loss)."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss of the targets.

        Args:
            outputs: rows (or words) x size, float32; a chained head (`HeadSpec`) appends its transitions.
            targets: rows (or words), or rows x size for several labels; for words, as `word_targets` returns them.
        """

    @abstractmethod
    def distillation_loss(self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the summed loss against a teacher's outputs, each weighted as its label is in `loss`.

        So `loss_denominator` holds for both. Where the label is -100 (ignored), the teacher is ignored too.

        Args:
            outputs, teacher_logits: rows (or words) x size, float32.
            targets: as for `loss`.
        """

    @abstractmethod
    def training_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of errors and the number of examples of each class.

        Balancers and schedules use them: unlike losses, they compare across task types, and no frequent class hides a
        rare one. An error is 0 for a perfect model and 1 for one that knows nothing; a class with a mean error above 1
        in a step counts as 1. Both tensors add up over the micro-batches of a step.

        Args:
            outputs, targets: as for `loss`; without a gradient.

        Returns:
            Two tensors of as many elements as the head has outputs.
        """

    def word_targets(self, targets: NDArray[Any], words: NDArray[Any]) -> NDArray[Any]:
        """Return the loss's targets of a row's words: a target, or a line, for each word with a token of its own.

        A loss over whole rows marks the beginning of each row here.

        Args:
            targets: targets as `encode` returned them.
            words: NO_TOKEN, OWN_TOKEN or SHARED_TOKEN for each word.
        """
        return targets[words == OWN_TOKEN]

    def lost_words(self, targets: Sequence[float], words: Sequence[int]) -> int:
        """Count the words with a wrong value because they share a token with another word.

        Args:
            targets, words: as for `word_targets`.
        """
        own = [target for target, word in zip(targets, words, strict=True) if word == OWN_TOKEN]
        predicted = per_word(own, words, -100.0)
        pairs = zip(predicted, targets, words, strict=True)
        return sum(self.continued(first) != target for first, target, word in pairs if word == SHARED_TOKEN)

    @property
    def teacher_size(self) -> int:
        """Number of logits that `Answering.as_teacher` returns for a row or a word."""
        return self.head.size

    def loss_denominator(self, targets: Tensor) -> float:
        """Return the denominator of the mean loss: the number of targets, or the sum of their weights."""
        return float(len(targets))

    def convert_teacher_logits(self, outputs: Tensor, teacher: Objective) -> Tensor:
        """Convert outputs of a teacher's task, which has the same labels, to outputs of this task."""
        del teacher
        return outputs

    def label_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss against the labels: the type's own loss, or the loss that the options name.

        Raises ConfigError if the named loss does not return one number for each target.
        """
        if self.options.loss is None:
            return self.loss(outputs, targets)
        return own_loss(self.options.loss, outputs, targets)

    def loss_with_teacher(
        self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor, label_weight: float
    ) -> Tensor:
        """Return the summed loss label_weight x labels + (1 - label_weight) x teacher.

        Source: Clark et al. 2019, "BAM! Born-Again Multi-Task Networks", section 3 (teacher annealing). Where the
        teacher has no logits (nan: a word beyond its encoder's limit), only the label counts.
        """
        if label_weight >= 1.0:
            return self.label_loss(outputs, targets)
        taught = ~teacher_logits.isnan().any(-1)
        distilled = self.distillation_loss(outputs[taught], targets[taught], teacher_logits[taught])
        untaught = self.label_loss(outputs[~taught], targets[~taught])
        return label_weight * self.label_loss(outputs, targets) + (1.0 - label_weight) * (distilled + untaught)

    def weighed_loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Return the summed loss against the labels, each weighted by its row; `weights` None: all weigh the same."""
        return weighed_loss(self.label_loss, weights, outputs, targets)

    def weighed_denominator(self, targets: Tensor, weights: Tensor | None) -> float:
        """Return the denominator that turns `weighed_loss` into a mean."""
        return weighed_denominator(self.loss_denominator, weights, targets)

    def continued(self, target: float) -> float:
        """Return the target of later words that share a token with the word of this target."""
        return target
