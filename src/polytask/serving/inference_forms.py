"""Requests and responses of the Open Inference Protocol (V2), as described in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Parameters: TypeAlias = dict[str, str | int | float | bool]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InputTensor(_Form):
    """A column of the rows."""

    name: str = Field(description="the column: `text`, or one that GET /v2/models/NAME lists")
    shape: list[Annotated[int, Field(ge=0)]] = Field(description="[rows], or [rows, 1]")
    datatype: Literal["BYTES"]
    parameters: Parameters = {}
    data: list[str | list[str]] = Field(
        description='one text per row; a list is given as text, such as \'["tea", "water"]\''
    )


class RequestedOutput(_Form):
    """A requested output; only its task runs."""

    name: str
    parameters: Parameters = {}


class InferenceRequest(_Form):
    """The columns of some rows, and the requested outputs; by default those of all tasks that can read the rows."""

    id: str = Field(default="", description="returned with the response")
    parameters: Parameters = {}
    inputs: list[InputTensor] = Field(min_length=1)
    outputs: list[RequestedOutput] = Field(default=[], min_length=1)


class OutputTensor(BaseModel):
    """An output of some rows."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = {}
    data: list[Any] = Field(default=[], description="row by row; absent if it follows the JSON object as bytes")


class InferenceResponse(BaseModel):
    """The outputs."""

    model_name: str
    id: str = Field(default="", description="as in the request; absent if it had none")
    outputs: list[OutputTensor]


class TensorMetadata(BaseModel):
    """An input or an output; a size of -1 is that of the request."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = Field(
        default={}, description="labels: the labels of a row of probabilities, as a JSON list"
    )


class ModelMetadata(BaseModel):
    """The model's inputs and outputs."""

    name: str
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(BaseModel):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Whether the server is alive."""

    live: bool


class Ready(BaseModel):
    """Whether the server accepts requests."""

    live: bool
    ready: bool


class ModelReady(BaseModel):
    """Whether the model accepts requests."""

    name: str
    ready: bool


class InferenceError(BaseModel):
    """Why a request was rejected."""

    error: str
