"""How a task type answers: labels from a head's outputs, their probabilities, and the form that users read."""

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
    """Labels and predictions to score, for tasks whose rows can only be scored together.

    Attributes:
        rows: indices of the rows that these answers belong to.
        labels, predictions: arguments of the metrics, one for each of these rows.
    """

    rows: list[int]
    labels: list[Label]
    predictions: list[Label]


class Answering(ABC):
    """The side of a task type that turns outputs into answers."""

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """The label space; empty if labels are numbers."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels to show to users; of the two tags of an entity type, the first."""
        return self.labels

    @property
    def finds_spans(self) -> bool:
        """Whether `format_prediction` returns character spans, which annotation tools read."""
        return False

    @property
    def label_texts(self) -> tuple[str, ...]:
        """The texts of the labels, if the encoder reads them as it reads rows; otherwise empty."""
        return ()

    def against(self, outputs: Outputs, labels: Outputs) -> Outputs:
        """Return the outputs that `decode` takes: rows x answer_size.

        Args:
            outputs: the head's outputs for rows.
            labels: the head's outputs for `label_texts`.
        """
        del labels
        return outputs

    def with_labels(self, labels: Mapping[Any, Any] | list[Any]) -> Self:
        """Return the task with labels added, removed or described anew; only for tasks whose labels are texts.

        Args:
            labels: each label's text, or None to remove the label; or a list of names, which are also the texts.

        Raises ValueError if fewer than two labels are left, or two have the same text.
        """
        del labels
        raise ValueError("its labels are not texts; train it with `type: matching`")

    @property
    def options_column(self) -> str | None:
        """Name of the column with each row's own options; None if rows have no options of their own."""
        return None

    def with_options(self, texts: Sequence[str]) -> Answering:
        """Return an object that answers a row with these options."""
        raise AssertionError(texts)

    def readable_label(self, label: Label, others: Sequence[str]) -> Label:
        """Return a label of `compared` in the form that users read.

        Args:
            others: the other texts of its row.
        """
        del others
        return label

    def neighbours(self, labels: Sequence[Label], outputs: Outputs, count: int) -> list[list[tuple[int, float]]] | None:
        """Return each compared row's closest texts as (row index, cosine) pairs; None if answers are not vectors.

        Args:
            labels, outputs: labels and outputs of the rows that `compared` takes.
        """
        del labels, outputs, count
        return None

    @property
    def gives_vectors(self) -> bool:
        """Whether an answer is a vector for comparing texts, not a label."""
        return False

    @property
    def example(self) -> Any:  # noqa: ANN401
        """An example answer without empty lists, if no single output makes one; None if outputs do."""
        return None

    @property
    def unit(self) -> tuple[float, float]:
        """Factor and summand that turn the head's outputs into what other programs expect: logits, or the number.

        An export folds them into the output layer.
        """
        return 1.0, 0.0

    @property
    def thresholds(self) -> dict[str, float]:
        """Each label's threshold, as a probability; empty if the most probable label is predicted."""
        return {}

    @property
    def positive(self) -> str | None:
        """The positive label, which F1, precision and recall are about; None if none is known."""
        return None

    def positive_probabilities(self, outputs: Outputs) -> Floats | None:
        """Return the probability of the positive label in each row; None if none is known.

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
        """The range of most numbers in the training rows; None if labels are not numbers."""
        return None

    @property
    def typed_questions(self) -> tuple[TypedQuestion, ...]:
        """Typed questions that the task answers, one of each kind; none by default."""
        return ()

    def asked(self, question: TypedQuestion) -> Probabilities:
        """Return a function that answers a typed question from one text's outputs.

        Raises ValueError with the reason if the task cannot answer it.
        """
        raise ValueError(f"the task answers no {question.type} question")

    def decided(self, question: TypedQuestion, outputs: Outputs) -> str | None:
        """Return the option that a threshold decides for; None if the most probable option is chosen.

        Args:
            outputs: outputs of one text.
        """
        del question, outputs
        return None

    @property
    def answer_range(self) -> tuple[float, float] | None:
        """The range to which answers are limited; None if it is unlimited, or labels are not numbers."""
        return None

    @property
    def scale(self) -> tuple[str, ...]:
        """The labels in ascending order, if they have an order."""
        return ()

    @property
    def absent(self) -> str | None:
        """The name of `no label` in `confusion_pairs`; None if each decision has a label."""
        return None

    @abstractmethod
    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        """Turn outputs into one label a row.

        Args:
            outputs: rows (or words that have a token of their own) x size.
            words: at word level, NO_TOKEN, OWN_TOKEN or SHARED_TOKEN for each word of each row.
        """

    @abstractmethod
    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Turn one row's outputs into the answer that users read: labels with probabilities, or entities with offsets.

        Args:
            outputs: size, or words that have a token of their own x size.
            has_token: for each word NO_TOKEN, OWN_TOKEN or SHARED_TOKEN.
        """

    def compared(self, labels: Sequence[Label], predictions: Sequence[Label]) -> ComparedAnswers | None:
        """Return what to score for tasks that compare the answers of several rows; None to score each row by itself.

        Args:
            labels, predictions: labels and predictions of all rows of a split.
        """
        del labels, predictions
        return None

    def outputs_of(self, answer: Any) -> list[float]:  # noqa: ANN401
        """Return head outputs that lead to an answer: one from `format_prediction`, or its probabilities or number.

        Raises ValueError if it is not an answer, and for task types whose answers do not determine the outputs.
        """
        del answer
        raise ValueError("answers of this type do not determine the logits; name a trained model as its teacher")

    def with_learned(self, learned: Mapping[str, Floats]) -> Self:
        """Return the task with the learned values of its head that decide answers (`Head.learned`)."""
        del learned
        return self

    def as_teacher(self, outputs: Outputs) -> Outputs:
        """Return a row's outputs as the logits that a student learns from.

        Args:
            outputs: size, or words that have a token of their own x size.
        """
        return outputs

    def averaged(self, outputs: Outputs, weights: Floats) -> Outputs:
        """Return the outputs of the mean of several answers, such as those of a long text's windows.

        At row level, what is averaged is what users see: probabilities or values.

        Args:
            outputs: answers x size.
            weights: weight of each answer; they add up to 1.
        """
        return (weights @ outputs).astype(np.float32)

    def certainty(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Floats, Bools] | None:
        """Return the probability of each decision and whether it is right; None if there are no probabilities.

        Args:
            outputs, words: as for `decode`; words without a token of their own are skipped.
            labels: the rows' labels.
        """
        del outputs, labels, words
        return None

    def cross_entropy(self, outputs: Outputs, targets: Floats) -> float | None:
        """Return the mean cross-entropy of the predicted probabilities against label distributions.

        Args:
            outputs: as for `decode`.
            targets: probabilities, rows x labels.
        """
        del outputs, targets
        return None

    @property
    def fits_on_dev(self) -> bool:
        """Whether `tuned` fits anything."""
        return False

    @property
    def calibrates(self) -> bool:
        """Whether `tuned` fits a temperature, which calibrates probabilities."""
        return False

    def tuned(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Self, list[str]]:
        """Return the task with thresholds and temperatures fitted on dev rows, and notes for the user.

        Earlier fits are discarded. Without dev rows the defaults stay, and the notes say so.

        Args:
            outputs, words: as for `decode`.
            labels: the rows' labels.
        """
        del outputs, labels, words
        return self, []

    def describe_tuned(self) -> dict[str, Any]:
        """Return what was fitted on dev, in the form that users read."""
        return {}

    def uncalibrated(self) -> Self:
        """Return the task with the same decisions but the uncalibrated probabilities."""
        return self

    @abstractmethod
    def baseline(self, labels: Sequence[Label]) -> list[Label]:
        """Return the predictions of the majority baseline (from the training rows) for these rows."""

    def measured(self, labels: Sequence[Label]) -> Sequence[Any]:
        """Return labels in the form that metrics of labels take: unchanged, or as positions on a scale."""
        return labels

    def confusion_pairs(self, labels: Sequence[Label], predictions: Sequence[Label]) -> list[tuple[str, str]] | None:
        """Return each decision as (true label, predicted label); None if labels are not classes.

        Args:
            labels, predictions: labels and predictions of the same rows.
        """
        del labels, predictions
        return None
