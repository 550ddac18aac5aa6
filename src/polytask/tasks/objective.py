"""What a task type knows of training: targets, losses, and the errors that balancers read."""

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
    """An encoder's rate above which training takes more of what the task needs than it gives.

    Attributes:
        rate: the greatest one that `auto` becomes where all tasks have a bound.
        forgets: what the encoder forgets at greater ones, as the end of a sentence.
    """

    rate: float
    forgets: str


class Objective(ABC):
    """The side of a task that is trained."""

    level: ClassVar[Level] = "row"
    # What `encode` returns for a row: a class, a number, or a class or number for each word (or label).
    target_type: TargetType
    # Whether a row's loss depends on the other rows of its step, whichever pieces and processes these are dealt to.
    joins_rows: ClassVar[bool] = False

    # Numbers of a row's targets in a batch, where those that `encode` returns are fewer: zeros stand behind them.
    target_width: ClassVar[int] = 0

    name: str
    options: Any
    # Whether labels of the training rows are distributions: `encode` then returns a probability for each label.
    soft: bool = False

    @property
    @abstractmethod
    def head(self) -> HeadSpec:
        """What the task asks of its head; what it reads of other tasks is added by `head_specs`."""

    @property
    def mask_rate(self) -> float | None:
        """The share of words that are hidden in the task's copy of each row; None where it reads rows as they are."""
        return None

    @property
    def rate_bound(self) -> RateBound | None:
        """The bound of the encoder's rate, where answers live on what the encoder knew before; None for most tasks."""
        return None

    @property
    def label_targets(self) -> tuple[int, ...]:
        """Targets that mark the labels' texts, in the order of `label_texts`: they pass beside the rows of a batch."""
        return ()

    def on_encoder(self, width: int) -> Self:
        """Return the task on an encoder whose states have so many numbers. Raises ValueError where it does not fit."""
        del width
        return self

    @abstractmethod
    def encode(self, label: Label) -> int | float | list[int] | list[float]:
        """Turn a label into what the loss takes; labels unseen in training become -100 (ignored by the loss)."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss of the targets.

        Args:
            outputs: rows (or words) x size, float32; of a chained head (`HeadSpec`) its transitions behind them.
            targets: rows (or words), or rows x size for several labels; of words what `word_targets` makes of them.
        """

    @abstractmethod
    def distillation_loss(self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the summed loss against a teacher's outputs; each counts for as much as its label does in `loss`.

        So `loss_denominator` divides both; where the label is -100 (ignored), the teacher is ignored as well.

        Args:
            outputs, teacher_logits: rows (or words) x size, float32.
            targets: as for `loss`.
        """

    @abstractmethod
    def training_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return errors, added up by class, and how many there are of each class.

        Balancers and schedules read them: unlike losses they compare across task types, and no frequent class hides a
        rare one. An error is 0 where all is right and 1 where nothing is known; a class whose mean error in a step is
        greater counts as 1. Both add up over the pieces of a step.

        Args:
            outputs, targets: as for `loss`; without a gradient.

        Returns:
            Two tensors: as many elements as the head has outputs.
        """

    def word_targets(self, targets: NDArray[Any], words: NDArray[Any]) -> NDArray[Any]:
        """Return what the loss is given of a row's words: a target, or a line, for each that has a token of its own.

        A loss that looks at rows as a whole marks here where they begin.

        Args:
            targets: what `encode` returned.
            words: for each word NO_TOKEN, OWN_TOKEN or SHARED_TOKEN.
        """
        return targets[words == OWN_TOKEN]

    def lost_words(self, targets: Sequence[float], words: Sequence[int]) -> int:
        """Count what words that share a token lose by it: those whose value that token does not tell.

        Args:
            targets, words: as for `word_targets`.
        """
        own = [target for target, word in zip(targets, words, strict=True) if word == OWN_TOKEN]
        told = per_word(own, words, -100.0)
        pairs = zip(told, targets, words, strict=True)
        return sum(self.continued(first) != target for first, target, word in pairs if word == SHARED_TOKEN)

    @property
    def teacher_size(self) -> int:
        """How many numbers `Answering.as_teacher` gives for a row or a word."""
        return self.head.size

    def loss_denominator(self, targets: Tensor) -> float:
        """Return what divides the summed loss into a mean: the number of targets, or the sum of their weights."""
        return float(len(targets))

    def convert_teacher_logits(self, outputs: Tensor, teacher: Objective) -> Tensor:
        """Return the outputs of a teacher's task, which has the same labels, as outputs of this one."""
        del teacher
        return outputs

    def label_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss against the labels: the type's, or the one that the options name.

        Raises ConfigError where that one does not return a number for each target.
        """
        if self.options.loss is None:
            return self.loss(outputs, targets)
        return own_loss(self.options.loss, outputs, targets)

    def loss_with_teacher(
        self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor, label_weight: float
    ) -> Tensor:
        """Return the summed loss label_weight x labels + (1 - label_weight) x teacher.

        Source: Clark et al. 2019, "BAM! Born-Again Multi-Task Networks", section 3 (teacher annealing). Where the
        teacher says nothing (nan: a word that its encoder does not reach), the label counts in full.
        """
        if label_weight >= 1.0:
            return self.label_loss(outputs, targets)
        said = ~teacher_logits.isnan().any(-1)
        distilled = self.distillation_loss(outputs[said], targets[said], teacher_logits[said])
        left = self.label_loss(outputs[~said], targets[~said])
        return label_weight * self.label_loss(outputs, targets) + (1.0 - label_weight) * (distilled + left)

    def weighed_loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Return the summed loss against the labels, each weighed by its row; None where all weigh the same."""
        return weighed_loss(self.label_loss, weights, outputs, targets)

    def weighed_denominator(self, targets: Tensor, weights: Tensor | None) -> float:
        """Return what divides `weighed_loss` into a mean."""
        return weighed_denominator(self.loss_denominator, weights, targets)

    def continued(self, target: float) -> float:
        """Return the target that the words after the first have that share a token with it."""
        return target
