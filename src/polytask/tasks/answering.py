"""What a task type knows of answers: labels out of a head's outputs, how sure they are, and how a person reads them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from polytask.tasks.arrays import Bools, Floats, Outputs
from polytask.tasks.question import Probabilities, TypedQuestion
from polytask.terms import Label, WordSpan


@dataclass(frozen=True)
class ComparedAnswers:
    """What is scored where single rows say nothing.

    Attributes:
        rows: the rows, by their place among those that were given, whose answers these stand beside.
        labels, predictions: what metrics take, one for each of these rows.
    """

    rows: list[int]
    labels: list[Label]
    predictions: list[Label]


class Answering(ABC):
    """The side of a task that answers."""

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """The label space; empty for a number."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels that people wrote; of two tags of one entity type the first."""
        return self.labels

    @property
    def finds_spans(self) -> bool:
        """Whether `format_prediction` tells spans of characters, which annotation tools read."""
        return False

    @property
    def label_texts(self) -> tuple[str, ...]:
        """The texts of the labels, where the model reads them as it reads rows; empty where it knows its labels."""
        return ()

    def against(self, outputs: Outputs, labels: Outputs) -> Outputs:
        """Return the outputs that `decode` takes: rows x answer_size.

        Args:
            outputs: what the head says of rows.
            labels: what it says of `label_texts`.
        """
        del labels
        return outputs

    def with_labels(self, labels: Mapping[Any, Any] | list[Any]) -> Self:
        """Return the task with labels that are added or described anew, where its labels are texts.

        Args:
            labels: by label its text, or None for one that is taken out; or a list of names, which are texts as well.

        Raises ValueError where that cannot be: fewer than two labels are left, or two have the same text.
        """
        del labels
        raise ValueError("its labels are no texts; train it with `type: matching`")

    @property
    def options_column(self) -> str | None:
        """The column of the texts among which a row's answer is, where each row has its own; None where none has."""
        return None

    def with_options(self, texts: Sequence[str]) -> Answering:
        """Return what answers a row that has these options."""
        raise AssertionError(texts)

    def told(self, label: Label, beside: Sequence[str]) -> Label:
        """Return a label of a comparison as a person reads it.

        Args:
            beside: the other texts of its row.
        """
        del beside
        return label

    def neighbours(self, labels: Sequence[Label], outputs: Outputs, count: int) -> list[list[tuple[int, float]]] | None:
        """Return for each comparison the closest texts, as places among the rows and cosines; None without vectors.

        Args:
            labels, outputs: of the rows of `compared`.
        """
        del labels, outputs, count
        return None

    @property
    def gives_vectors(self) -> bool:
        """Whether an answer is a vector to compare texts by, and no label."""
        return False

    @property
    def example(self) -> Any:  # noqa: ANN401
        """An answer that leaves no list empty, where no single output makes one; None where one does."""
        return None

    @property
    def unit(self) -> tuple[float, float]:
        """Factor and summand that turn the head's outputs into what another program expects: logits, or the number.

        An export folds them into the output layer.
        """
        return 1.0, 0.0

    @property
    def thresholds(self) -> dict[str, float]:
        """The probability, as it is shown, from which a label is given; empty where the most probable one is."""
        return {}

    @property
    def positive(self) -> str | None:
        """The label that metrics of one label are about; None where none is known."""
        return None

    def positive_probabilities(self, outputs: Outputs) -> Floats | None:
        """Return the probability of the positive label in each row; None where none is known.

        Args:
            outputs: rows x size.
        """
        del outputs
        return None

    @property
    def decides_words_together(self) -> bool:
        """Whether a word's answer depends on the outputs of its row's other words."""
        return False

    @property
    def typical_range(self) -> tuple[float, float] | None:
        """Where most numbers of the training rows lie; None where labels are no numbers."""
        return None

    @property
    def typed_questions(self) -> tuple[TypedQuestion, ...]:
        """Typed questions that the task answers, one of each kind; none by default."""
        return ()

    def asked(self, question: TypedQuestion) -> Probabilities:
        """Return what answers a typed question from one text's outputs.

        Raises ValueError, saying why, where the task cannot answer it.
        """
        raise ValueError(f"the task answers no {question.type} question")

    def decided(self, question: TypedQuestion, outputs: Outputs) -> str | None:
        """Return the option of a choice that a threshold decides for; None where the most probable one is chosen.

        Args:
            outputs: of one text.
        """
        del question, outputs
        return None

    @property
    def answer_range(self) -> tuple[float, float] | None:
        """The numbers that no answer leaves; None where any number can be answered, or labels are no numbers."""
        return None

    @property
    def scale(self) -> tuple[str, ...]:
        """The labels in their order, where they have one."""
        return ()

    @property
    def absent(self) -> str | None:
        """What stands in `confusion_pairs` for a label that is not there; None where each decision has one."""
        return None

    @abstractmethod
    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        """Turn outputs into one label a row.

        Args:
            outputs: rows (or words that have a token of their own) x size.
            words: for word level, for each row and each of its words NO_TOKEN, OWN_TOKEN or SHARED_TOKEN.
        """

    @abstractmethod
    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Turn one row's outputs into what a user reads: labels with probabilities, or entities with offsets.

        Args:
            outputs: size, or words that have a token of their own x size.
            has_token: for each word NO_TOKEN, OWN_TOKEN or SHARED_TOKEN.
        """

    def compared(self, labels: Sequence[Label], predictions: Sequence[Label]) -> ComparedAnswers | None:
        """Return what is scored, where it is not each row's label and prediction: answers of several rows compared.

        Args:
            labels, predictions: of all rows of a split.
        """
        del labels, predictions
        return None

    def outputs_of(self, answer: Any) -> list[float]:  # noqa: ANN401
        """Return the outputs of a head that answers so: what `format_prediction` shows, or its probabilities or number.

        Raises ValueError for what is no answer, and for task types whose outputs no answer tells.
        """
        del answer
        raise ValueError("answers of this type do not tell a head's outputs; name a trained model as its teacher")

    def with_learned(self, learned: Mapping[str, Floats]) -> Self:
        """Return the task with what its head has learned that answers are decided by (`Head.learned`)."""
        del learned
        return self

    def as_teacher(self, outputs: Outputs) -> Outputs:
        """Return a row's outputs as the logits that a student learns from.

        Args:
            outputs: size, or words that have a token of their own x size.
        """
        return outputs

    def averaged(self, outputs: Outputs, weights: Floats) -> Outputs:
        """Return the outputs that stand for the mean answer of several, such as the windows of a long text.

        At row level: the mean of what is shown, probabilities or values.

        Args:
            outputs: answers x size.
            weights: of the answers; they add up to 1.
        """
        return (weights @ outputs).astype(np.float32)

    def certainty(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Floats, Bools] | None:
        """Return the probability of each decision and whether it is right; None where there are no probabilities.

        Args:
            outputs, words: as for `decode`; a word without a token of its own is no decision.
            labels: the rows' labels.
        """
        del outputs, labels, words
        return None

    def cross_entropy(self, outputs: Outputs, targets: Floats) -> float | None:
        """Return the mean cross-entropy of the shown probabilities to distributions of labels.

        Args:
            outputs: as for `decode`.
            targets: rows x labels.
        """
        del outputs, targets
        return None

    @property
    def fits_on_dev(self) -> bool:
        """Whether `tuned` has anything to do."""
        return False

    @property
    def calibrates(self) -> bool:
        """Whether `tuned` fits a temperature, which corrects probabilities."""
        return False

    def tuned(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Self, list[str]]:
        """Return the task with what is fitted on dev rows, and what a person should know about it.

        What was fitted before is forgotten. No dev row is needed; what then stays as it is, is among the notes.

        Args:
            outputs, words: as for `decode`.
            labels: the rows' labels.
        """
        del outputs, labels, words
        return self, []

    def describe_tuned(self) -> dict[str, Any]:
        """Return what was fitted on dev, as a person reads it."""
        return {}

    def uncalibrated(self) -> Self:
        """Return the task as it decides, with the probabilities that the model was trained to give."""
        return self

    @abstractmethod
    def baseline(self, labels: Sequence[Label]) -> list[Label]:
        """Return what the majority baseline (from training) predicts for these rows."""

    def measured(self, labels: Sequence[Label]) -> Sequence[Any]:
        """Return labels as metrics of all labels take them: as they are, or as places on a scale."""
        return labels

    def confusion_pairs(self, labels: Sequence[Label], predictions: Sequence[Label]) -> list[tuple[str, str]] | None:
        """Return each decision as (true label, label found); None where labels are no classes.

        Args:
            labels, predictions: the labels and the predictions of the same rows.
        """
        del labels, predictions
        return None
