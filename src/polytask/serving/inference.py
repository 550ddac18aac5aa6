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

# Path of the protocol, below which every rejection has the form {"error": ...}.
ROOT = "/v2"
# Name of the model if the server has none.
UNNAMED = "polytask"


class InferenceRoutes:
    """Handlers of the routes; checks, queue and predictions are those of `POST /predict`."""

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
            pair = next(task_inputs for task_inputs in inputs if task_inputs.second is not None)
            row = dict(zip((pair.first, pair.second), row, strict=True))
        cells = {"text": row} if isinstance(row, str) else row
        texts = {name: cell if isinstance(cell, str) else json.dumps(cell) for name, cell in cells.items()}
        tensors = [{"name": name, "shape": [1], "datatype": "BYTES", "data": [text]} for name, text in texts.items()]
        return {"inputs": tensors}

    async def server(self) -> Response:
        """Return the name and version of the server, and its extensions of the protocol."""
        metadata = ServerMetadata(name="polytask", version=__version__, extensions=["binary_tensor_data"])
        return JSONResponse(metadata.model_dump())

    async def live(self) -> Response:
        """Return whether the server is alive: true while it is stopping, false once the model's thread has failed."""
        live = not self._service.batcher.failed
        return JSONResponse({"live": live}, 200 if live else 503)

    async def ready(self) -> Response:
        """Return whether the server accepts requests."""
        ready = self._service.batcher.ready
        return JSONResponse({"live": not self._service.batcher.failed, "ready": ready}, 200 if ready else 503)

    async def model_ready(self, name: str) -> Response:
        """Return whether the model accepts requests."""
        self._require_served(name)
        ready = self._service.batcher.ready
        return JSONResponse({"name": self.name, "ready": ready}, 200 if ready else 503)

    async def model(self, name: str) -> Response:
        """Return the inputs and outputs of the model."""
        self._require_served(name)
        return JSONResponse(self._metadata)

    @functools.cached_property
    def _metadata(self) -> dict[str, Any]:
        outputs = [output.metadata for output in self._outputs.values()]
        inputs = inputs_of(self._service.model.tasks)
        metadata = ModelMetadata(name=self.name, platform="polytask", inputs=inputs, outputs=outputs)
        return metadata.model_dump(exclude_defaults=True)

    async def infer(self, name: str, request: Request) -> Response:
        """Predict rows that are given by columns; the response has one tensor for each part of a prediction."""
        self._require_served(name)
        try:
            inference = await self._read(request)
            wanted = self._wanted(inference)
            records, tasks = await self._service.in_thread(self._checked, inference, wanted)
            answers = await self._service.answers(records, tasks, request)
        except RequestRefused as error:
            raise HTTPException(_status(error.status), str(error)) from None
        except HTTPException as error:
            raise HTTPException(_status(error.status_code), error.detail, error.headers) from None
        if answers is None:
            return Response(status_code=499)  # nobody reads it
        self._service.note_answered(answers, request)
        return await self._service.in_thread(self._response, inference, tasks, wanted, answers)

    def _require_served(self, name: str) -> None:
        if name != self.name:
            raise HTTPException(404, f"found no model {name[:80]!r}; this server has {self.name!r}, without versions")

    async def _read(self, request: Request) -> Inference:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and not kind.startswith("application/"):  # which a page of another site could send
            raise RequestRefused(400, f"found the Content-Type {kind[:80]!r}; accepted: application/json")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise RequestRefused(400, "found a compressed body; send it as it is")
        length = request.headers.get(JSON_LENGTH)
        accepted = accepted_inputs(self._service.model.tasks)
        reader = functools.partial(read_inference, json_length=length, accepted=accepted)
        return await self._service.read_body(request, reader)

    def _checked(self, inference: Inference, wanted: dict[str, Output] | None) -> tuple[list[Record], tuple[str, ...]]:
        """Return the rows and their tasks. Raises RequestRefused, or 422 if no task can read a row."""
        records = _records(inference)
        tasks = self._reading(records[0], wanted)
        self._service.require_readable(records, tasks, "inputs, row {}")
        return records, tasks

    def _wanted(self, inference: Inference) -> dict[str, Output] | None:
        """Return the requested outputs, None for all. Raises RequestRefused for an unknown one."""
        if inference.outputs is None:
            return None
        for name in inference.outputs:
            if name not in self._outputs:
                raise RequestRefused(400, f"outputs: found {name[:80]!r}; {nearest(name[:80], self._outputs)}")
        return {name: self._outputs[name] for name in inference.outputs}

    def _reading(self, first: Record, wanted: dict[str, Output] | None) -> tuple[str, ...]:
        """Return the tasks to run, all of which can read these rows, which have the same columns.

        Raises RequestRefused if a requested task cannot, and with the message of DataError if none can.
        """
        tasks = self._service.model.tasks
        if wanted is not None:
            requested = {output.task for output in wanted.values()}
            chosen = tuple(name for name in tasks if name in requested) or tuple(tasks)
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
        inference: Inference,
        tasks: Sequence[str],
        wanted: dict[str, Output] | None,
        answers: Sequence[TextPrediction],
    ) -> Response:
        chosen = wanted or {
            name: candidate
            for name, candidate in self._outputs.items()
            if candidate.task is None or candidate.task in tasks
        }
        tensors: list[OutputTensor] = []
        raws: list[bytes] = []
        for name, output in chosen.items():
            as_bytes = None if inference.outputs is None else inference.outputs[name]
            values: list[Any] = [
                answer.truncated if output.task is None else answer.predictions[output.task] for answer in answers
            ]
            tensor, raw = output.tensor(values, binary=inference.binary if as_bytes is None else as_bytes)
            tensors.append(tensor)
            raws.append(raw)
        response = InferenceResponse(model_name=self.name, outputs=tensors).model_dump(exclude_defaults=True)
        if inference.id is not None:
            response["id"] = inference.id
        head = render(response)
        if not any(raws):
            return Response(head, media_type="application/json")
        sizes = {JSON_LENGTH: str(len(head))}
        return Response(b"".join([head, *raws]), headers=sizes, media_type="application/octet-stream")


def _status(status: int) -> int:
    """Return the status of a rejection: the protocol has only 400 for invalid requests."""
    return 400 if status == 422 else status


def _records(inference: Inference) -> list[Record]:
    """Return the rows; plain texts if there is only the column `text`, which any task on single texts reads."""
    if list(inference.columns) == ["text"]:
        return list(inference.columns["text"])
    names = list(inference.columns)
    return [dict(zip(names, cells, strict=True)) for cells in zip(*inference.columns.values(), strict=True)]
