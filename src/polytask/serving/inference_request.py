"""The body of a request in the Open Inference Protocol (KServe's and Triton's V2), read value by value.

Every input is a column with one text per row, like the value under that name in a row of `POST /predict`. A list (a
row's options, its words) is given as text, as in a csv cell: `["tea", "water"]`. Tensors may follow the JSON
object as bytes, which is the protocol's extension `binary_tensor_data`.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from polytask.errors import nearest
from polytask.serving.body import MOST_COLUMNS, JsonValues, Reader, RequestRefused, read_fields
from polytask.serving.inference_forms import Parameters
from polytask.serving.messages import clean
from polytask.serving.options import ServeOptions

UNFORMED = 'expected an object {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["..."]}]}'
# Header with the length of the JSON object in bytes, if tensors follow it.
JSON_LENGTH = "inference-header-content-length"
# Maximum numbers of dimensions of a tensor, and of parameters of an object.
MOST_DIMENSIONS, MOST_PARAMETERS = 8, 100
# The length in bytes in front of each text of a binary tensor.
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Inference:
    """An inference request.

    Attributes:
        columns: texts of the rows by name of the input.
        outputs: the requested outputs, and whether to send each as bytes (None: according to `binary`); None for all.
        binary: whether outputs are sent as bytes by default.
    """

    id: str | None
    columns: Mapping[str, list[str]]
    outputs: Mapping[str, bool | None] | None
    binary: bool

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))


@dataclass
class _Tensor:
    """An input; `data` is missing if it follows as bytes."""

    name: str | None = None
    shape: list[int] | None = None
    datatype: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    data: list[str] | None = None


def read_inference(
    body: bytes, options: ServeOptions, *, json_length: str | None, accepted: Collection[str]
) -> Inference:
    """Read the body of a request. Raises RequestRefused.

    Takes linear time for any body, and stops at the first value that exceeds a limit.

    Args:
        body: the body.
        options: limits of the server.
        json_length: header with the length of the JSON object in bytes.
        accepted: accepted names of inputs.
    """
    size = _json_size(body, json_length)
    try:
        fields = read_fields(body[:size], _READERS, options, UNFORMED)
    except json.JSONDecodeError as error:
        raise RequestRefused(400, f"the body is not JSON: {error.msg} at character {error.pos}") from None
    except ValueError:  # bytes that are not text
        raise RequestRefused(400, "the body cannot be parsed: expected JSON in UTF-8") from None
    tensors: list[_Tensor] = fields.get("inputs", [])
    if not tensors:
        raise RequestRefused(400, f"inputs: found none; {UNFORMED}")
    columns = _columns(tensors, memoryview(body)[size:], accepted, options)
    parameters = fields.get("parameters", {})
    return Inference(fields.get("id"), columns, fields.get("outputs"), parameters.get("binary_data_output") is True)


def _json_size(body: bytes, json_length: str | None) -> int:
    if json_length is None:
        return len(body)
    if not re.fullmatch(r"[0-9]{1,18}", json_length) or int(json_length) > len(body):
        raise RequestRefused(400, f"{JSON_LENGTH}: found {json_length[:80]!r}, of a body of {len(body)} bytes")
    return int(json_length)


def _columns(
    tensors: list[_Tensor], raw: memoryview, accepted: Collection[str], options: ServeOptions
) -> dict[str, list[str]]:
    """Return the texts by column.

    Raises RequestRefused if tensors are incomplete, differ in their number of rows, or make a row too long.
    """
    columns: dict[str, list[str]] = {}
    sizes: list[int] = []
    for index, tensor in enumerate(tensors):
        place = f"inputs[{index}]"
        name = _require_name(tensor.name, f"{place}.name")
        if name not in accepted:
            raise RequestRefused(400, f"{place}.name: found {name[:80]!r}; {nearest(name[:80], accepted)}")
        if name in columns:
            raise RequestRefused(400, f"{place}.name: found {name[:80]!r} twice")
        texts, raw = _texts_of(tensor, raw, place, options)
        sizes = sizes or [0] * len(texts)
        if len(sizes) != len(texts):
            raise RequestRefused(400, f"{place}: found {len(texts)} rows, and {len(sizes)} in the inputs before it")
        sizes = [size + len(text) for size, text in zip(sizes, texts, strict=True)]
        if max(sizes) > options.max_characters:
            longest = sizes.index(max(sizes))
            raise RequestRefused(
                413, f"{place}: row {longest} has {max(sizes)} characters; at most {options.max_characters}"
            )
        columns[name] = texts
    if len(raw):
        raise RequestRefused(
            400, f"found {len(raw)} bytes after the inputs; binary_data_size gives the number of bytes of an input"
        )
    return columns


def _texts_of(
    tensor: _Tensor, raw: memoryview, place: str, options: ServeOptions
) -> tuple[list[str], memoryview]:  # fmt: skip
    """Return the texts of a tensor, and the bytes of the tensors behind it. Raises RequestRefused."""
    if tensor.datatype != "BYTES":
        raise RequestRefused(
            400, f"{place}.datatype: found {str(tensor.datatype)[:80]!r}; every input is BYTES, of texts"
        )
    if tensor.parameters.get("content_type", "str") == "base64":
        raise RequestRefused(400, f"{place}.parameters: found the content_type 'base64'; texts are sent as they are")
    length = tensor.parameters.get("binary_data_size")
    if length is not None:
        texts, raw = _binary(tensor, length, raw, place, options)
    elif tensor.data is not None:
        texts = tensor.data
    else:
        raise RequestRefused(400, f"{place}.data: missing")
    _require_shape(tensor.shape, len(texts), place)
    return texts, raw


def _require_name(name: str | None, place: str) -> str:
    if name is None:
        raise RequestRefused(400, f"{place}: missing")
    return name


def _require_shape(shape: list[int] | None, count: int, place: str) -> None:
    """Raise RequestRefused unless a shape fits the number of texts, and that is at least one."""
    if shape is None:
        raise RequestRefused(400, f"{place}.shape: missing")
    if len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise RequestRefused(400, f"{place}.shape: found {shape}; expected [rows], or [rows, 1]")
    if shape[0] != count:
        raise RequestRefused(400, f"{place}: found {count} texts, and the shape {shape}")
    if not count:
        raise RequestRefused(400, f"{place}: found no row; expected at least one")


def _binary(
    tensor: _Tensor, length: Any, raw: memoryview, place: str, options: ServeOptions  # noqa: ANN401
) -> tuple[list[str], memoryview]:  # fmt: skip
    """Read a tensor from the bytes after the JSON object, and return the texts and the remaining bytes."""
    if tensor.data is not None:
        raise RequestRefused(400, f"{place}: found both data and binary_data_size; expected one of them")
    if type(length) is not int or not 0 <= length <= len(raw):
        raise RequestRefused(400, f"{place}.parameters: found the binary_data_size {length!r}, of {len(raw)} bytes")
    texts: list[str] = []
    for text in _texts_in(raw[:length], place):
        if len(texts) == options.max_texts:
            raise _too_many(place, options)
        texts.append(text)
    return texts, raw[length:]


def _texts_in(raw: memoryview, place: str) -> Iterator[str]:
    at = 0
    while at < len(raw):
        begin = at + _LENGTH.size
        end = begin + _LENGTH.unpack(raw[at:begin])[0] if begin <= len(raw) else len(raw) + 1
        if end > len(raw):
            raise RequestRefused(400, f"{place}: a text extends beyond the binary_data_size")
        try:
            yield str(raw[begin:end], "utf-8")
        except UnicodeDecodeError:
            raise RequestRefused(400, f"{place}: a text is not UTF-8") from None
        at = end


def _too_many(place: str, options: ServeOptions) -> RequestRefused:
    return RequestRefused(
        400, f"{place}: found more than {options.max_texts} texts; at most {options.max_texts} a request"
    )


def pack_texts(texts: Iterable[str]) -> bytes:
    """Encode texts as a binary tensor.

    >>> pack_texts(["a"])
    b'\\x01\\x00\\x00\\x00a'
    """
    return b"".join(_LENGTH.pack(len(encoded)) + encoded for encoded in (text.encode() for text in texts))


def _read_id(values: JsonValues, options: ServeOptions) -> str:
    del options
    return _read_text(values, "id")


def _read_text(values: JsonValues, place: str) -> str:
    if values.next() != '"':
        values.refuse(place, "expected a text")
    return clean(values.scalar())


def _read_parameters(values: JsonValues, place: str) -> Parameters:
    if values.next() != "{":
        values.refuse(place, "input should be a valid dictionary")
    parameters: Parameters = {}
    for key in values.names():
        if len(parameters) == MOST_PARAMETERS:
            raise RequestRefused(400, f"{place}: found more than {MOST_PARAMETERS} parameters")
        if values.next() in ("{", "[", "n"):
            raise RequestRefused(400, f"{place}: a parameter must be a text, a number, true or false")
        value = clean(values.scalar())
        if isinstance(value, float) and not math.isfinite(value):
            raise RequestRefused(400, f"{place}: found a number that is not finite")
        parameters[clean(key)] = value
    return parameters


def _read_inputs(values: JsonValues, options: ServeOptions) -> list[_Tensor]:
    if values.next() != "[":
        values.refuse("inputs", "expected a list")
    tensors: list[_Tensor] = []
    for _ in values.items():
        if len(tensors) == MOST_COLUMNS:
            raise RequestRefused(400, f"inputs: found more than {MOST_COLUMNS}; at most {MOST_COLUMNS} a request")
        tensors.append(_read_input(values, f"inputs[{len(tensors)}]", options))
    return tensors


def _read_input(values: JsonValues, place: str, options: ServeOptions) -> _Tensor:
    if values.next() != "{":
        values.refuse(place, "expected an object with name, shape, datatype and data")
    tensor = _Tensor()
    for key in values.names():
        where = f"{place}.{key[:80]}"
        match key:
            case "name":
                tensor.name = _read_text(values, where)
            case "datatype":
                tensor.datatype = _read_text(values, where)
            case "shape":
                tensor.shape = _read_shape(values, where)
            case "parameters":
                tensor.parameters = _read_parameters(values, where)
            case "data":
                tensor.data = _read_data(values, where, options)
            case _:
                accepted = ("name", "shape", "datatype", "parameters", "data")
                raise RequestRefused(400, f"{place}: found the key {key[:80]!r}; {nearest(key[:80], accepted)}")
    return tensor


def _read_shape(values: JsonValues, place: str) -> list[int]:
    if values.next() != "[":
        values.refuse(place, "expected a list")
    shape: list[int] = []
    for _ in values.items():
        if len(shape) == MOST_DIMENSIONS:
            raise RequestRefused(
                400, f"{place}: found more than {MOST_DIMENSIONS} dimensions; expected [rows], or [rows, 1]"
            )
        size = None if values.next() in ("{", "[", '"') else values.scalar()
        if type(size) is not int or not 0 <= size < 2**63:
            raise RequestRefused(400, f"{place}: input should be a valid integer, not below 0")
        shape.append(size)
    return shape


def _read_data(values: JsonValues, place: str, options: ServeOptions) -> list[str]:
    """Read the texts of [rows] or [rows, 1]: flat, or each in its own list."""
    if values.next() != "[":
        values.refuse(place, "expected a list")
    texts: list[str] = []
    for index, _ in enumerate(values.items()):
        if index == options.max_texts:
            raise _too_many(place, options)
        where = f"{place}[{index}]"
        if values.next() == "[":
            cell = [clean(text) for text, _ in zip(values.texts(where, "expected a text"), range(2), strict=False)]
            if len(cell) != 1:
                raise RequestRefused(
                    400, f'{where}: a row has one text; give a list as text, such as \'["tea", "water"]\''
                )
            texts.append(cell[0])
        else:
            texts.append(_read_text(values, where))
        if len(texts[-1]) > options.max_characters:
            raise RequestRefused(413, f"{where}: found {len(texts[-1])} characters; at most {options.max_characters}")
    return texts


def _read_outputs(values: JsonValues, options: ServeOptions) -> dict[str, bool | None] | None:
    del options
    if values.next() != "[":
        values.refuse("outputs", "expected a list")
    outputs: dict[str, bool | None] = {}
    for index, _ in enumerate(values.items()):
        place = f"outputs[{index}]"
        if index == MOST_COLUMNS:
            raise RequestRefused(400, f"outputs: found more than {MOST_COLUMNS}; at most {MOST_COLUMNS} a request")
        if values.next() != "{":
            values.refuse(place, 'expected an object {"name": ...}')
        name, parameters = None, Parameters()
        for key in values.names():
            if key == "name":
                name = _read_text(values, f"{place}.name")
            elif key == "parameters":
                parameters = _read_parameters(values, f"{place}.parameters")
            else:
                raise RequestRefused(
                    400, f"{place}: found the key {key[:80]!r}; {nearest(key[:80], ('name', 'parameters'))}"
                )
        name = _require_name(name, f"{place}.name")
        if name in outputs:
            raise RequestRefused(400, f"{place}.name: found {name[:80]!r} twice")
        if "classification" in parameters:
            raise RequestRefused(
                400, f"{place}.parameters: this server has no classification extension; ask for TASK.label"
            )
        binary = parameters.get("binary_data")
        outputs[name] = None if binary is None else bool(binary)
    return outputs or None


def _read_top_parameters(values: JsonValues, options: ServeOptions) -> Parameters:
    del options
    return _read_parameters(values, "parameters")


_READERS: dict[str, Reader] = {
    "id": _read_id, "parameters": _read_top_parameters, "inputs": _read_inputs, "outputs": _read_outputs,
}  # fmt: skip
