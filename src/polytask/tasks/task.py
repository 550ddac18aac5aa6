"""What every task type offers: a reader of labels, an objective, answers, and its own JSON form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, Literal, Self, TypeAlias, get_type_hints

from pydantic import ConfigDict, TypeAdapter

from polytask.errors import ConfigError
from polytask.tasks.answering import Answering
from polytask.tasks.metric import METRICS, metrics_of_type, ordered_metrics
from polytask.tasks.objective import Objective
from polytask.tasks.reader import LabelReader
from polytask.terms import Activation, Label

# Marks the fields of a task that are fitted on dev, once the model is chosen.
ON_DEV = {"fitted": "dev"}
# Marks the fields that repeat what the task's head has learned, for programs that have the head's outputs only.
BY_HEAD = {"fitted": "head"}
ProblemType: TypeAlias = Literal["single_label_classification", "multi_label_classification", "regression"]
# How values that a training learned are read from a model folder: as they were written, and finite.
_AS_WRITTEN = ConfigDict(strict=True, allow_inf_nan=False)
_POSITIVE = frozenset({"temperature", "deviation"})


class Task(LabelReader, Objective, Answering):
    """One thing to predict; built from options and the label statistics of the training rows."""

    type_name: ClassVar[str]
    # What the head's outputs become for the tasks that read them.
    activation: ClassVar[Activation]
    # How Hugging Face's classes for texts, and its pipelines, take the outputs.
    problem_type: ClassVar[ProblemType | None] = None
    # Whether one of Hugging Face's classes for words takes the outputs; at row level `problem_type` says it.
    plain_form: ClassVar[bool] = False
    # Names that others have for the type, written with small letters and hyphens.
    also_called: ClassVar[tuple[str, ...]] = ()
    # The type's own row of the table of heads; by default that of its level.
    head_type: ClassVar[str | None] = None

    @classmethod
    def for_options(cls, options: Any) -> type[Task]:  # noqa: ANN401
        """Return the class of a task with such options; a type may have several."""
        del options
        return cls

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The columns of a row that is to be answered."""
        inputs = self.options.inputs
        return tuple(name for name in (inputs.first, inputs.second, self.options_column) if name is not None)

    @property
    def answers(self) -> bool:
        """Whether there is anything to answer once the model is trained; what only trains is not kept in the model."""
        return self.options.answers

    @property
    def answer_size(self) -> int:
        """How many numbers stand for a row's (or word's) answer: as many as the head has, or as there are labels."""
        return self.head.size

    @property
    def own_metrics(self) -> tuple[str, ...]:
        """Names of the type's own metrics that score the task, the one that is the main one by default first."""
        return self.options.metrics

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that score the task, the main one first; users may have registered some for the type."""
        found = metrics_of_type(self.own_metrics, self.level, self.type_name)
        if self.positive is None:
            found = tuple(name for name in found if METRICS[self.level][name].takes == "labels")
        return ordered_metrics(found, self.options.metric)

    @property
    def metric(self) -> str:
        """The main metric."""
        return self.metrics[0]

    def measured_by(
        self,
        metric: str,
        labels: Sequence[Label],
        predictions: Sequence[Label],
        probabilities: Sequence[float] | None = None,
    ) -> tuple[Sequence[Any], Sequence[Any]]:
        """Return truth and predictions as a metric takes them.

        Args:
            probabilities: of the positive label; without them it is as probable in every row.
        """
        takes = METRICS[self.level][metric].takes
        if takes == "labels":
            return self.measured(labels), self.measured(predictions)
        truth = [label == self.positive for label in labels]
        if takes == "positive":
            return truth, [label == self.positive for label in predictions]
        return truth, [0.0] * len(truth) if probabilities is None else probabilities

    def require_known_positive(self) -> None:
        """Raise ValueError where a metric that the options name is about the positive label, and none is known."""
        named = [self.options.metric, *((self.options.gate and self.options.gate.score) or ())]
        for name in () if self.positive is not None else named:
            row = METRICS[self.level].get(name)
            if row is not None and row.takes != "labels":
                shown = ", ".join(self.labels[:10]) + (", ..." if len(self.labels) > 10 else "")
                raise ValueError(
                    f"found the metric {name}, which is about one label, and none is known to be the positive one; "
                    f"write `positive: LABEL`; labels: {shown}"
                )

    def require_usable_loss(self) -> None:
        """Try a loss of the user's own on two outputs. Raises ConfigError where it cannot be used."""
        import torch

        if self.options.loss is None:
            return
        label: Label = next(iter(self.labels), 0.0)
        target = self.encode([label] if self.label_type.startswith("list") else label)  # type: ignore[list-item]
        one = target[0] if self.level == "word" and isinstance(target, list) else target
        targets = torch.tensor([one, one])
        outputs = torch.zeros(2, self.head.size, requires_grad=True)
        try:
            self.label_loss(outputs, targets).backward()
        except (ConfigError, RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ConfigError(f"tasks.{self.name}.loss: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Return the task as JSON: its type, its options without the data, what it learned from training rows and dev.

        What the targets of rows depend on is under `fitted`; `tuned` is what the chosen model decides by: fitted on
        dev, or learned by the head.
        """
        learned = [key for key in fields(self) if key.name not in ("name", "options")]  # type: ignore[arg-type]
        fitted = {key.name: getattr(self, key.name) for key in learned if "fitted" not in key.metadata}
        tuned = {key.name: getattr(self, key.name) for key in learned if "fitted" in key.metadata}
        options = self.options.model_dump(mode="json", exclude={"data", "loss"})
        return {"type": self.type_name, "options": options, "fitted": fitted, "tuned": tuned}

    def unfitted(self) -> Self:
        """Return the task as it was before anything was fitted on dev."""
        known = fields(self)  # type: ignore[arg-type]
        return replace(self, **{key.name: key.default for key in known if key.metadata == ON_DEV})  # type: ignore[type-var]

    @classmethod
    def from_json(cls, name: str, data: dict[str, Any]) -> Task:
        """Rebuild the task from `to_json`; one of before anything was fitted on dev has no `tuned`.

        Raises ValueError or TypeError where the values are none that a training can have learned.
        """
        learned = {**data["fitted"], **data.get("tuned", {})}
        options = cls.Options.model_validate({key: value for key, value in data["options"].items() if key != "data"})
        kind = cls.for_options(options)
        kinds = get_type_hints(kind)
        given = {
            key: TypeAdapter(kinds[key], config=_AS_WRITTEN).validate_python(
                tuple(value) if isinstance(value, list) else value
            )
            for key, value in learned.items()
        }
        task = kind(name, options, **given)  # type: ignore[call-arg]
        task.require_sound(given)
        return task

    def require_sound(self, learned: Mapping[str, Any]) -> None:
        """Raise ValueError unless the learned values belong together."""
        lists = {key: value for key, value in learned.items() if isinstance(value, tuple) and (value or key != "cuts")}
        sizes = {len(value) for value in lists.values()}
        if len(sizes) > 1 or 0 in sizes:
            raise ValueError(
                f"{self.name}: {', '.join(lists)} have {sorted(sizes)} values; expected one for each label"
            )
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"{self.name}: a label stands twice")
        for key in _POSITIVE & learned.keys():
            if not learned[key] > 0:
                raise ValueError(f"{self.name}: {key} is {learned[key]}; expected a number above 0")
