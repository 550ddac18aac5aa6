"""The base class of all task types: it reads labels, has an objective, decides answers and has a JSON form."""

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
# Marks the fields that copy what the task's head has learned, for programs that only have the head's outputs.
BY_HEAD = {"fitted": "head"}
ProblemType: TypeAlias = Literal["single_label_classification", "multi_label_classification", "regression"]
# Learned values are read from a model folder without conversion, and have to be finite.
_AS_WRITTEN = ConfigDict(strict=True, allow_inf_nan=False)
_POSITIVE = frozenset({"temperature", "deviation"})


class Task(LabelReader, Objective, Answering):
    """One thing to predict; built from options and the label statistics of the training rows."""

    type_name: ClassVar[str]
    # Applied to the head's outputs before other tasks read them.
    activation: ClassVar[Activation]
    # The `problem_type` by which Hugging Face's sequence classification models and pipelines take the outputs.
    problem_type: ClassVar[ProblemType | None] = None
    # Whether Hugging Face's token classification models take the outputs; for row level see `problem_type`.
    plain_form: ClassVar[bool] = False
    # Other common names of the type, in lower case and with hyphens.
    also_called: ClassVar[tuple[str, ...]] = ()
    # Name of the type's head in the table of heads; by default the head of its level.
    head_type: ClassVar[str | None] = None

    @classmethod
    def for_options(cls, options: Any) -> type[Task]:  # noqa: ANN401
        """Return the task class for these options; a type may have several classes."""
        del options
        return cls

    @property
    def input_columns(self) -> tuple[str, ...]:
        """Names of the columns that a prediction needs."""
        inputs = self.options.inputs
        return tuple(name for name in (inputs.first, inputs.second, self.options_column) if name is not None)

    @property
    def answers(self) -> bool:
        """Whether the trained model answers this task; a task that only trains is not kept in the model."""
        return self.options.answers

    @property
    def answer_size(self) -> int:
        """Number of outputs that decide a row's (or word's) answer: the size of the head, or the number of labels."""
        return self.head.size

    @property
    def own_metrics(self) -> tuple[str, ...]:
        """Names of the type's own metrics for the task, the default main metric first."""
        return self.options.metrics

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics of the task, the main one first; includes metrics that users registered for the type."""
        names = metrics_of_type(self.own_metrics, self.level, self.type_name)
        if self.positive is None:
            names = tuple(name for name in names if METRICS[self.level][name].takes == "labels")
        return ordered_metrics(names, self.options.metric)

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
        """Return labels and predictions in the form that a metric takes.

        Args:
            probabilities: probability of the positive label in each row; by default the same in every row.
        """
        takes = METRICS[self.level][metric].takes
        if takes == "labels":
            return self.measured(labels), self.measured(predictions)
        truth = [label == self.positive for label in labels]
        if takes == "positive":
            return truth, [label == self.positive for label in predictions]
        return truth, [0.0] * len(truth) if probabilities is None else probabilities

    def require_known_positive(self) -> None:
        """Raise ValueError if the options name a metric that needs a positive label and none is known."""
        named = [self.options.metric, *((self.options.gate and self.options.gate.score) or ())]
        for name in () if self.positive is not None else named:
            row = METRICS[self.level].get(name)
            if row is not None and row.takes != "labels":
                listing = ", ".join(self.labels[:10]) + (", ..." if len(self.labels) > 10 else "")
                raise ValueError(
                    f"found the metric {name}, which needs a positive label, and the task has none; "
                    f"write `positive: LABEL`; labels: {listing}"
                )

    def require_usable_loss(self) -> None:
        """Try the user's own loss on two outputs. Raises ConfigError if it cannot be used."""
        import torch

        if self.options.loss is None:
            return
        label: Label = next(iter(self.labels), 0.0)
        target = self.encode([label] if self.label_type.startswith("list") else label)  # type: ignore[list-item]
        first = target[0] if self.level == "word" and isinstance(target, list) else target
        targets = torch.tensor([first, first])
        outputs = torch.zeros(2, self.head.size, requires_grad=True)
        try:
            self.label_loss(outputs, targets).backward()
        except (ConfigError, RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ConfigError(f"tasks.{self.name}.loss: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Return the task as JSON: its type, its options, what it learned from training rows and dev.

        Of the data, only the unit of offsets is kept, in which further files are read.

        `fitted` holds what the targets of rows depend on; `tuned` holds what the chosen model decides by, fitted on
        dev or learned by the head.
        """
        attributes = [key for key in fields(self) if key.name not in ("name", "options")]  # type: ignore[arg-type]
        fitted = {key.name: getattr(self, key.name) for key in attributes if "fitted" not in key.metadata}
        tuned = {key.name: getattr(self, key.name) for key in attributes if "fitted" in key.metadata}
        options = self.options.model_dump(mode="json", exclude={"data", "loss"})
        if self.options.data.offsets is not None:
            options["data"] = {"offsets": self.options.data.offsets}
        return {"type": self.type_name, "options": options, "fitted": fitted, "tuned": tuned}

    def unfitted(self) -> Self:
        """Return the task as it was before anything was fitted on dev."""
        attributes = fields(self)  # type: ignore[arg-type]
        return replace(self, **{key.name: key.default for key in attributes if key.metadata == ON_DEV})  # type: ignore[type-var]

    @classmethod
    def from_json(cls, name: str, data: dict[str, Any]) -> Task:
        """Rebuild the task from `to_json`; `tuned` is missing where nothing had been fitted on dev yet.

        Raises ValueError or TypeError for values that no training can have learned.
        """
        learned = {**data["fitted"], **data.get("tuned", {})}
        options = cls.Options.model_validate(
            {**data["options"], "data": {"offsets": data["options"].get("data", {}).get("offsets")}}
        )
        kind = cls.for_options(options)
        types = get_type_hints(kind)
        values = {
            key: TypeAdapter(types[key], config=_AS_WRITTEN).validate_python(
                tuple(value) if isinstance(value, list) else value
            )
            for key, value in learned.items()
        }
        task = kind(name, options, **values)  # type: ignore[call-arg]
        task.require_sound(values)
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
            raise ValueError(f"{self.name}: a label occurs twice")
        for key in _POSITIVE & learned.keys():
            if not learned[key] > 0:
                raise ValueError(f"{self.name}: {key} is {learned[key]}; expected a number above 0")
