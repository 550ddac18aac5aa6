"""The options that every task type has."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from polytask.errors import nearest
from polytask.heads import AUTO, HEADS, POOLINGS
from polytask.options import DataOptions, Options
from polytask.registry import NameOf
from polytask.tasks.gate import GateOptions
from polytask.tasks.losses import LOSSES
from polytask.tasks.metric import Level, metrics_of_type
from polytask.terms import Inputs


def _one_or_several(value: Any) -> Any:  # noqa: ANN401
    return (value,) if isinstance(value, str) else value


def _as_cells(value: Any) -> Any:  # noqa: ANN401
    items = _one_or_several([value] if isinstance(value, int | float) else value)
    if not isinstance(items, list | tuple):
        return items
    found = [str(item) if isinstance(item, int | float) and not isinstance(item, bool) else item for item in items]
    return [item.strip() if isinstance(item, str) else item for item in found]


_NAME = {"type": "string"}
_CELL = {"type": ["string", "number"]}
Names: TypeAlias = Annotated[
    tuple[str, ...],
    BeforeValidator(_one_or_several),
    WithJsonSchema({"anyOf": [_NAME, {"type": "array", "items": _NAME}]}),
]

Cells: TypeAlias = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_cells),
    WithJsonSchema({"anyOf": [_CELL, {"type": "array", "items": _CELL}]}),
]


class TaskOptions(Options):
    """The options that every task type has."""

    type: str
    data: DataOptions = Field(
        default=DataOptions(), description="where the rows come from, and how their files are written"
    )
    text: str = Field(default="text", description="column that holds the text")
    text_pair: tuple[str, str] | None = Field(
        default=None, description="two columns, where the task is about a pair of texts"
    )
    unlabelled: Cells = Field(
        default=(), description="words in a label cell that mean: not labelled, as an empty cell does; such as NA"
    )
    label_weight: str | None = Field(
        default=None, description="column of what a training row weighs in the task's loss: a number, 0 or more"
    )
    needs: Names = Field(default=(), description="tasks that this one depends on: one name or several")
    reads: dict[str, Literal["probabilities"]] = Field(
        default={}, description="needed tasks whose predictions the head of this task reads: {intent: probabilities}"
    )
    detach_reads: bool = Field(default=True, description="stop the gradient at what is read")
    gate: GateOptions | None = Field(default=None, description="when the task is ready for those that need it")
    weight: float = Field(default=1.0, gt=0, description="weight of the task's loss")
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="peak rate of layers that this task alone trains; by default that of `train`",
    )
    head_learning_rate: float | None = Field(
        default=None, gt=0, description="peak rate of this task's head; by default that of `train`"
    )
    metric: str | None = Field(default=None, description="main metric; the type's first by default")
    pooling: Annotated[str, NameOf(POOLINGS, AUTO)] = Field(
        default=AUTO,
        description="how the token states become one state per row; auto: last where an encoder's tokens read only "
        "those before them, as a decoder's do, and mean elsewhere",
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="dropout before the output layer")
    head: Annotated[str, NameOf(HEADS)] | None = Field(
        default=None, description="a head of your own, by its registered name; by default the one of the type"
    )
    loss: Annotated[str, NameOf(LOSSES)] | None = Field(
        default=None, description="a loss of your own, by its registered name; by default the one of the type"
    )

    # The type's own; `known_metrics` has those too that users registered for it.
    metrics: ClassVar[tuple[str, ...]] = ()
    # Options that a class adds and that change how a task learns or answers, but nothing that is read from its rows.
    learning: ClassVar[tuple[str, ...]] = (
        "data", "needs", "reads", "detach_reads", "gate", "weight", "learning_rate", "head_learning_rate", "metric",
        "pooling", "dropout", "head", "loss",
    )  # fmt: skip
    # Whether the type answers anything once the model is trained.
    answers: ClassVar[bool] = True
    # Whether the type has one output a text or one a word.
    level: ClassVar[Level] = "row"

    @classmethod
    def known_metrics(cls) -> tuple[str, ...]:
        """Return the metrics that the type is scored by."""
        return metrics_of_type(cls.metrics, cls.level, *getattr(cls.model_fields["type"].annotation, "__args__", ()))

    @field_validator("gate")
    @classmethod
    def _gate_asks_for_known_metrics(cls, value: GateOptions | None) -> GateOptions | None:
        for metric in (value.score or {}) if value is not None else ():
            if metric not in cls.known_metrics():
                raise ValueError(f"found the metric {metric!r} in score; {nearest(metric, cls.known_metrics())}")
        return value

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, value: str | None) -> str | None:
        if value is not None and value not in cls.known_metrics():
            raise ValueError(nearest(value, cls.known_metrics()))
        return value

    @model_validator(mode="after")
    def _own_loss_stands_alone(self) -> Self:
        beside = [name for name in ("class_weights", "label_smoothing") if self.loss and getattr(self, name, None)]
        if beside:
            raise ValueError(
                f"found loss and {' and '.join(beside)}, which belong to the type's own loss; leave one out"
            )
        return self

    def reading(self) -> dict[str, Any]:
        """Return the options on which depends what is read from the rows; the cache goes by them."""
        learning = {name for kind in type(self).__mro__ for name in vars(kind).get("learning", ())}
        return {
            **self.model_dump(mode="json", exclude=learning),
            "strict": self.data.strict,
            "offsets": self.data.offsets,
        }

    @property
    def inputs(self) -> Inputs:
        """The columns that hold the input."""
        return Inputs(*self.text_pair) if self.text_pair else Inputs(self.text)
