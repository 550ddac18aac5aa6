"""Predictions as tensors of the Open Inference Protocol, from their shape: a value or a row of numbers per row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from polytask.predict.sink import example_answer
from polytask.serving.inference_forms import OutputTensor, TensorMetadata
from polytask.serving.inference_request import pack_texts
from polytask.tasks import Task

Datatype: TypeAlias = Literal["BYTES", "FP64", "INT64", "BOOL"]
# An output in addition to those of the tasks, whose names all contain a dot.
TRUNCATED = "truncated"
_SCALARS: dict[type, Datatype] = {str: "BYTES", float: "FP64", int: "INT64", bool: "BOOL"}
_NUMPY = {"FP64": "<f8", "INT64": "<i8", "BOOL": "?"}


@dataclass(frozen=True)
class Output:
    """One output of the model.

    Attributes:
        task: the task; None for an output that does not belong to a task.
        field: field of the prediction; None for the whole prediction if it is a list.
        width: numbers per row; None for a single value.
        labels: labels of the numbers in a row.
        as_json: whether a value is a list or an object, which is sent as JSON.
    """

    name: str
    task: str | None
    field: str | None
    datatype: Datatype
    width: int | None = None
    labels: tuple[str, ...] | None = None
    as_json: bool = False

    @property
    def metadata(self) -> TensorMetadata:
        """Its description in GET /v2/models/NAME."""
        shape = [-1] if self.width is None else [-1, self.width]
        return TensorMetadata(name=self.name, datatype=self.datatype, shape=shape, parameters=self._parameters)

    @property
    def _parameters(self) -> dict[str, str | int | float | bool]:
        return {} if self.labels is None else {"labels": json.dumps(self.labels, ensure_ascii=False)}

    def tensor(self, values: Sequence[Any], *, binary: bool) -> tuple[OutputTensor, bytes]:
        """Return the tensor of some rows, and the bytes that follow the JSON object.

        Args:
            values: one value per row: the task's predictions, or the values of the output.
            binary: whether to send the values as bytes.
        """
        data = self._data(values)
        shape = [len(values)] if self.width is None else [len(values), self.width]
        result = OutputTensor(name=self.name, shape=shape, datatype=self.datatype, parameters=self._parameters)
        if not binary:
            result.data = data
            return result, b""
        raw = pack_texts(data) if self.datatype == "BYTES" else np.array(data, _NUMPY[self.datatype]).tobytes()
        result.parameters["binary_data_size"] = len(raw)
        return result, raw

    def _data(self, values: Sequence[Any]) -> list[Any]:
        cells = list(values) if self.field is None else [value[self.field] for value in values]
        if self.as_json:
            return [json.dumps(cell, ensure_ascii=False) for cell in cells]
        if self.width is None:
            return cells
        rows = cells if self.labels is None else [[cell[label] for label in self.labels] for cell in cells]
        return [number for row in rows for number in row]


def outputs_of(tasks: Mapping[str, Task]) -> dict[str, Output]:
    """Return the outputs by name: `TASK.label`, `TASK.probabilities`, ..., and `TASK.answer` for a list of entities."""
    outputs = [Output(TRUNCATED, None, None, "BOOL")]
    for name, task in tasks.items():
        example = example_answer(task)
        if not isinstance(example, Mapping):
            outputs.append(Output(f"{name}.answer", name, None, "BYTES", as_json=True))
            continue
        fixed = task.options_column is None  # otherwise the lengths of lists depend on the row
        outputs += [_output(name, str(field), value, fixed) for field, value in example.items()]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return {output.name: output for output in outputs}


def _output(task: str, field: str, example: Any, fixed: bool) -> Output:  # noqa: ANN401
    name = f"{task}.{field}"
    if type(example) in _SCALARS:
        return Output(name, task, field, _SCALARS[type(example)])
    if isinstance(example, dict) and _are_numbers(list(example.values())):
        labels = tuple(map(str, example))
        return Output(name, task, field, "FP64", len(labels), labels)
    if fixed and isinstance(example, list) and _are_numbers(example):
        return Output(name, task, field, "FP64", len(example))
    return Output(name, task, field, "BYTES", as_json=True)


def _are_numbers(values: Sequence[Any]) -> bool:
    return bool(values) and all(type(value) in (int, float) for value in values)


def inputs_of(tasks: Mapping[str, Task]) -> list[TensorMetadata]:
    """Return the columns that the tasks read."""
    names = dict.fromkeys(column for task in tasks.values() for column in task.input_columns)
    return [TensorMetadata(name=name, datatype="BYTES", shape=[-1]) for name in names]


def accepted_inputs(tasks: Mapping[str, Task]) -> set[str]:
    """Return the accepted names of columns: those that the tasks read, `text`, and columns of words."""
    names: set[str] = set()
    for task in tasks.values():
        names.update(task.input_columns)
        if task.options.inputs.second is None:
            names.add("text")
        if task.level == "word":
            names.add(task.options.tokens)
    return names
