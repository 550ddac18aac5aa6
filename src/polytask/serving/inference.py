"""The routes of the Open Inference Protocol (V2): health, metadata, and inference, around the one model of a server."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse

from polytask.errors import nearest
from polytask.predict.record import Record, queries_of
from polytask.serving.body import RequestRefused
from polytask.serving.inference_forms import InferenceResponse, ModelMetadata, OutputTensor, ServerMetadata
from polytask.serving.inference_request import JSON_LENGTH, Inference, read_inference
from polytask.serving.rendering import render
from polytask.serving.service import Service
from polytask.serving.tensors import Output, accepted_inputs, inputs_of, outputs_of
from polytask.version import __version__

if TYPE_CHECKING:
    from polytask.predict.predictor import TextPrediction

# Where the protocol lies; there every refusal is {"error": ...}.
ROOT = "/v2"
# The model's name where the server has none.
UNNAMED = "polytask"


class InferenceRoutes:
    """The routes' work; checks, queue and answers are those of `POST /predict`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.name = service.options.name or UNNAMED

    @functools.cached_property
    def _outputs(self) -> dict[str, Output]:
        return outputs_of(self._service.model.tasks)

    @property
    def example(self) -> dict[str, Any]:
        """A request that this model can answer."""
        (row,) = self._service.example[0]["texts"]
        if isinstance(row, list):
            inputs = [task.options.inputs for task in self._service.model.tasks.values()]
            pair = next(one for one in inputs if one.second is not None)
            row = dict(zip((pair.first, pair.second), row, strict=True))
        cells = {"text": row} if isinstance(row, str) else row
        texts = {name: cell if isinstance(cell, str) else json.dumps(cell) for name, cell in cells.items()}
        given = [{"name": name, "shape": [1], "datatype": "BYTES", "data": [text]} for name, text in texts.items()]
        return {"inputs": given}

    async def server(self) -> Response:
        """Tell the server's name and version, and which extensions of the protocol it has."""
        told = ServerMetadata(name="polytask", version=__version__, extensions=["binary_tensor_data"])
        return JSONResponse(told.model_dump())

    async def live(self) -> Response:
        """Tell whether the server lives: it does while it stops, and no more when the model's thread has failed."""
        live = not self._service.batcher.failed
        return JSONResponse({"live": live}, 200 if live else 503)

    async def ready(self) -> Response:
        """Tell whether the server takes requests."""
        ready = self._service.batcher.ready
        return JSONResponse({"live": not self._service.batcher.failed, "ready": ready}, 200 if ready else 503)

    async def model_ready(self, name: str) -> Response:
        """Tell whether the model takes requests."""
        self._require_served(name)
        ready = self._service.batcher.ready
        return JSONResponse({"name": self.name, "ready": ready}, 200 if ready else 503)

    async def model(self, name: str) -> Response:
        """Tell the model's inputs and outputs."""
        self._require_served(name)
        return JSONResponse(self._metadata)

    @functools.cached_property
    def _metadata(self) -> dict[str, Any]:
        outputs = [output.metadata for output in self._outputs.values()]
        inputs = inputs_of(self._service.model.tasks)
        told = ModelMetadata(name=self.name, platform="polytask", inputs=inputs, outputs=outputs)
        return told.model_dump(exclude_defaults=True)

    async def infer(self, name: str, request: Request) -> Response:
        """Answer rows that are given by columns: one tensor for each part of an answer."""
        self._require_served(name)
        try:
            asked = await self._read(request)
            wanted = self._wanted(asked)
            records, tasks = await self._service.beside(self._checked, asked, wanted)
            answers = await self._service.answers(records, tasks, request)
        except RequestRefused as error:
            raise HTTPException(_status(error.status), str(error)) from None
        except HTTPException as error:
            raise HTTPException(_status(error.status_code), error.detail, error.headers) from None
        if answers is None:
            return Response(status_code=499)  # nobody reads it
        self._service.note_answered(answers, request)
        return await self._service.beside(self._response, asked, tasks, wanted, answers)

    def _require_served(self, name: str) -> None:
        if name != self.name:
            raise HTTPException(404, f"found no model {name[:80]!r}; this server has {self.name!r}, without versions")

    async def _read(self, request: Request) -> Inference:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and not kind.startswith("application/"):  # what a page of another site can send unasked
            raise RequestRefused(400, f"found the Content-Type {kind[:80]!r}; accepted: application/json")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise RequestRefused(400, "found a compressed body; send it as it is")
        length = request.headers.get(JSON_LENGTH)
        accepted = accepted_inputs(self._service.model.tasks)
        read = functools.partial(read_inference, json_length=length, accepted=accepted)
        return await self._service.read_body(request, read)

    def _checked(self, asked: Inference, wanted: dict[str, Output] | None) -> tuple[list[Record], tuple[str, ...]]:
        """Return the rows, and the tasks that answer them. Raises Refused, or 422 where no task can read one."""
        records = _records(asked)
        tasks = self._reading(records[0], wanted)
        self._service.require_readable(records, tasks, "inputs, row {}")
        return records, tasks

    def _wanted(self, asked: Inference) -> dict[str, Output] | None:
        """Return the outputs that are asked for, None for all. Raises Refused for one that is not there."""
        if asked.outputs is None:
            return None
        for name in asked.outputs:
            if name not in self._outputs:
                raise RequestRefused(400, f"outputs: found {name[:80]!r}; {nearest(name[:80], self._outputs)}")
        return {name: self._outputs[name] for name in asked.outputs}

    def _reading(self, first: Record, wanted: dict[str, Output] | None) -> tuple[str, ...]:
        """Return the tasks that answer, all of which read these rows; they have the same columns.

        Raises Refused where one that is asked for does not, DataError's words where none does.
        """
        tasks = self._service.model.tasks
        if wanted is not None:
            asked = {output.task for output in wanted.values()}
            chosen = tuple(name for name in tasks if name in asked) or tuple(tasks)
        else:
            chosen = tuple(tasks)
        self._service.require_readable([first], chosen, "inputs, row {}")
        queries = queries_of(0, first, tasks, chosen, "inputs")
        reading = {name for query in queries for name in query.tasks}
        for output in (wanted or {}).values():
            if output.task is not None and output.task not in reading:
                columns = ", ".join(tasks[output.task].input_columns)
                raise RequestRefused(400, f"outputs: found {output.name!r}, whose task reads other inputs: {columns}")
        return tuple(name for name in chosen if name in reading)

    def _response(
        self,
        asked: Inference,
        tasks: Sequence[str],
        wanted: dict[str, Output] | None,
        answers: Sequence[TextPrediction],
    ) -> Response:
        chosen = wanted or {name: one for name, one in self._outputs.items() if one.task is None or one.task in tasks}
        tensors: list[OutputTensor] = []
        raws: list[bytes] = []
        for name, output in chosen.items():
            told = None if asked.outputs is None else asked.outputs[name]
            values: list[Any] = [
                answer.truncated if output.task is None else answer.predictions[output.task] for answer in answers
            ]
            tensor, raw = output.tensor(values, binary=asked.binary if told is None else told)
            tensors.append(tensor)
            raws.append(raw)
        found = InferenceResponse(model_name=self.name, outputs=tensors).model_dump(exclude_defaults=True)
        if asked.id is not None:
            found["id"] = asked.id
        head = render(found)
        if not any(raws):
            return Response(head, media_type="application/json")
        sizes = {JSON_LENGTH: str(len(head))}
        return Response(b"".join([head, *raws]), headers=sizes, media_type="application/octet-stream")


def _status(status: int) -> int:
    """Return the status of a refusal: of what is wrong with a request the protocol knows 400 alone."""
    return 400 if status == 422 else status


def _records(asked: Inference) -> list[Record]:
    """Return the rows; a text alone is what any task on single texts reads."""
    if list(asked.columns) == ["text"]:
        return list(asked.columns["text"])
    names = list(asked.columns)
    return [dict(zip(names, cells, strict=True)) for cells in zip(*asked.columns.values(), strict=True)]
