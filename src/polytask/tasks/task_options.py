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
from polytask.tasks.metric import Level, metrics_of_type, smaller_is_better
from polytask.terms import Inputs


def _one_or_several(value: Any) -> Any:  # noqa: ANN401
    return (value,) if isinstance(value, str) else value


def _as_read(value: Any) -> Any:  # noqa: ANN401
    names = _one_or_several(value)
    named = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return dict.fromkeys(names, "probabilities") if named else names


def _as_cells(value: Any) -> Any:  # noqa: ANN401
    items = _one_or_several([value] if isinstance(value, int | float) else value)
    if not isinstance(items, list | tuple):
        return items
    texts = [str(item) if isinstance(item, int | float) and not isinstance(item, bool) else item for item in items]
    return [item.strip() if isinstance(item, str) else item for item in texts]


_NAME = {"type": "string"}
_CELL = {"type": ["string", "number"]}
Names: TypeAlias = Annotated[
    tuple[str, ...],
    BeforeValidator(_one_or_several),
    WithJsonSchema({"anyOf": [_NAME, {"type": "array", "items": _NAME}]}),
]

_READ: dict[str, Any] = {"type": "object", "additionalProperties": {"const": "probabilities"}}
Read: TypeAlias = Annotated[
    dict[str, Literal["probabilities"]],
    BeforeValidator(_as_read),
    WithJsonSchema({"anyOf": [_NAME, {"type": "array", "items": _NAME}, _READ]}),
]

Cells: TypeAlias = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_cells),
    WithJsonSchema({"anyOf": [_CELL, {"type": "array", "items": _CELL}]}),
]


def _require_possible(metric: str, wanted: float) -> None:
    """Raise ValueError for a score that no model reaches."""
    smaller = smaller_is_better(metric)
    if wanted < 0 if smaller else wanted > 1:
        hint = f"; {wanted:g} points are {wanted / 100:g}" if not smaller and wanted <= 100 else ""
        raise ValueError(
            f"found {metric} {wanted:g} in score; {metric} is at {'least 0' if smaller else 'most 1'}{hint}"
        )


class TaskOptions(Options):
    """The options that every task type has."""

    type: str
    data: DataOptions = Field(
        default=DataOptions(), description="where the rows come from, and the format of their files"
    )
    text: str = Field(default="text", description="column that holds the text")
    text_pair: tuple[str, str] | None = Field(
        default=None, description="two columns, if the task is about pairs of texts"
    )
    unlabelled: Cells = Field(
        default=(), description="label cells that mean `not labelled`, as an empty cell does; for example NA"
    )
    label_weight: str | None = Field(
        default=None, description="column with each training row's weight in the task's loss: a number, 0 or more"
    )
    needs: Names = Field(default=(), description="tasks that this one depends on: one name or several")
    reads: Read = Field(
        default={},
        description="needed tasks whose predictions this task's head takes as input: one name or several, or "
        "{intent: probabilities}",
    )
    detach_reads: bool = Field(default=True, description="stop the gradient at the predictions that are read")
    gate: GateOptions | None = Field(default=None, description="when the task is ready for those that need it")
    weight: float = Field(default=1.0, gt=0, description="weight of the task's loss")
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="peak learning rate of layers that only this task trains; by default that of `train`",
    )
    head_learning_rate: float | None = Field(
        default=None, gt=0, description="peak learning rate of this task's head; by default that of `train`"
    )
    metric: str | None = Field(default=None, description="main metric; by default the type's first")
    pooling: Annotated[str, NameOf(POOLINGS, AUTO)] = Field(
        default=AUTO,
        description="how the token states become one state per row; auto: last for encoders with causal attention "
        "(decoders), mean for all others",
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="dropout before the output layer")
    head: Annotated[str, NameOf(HEADS)] | None = Field(
        default=None, description="registered name of a head of your own; by default the type's head"
    )
    loss: Annotated[str, NameOf(LOSSES)] | None = Field(
        default=None, description="registered name of a loss of your own; by default the type's loss"
    )

    # The type's own metrics; `known_metrics` includes those that users registered for it.
    metrics: ClassVar[tuple[str, ...]] = ()
    # Options that a class adds which affect how a task learns or answers, but not what is read from its rows.
    learning: ClassVar[tuple[str, ...]] = (
        "data", "needs", "reads", "detach_reads", "gate", "weight", "learning_rate", "head_learning_rate", "metric",
        "pooling", "dropout", "head", "loss",
    )  # fmt: skip
    # Whether the trained model answers tasks of this type.
    answers: ClassVar[bool] = True
    # Whether the type has one output per text or one per word.
    level: ClassVar[Level] = "row"

    @classmethod
    def known_metrics(cls) -> tuple[str, ...]:
        """Return the names of the type's metrics."""
        return metrics_of_type(cls.metrics, cls.level, *getattr(cls.model_fields["type"].annotation, "__args__", ()))

    @field_validator("gate")
    @classmethod
    def _gate_asks_for_known_metrics(cls, value: GateOptions | None) -> GateOptions | None:
        for metric, wanted in (value.score or {}).items() if value is not None else ():
            if metric not in cls.known_metrics():
                raise ValueError(f"found the metric {metric!r} in score; {nearest(metric, cls.known_metrics())}")
            _require_possible(metric, wanted)
        return value

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, value: str | None) -> str | None:
        if value is not None and value not in cls.known_metrics():
            raise ValueError(nearest(value, cls.known_metrics()))
        return value

    @model_validator(mode="after")
    def _own_loss_stands_alone(self) -> Self:
        unused = [name for name in ("class_weights", "label_smoothing") if self.loss and getattr(self, name, None)]
        if unused:
            raise ValueError(
                f"found loss and {' and '.join(unused)}, which belong to the type's own loss; leave one out"
            )
        return self

    def reading(self) -> dict[str, Any]:
        """Return the options that affect what is read from the rows; they are part of the cache's key."""
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
