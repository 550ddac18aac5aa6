"""The handlers of the routes: check, queue, wait for the predictions or a disconnect, and respond."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse

from polytask.errors import DataError, ModelError, UserError, nearest
from polytask.predict.asking import PlannedQuestion, QuestionError, answer_questions, plan_questions, require_state
from polytask.predict.record import Record, queries_of
from polytask.serving.about import encoder_of, passes_of, range_of, rows_of, scores_of
from polytask.serving.batcher import Batcher, Predictor, QueueFull, Stopping, Ticket
from polytask.serving.body import UNFORMED, RequestRefused
from polytask.serving.examples import Example, examples_for
from polytask.serving.messages import (
    ModelDescription,
    TaskDescription,
    TasksResponse,
    read_request,
)
from polytask.serving.metrics import Metrics
from polytask.serving.options import ServeOptions
from polytask.serving.questions import UNASKED, QuestionFault, QuestionsRefused, read_questions
from polytask.serving.rendering import is_short, render
from polytask.tasks import Task

if TYPE_CHECKING:
    from polytask.predict.predictor import TextPrediction

_Read = TypeVar("_Read")
# Maximum bytes of a body that is parsed in the event loop; a larger one could block it for milliseconds.
SMALL_BODY = 16_384
# The first bytes of a gzip file.
GZIP = b"\x1f\x8b"


class Service:
    """Handlers of the routes for one model.

    Args:
        model: the model.
        options: options of the server.
        failed: called if the model's thread ends with an error.
    """

    def __init__(self, model: Predictor, options: ServeOptions, failed: Callable[[], None] | None = None) -> None:
        self.options = options
        self._beside = ThreadPoolExecutor(1, "polytask-json")
        self.model = model
        self.metrics = Metrics(lambda: self.batcher.queued)
        self.batcher = Batcher(
            model, most_texts=options.batch_texts, most_tokens=options.batch_tokens, most_queued=options.max_queue,
            long=options.long, ran=self.metrics.ran, failed=failed,
        )  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the model's tasks."""
        return tuple(self.model.tasks)

    @functools.cached_property
    def example(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """An example request and response for the OpenAPI document; computing it also warms up the model."""
        first = self._examples[0]
        answers = list(self.model.answers([first], None, long=self.options.long))
        return {"texts": [list(first) if isinstance(first, tuple) else first]}, _content(answers)

    @functools.cached_property
    def _examples(self) -> list[Example]:
        return examples_for(self.model.tasks.values(), self.model.tokens.vocabulary)

    @functools.cached_property
    def typed_example(self) -> dict[str, Any] | None:
        """An example request with typed questions; None if no task can answer any."""
        state = self._examples[0]
        reading = {name: task for name, task in self.model.tasks.items() if _reads(task, state)}
        questions = {
            name: task_questions[0] for name, task in reading.items() if (task_questions := _questions(name, task))
        }
        return (
            {"state": list(state) if isinstance(state, tuple) else state, "questions": questions} if questions else None
        )

    async def predict(self, request: Request) -> Response:
        """Predict all tasks for some texts in one pass; the predictions are in the order of the texts."""
        try:
            records, tasks = await self._read(request, self._asked, UNFORMED)
        except RequestRefused as error:
            raise HTTPException(error.status, str(error)) from None
        answers = await self.answers(records, tasks, request) if records else []
        if answers is None:
            return Response(status_code=499)  # nobody reads it
        self.note_answered(answers, request)
        content = _content(answers)
        if is_short(content):
            return JSONResponse(content)
        return Response(await self.in_thread(render, content), media_type="application/json")

    async def ask(self, request: Request) -> Response:
        """Answer typed questions (choice, score, noul) about one state in a single pass.

        The protocol is that of decision servers. A question is answered by the task of the same name, or the one named
        in its instructions; nothing else in them is used, since a head is trained for its task.
        """
        try:
            name, state, planned = await self._read(request, self._planned, UNASKED)
        except RequestRefused as error:
            return _refusal(error)
        except QuestionError as error:
            places = {one: ["body", "questions", one] if one else ["body", "questions"] for one in error.messages}
            return _faults(
                [
                    QuestionFault(loc=[*places[one]], msg=message, type="value_error")
                    for one, message in error.messages.items()
                ]
            )
        except DataError as error:
            return _faults([QuestionFault(loc=["body", "state"], msg=str(error), type="value_error")])
        try:
            answers = await self.answers([state], self._chosen([one.task for one in planned]), request)
        except HTTPException as error:
            if error.status_code != 422:
                raise
            return _faults([QuestionFault(loc=["body", "state"], msg=error.detail, type="value_error")])
        if answers is None:
            return Response(status_code=499)  # nobody reads it
        (prediction,) = answers
        self.metrics.answered(1, prediction.truncated)
        request.state.log = {"questions": len(planned), "truncated": int(prediction.truncated)}
        usage = {"input_tokens": prediction.tokens, "output_tokens": 0}
        return JSONResponse({"model": name, "answers": answer_questions(planned, prediction.outputs), "usage": usage})

    def _served(self, wanted: str | None) -> str:
        """Return the model's name. Raises RequestRefused if another one is requested: there is no substitution."""
        name = self.options.name or ""
        if wanted is not None and name and wanted != name:
            raise RequestRefused(400, f"this server has the model {name!r}; requested {wanted[:80]!r}")
        return name or wanted or ""

    async def tasks(self) -> Response:
        """Return the model, its tasks with their labels and scores, the server's limits, and example texts."""
        return JSONResponse(self._description)

    @functools.cached_property
    def _description(self) -> dict[str, Any]:
        about, most = self.model.about, self.options.max_characters
        fitting = [example for example in self._examples if _characters(example) <= most]
        return TasksResponse(
            model=ModelDescription(name=self.options.name or "", encoder=encoder_of(about), passes=passes_of(about)),
            tasks=[_described(name, task, about) for name, task in self.model.tasks.items()],
            max_tokens=self.model.tokens.max_tokens,
            max_texts=self.options.max_texts,
            max_characters=most,
            examples=fitting,
        ).model_dump(mode="json")

    async def health(self) -> Response:
        """Return whether the server accepts requests: 200 if it does, 503 while it is stopping."""
        ready = self.batcher.ready
        content = {"status": "ready" if ready else "stopping", "queued": self.batcher.queued}
        return JSONResponse(content, 200 if ready else 503)

    async def exposed(self) -> Response:
        """Return the metrics for Prometheus."""
        return Response(self.metrics.exposed(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _read(self, request: Request, read: Callable[[bytes, ServeOptions], _Read], unformed: str) -> _Read:
        """Read the JSON body of a request. Raises RequestRefused."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            header = f"the header Content-Type: {kind[:80]}" if kind else "no header Content-Type"
            raise RequestRefused(422, f"found {header}; {unformed} with the header Content-Type: application/json")
        return await self.read_body(request, read)

    async def read_body(self, request: Request, read: Callable[[bytes, ServeOptions], _Read]) -> _Read:
        """Read the body of a request, a large one outside the event loop. Raises RequestRefused."""
        body = await request.body()
        packing = request.headers.get("content-encoding", "").strip().lower() or "identity"
        if packing != "identity" or body.startswith(GZIP):
            kind = packing if packing != "identity" else "gzip"
            raise RequestRefused(400, f"found a compressed body ({kind[:80]}); expected JSON that is not compressed")
        if len(body) <= SMALL_BODY:
            return read(body, self.options)
        return await self.in_thread(read, body, self.options)

    async def in_thread(self, work: Callable[..., _Read], *given: Any) -> _Read:  # noqa: ANN401
        """Run work of milliseconds in another thread, so that the event loop is not blocked."""
        return await asyncio.get_running_loop().run_in_executor(self._beside, work, *given)

    def _asked(self, body: bytes, options: ServeOptions) -> tuple[Sequence[Record], tuple[str, ...]]:
        """Return the records of a request and the tasks to run."""
        request = read_request(body, options)
        tasks = self._chosen(request.tasks)
        self.require_readable(request.texts, tasks, "texts[{}]")
        return request.texts, tasks

    def _planned(self, body: bytes, options: ServeOptions) -> tuple[str, Record, list[PlannedQuestion]]:
        """Return the model's name, the state of a request, and the planned questions."""
        asking = read_questions(body, options)
        name = self._served(asking.model)
        planned = plan_questions(self.model.tasks, asking.questions)
        require_state(asking.state, self.model.tasks, planned)
        return name, asking.state, planned

    def close(self) -> None:
        """Answer waiting requests, and end the threads."""
        self.batcher.close()
        self._beside.shutdown(wait=False, cancel_futures=True)

    def _chosen(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """Return the requested tasks in the model's order, so that equal requests run together."""
        names = self.names
        for name in wanted or ():
            if name not in self.model.tasks:
                raise HTTPException(422, f"tasks: found {name[:80]!r}; {nearest(name[:80], names)}")
        chosen = set(names if wanted is None else wanted)
        return tuple(name for name in names if name in chosen)

    def note_answered(self, answers: Sequence[TextPrediction], request: Request) -> None:
        """Count the texts of a request in the metrics and the log."""
        truncated = sum(answer.truncated for answer in answers)
        self.metrics.answered(len(answers), truncated)
        request.state.log = {"texts": len(answers), "truncated": truncated}

    def require_readable(self, records: Sequence[Record], tasks: Sequence[str], place: str) -> None:
        """Raise 422 if there is a record that no task can read.

        The model would reject such a record too, and all others in the same batch.

        Args:
            records: the records.
            tasks: names of the tasks.
            place: place of a record, with {} for its number.
        """
        chosen = [self.model.tasks[name] for name in tasks]
        single = any(task.options.inputs.second is None and task.options_column is None for task in chosen)
        for index, record in enumerate(records):
            if single and isinstance(record, str):
                continue
            try:
                queries_of(index, record, self.model.tasks, tasks, place.format(index))
            except DataError as error:
                raise HTTPException(422, str(error)) from None

    async def answers(
        self, records: Sequence[Record], tasks: tuple[str, ...], request: Request
    ) -> Sequence[TextPrediction] | None:
        """Wait for the predictions; None if the client has disconnected."""
        try:
            ticket = self.batcher.put(records, tasks)
        except QueueFull as error:
            self.metrics.dropped("queue full")
            raise HTTPException(429, str(error), {"Retry-After": str(error.retry_s)}) from None
        except Stopping as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from None
        gone = asyncio.create_task(_gone(request))
        try:
            return await self._awaited(ticket, gone)
        except ModelError:  # the model's fault, not the text's
            raise
        except UserError as error:
            raise HTTPException(422, str(error)) from None
        finally:
            gone.cancel()
            self.batcher.drop(ticket)

    async def _awaited(self, ticket: Ticket, gone: asyncio.Task[None]) -> Sequence[TextPrediction] | None:
        limit = self.options.timeout_s
        await asyncio.wait({ticket.answered, gone}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if ticket.answered.done():
            return ticket.answered.result()
        if gone.done():
            self.metrics.dropped("client gone")
            return None
        self.metrics.dropped("too late")
        raise HTTPException(504, f"the model did not answer within {limit:g} s; send fewer texts, or try again later")


def _refusal(error: RequestRefused) -> Response:
    """Return the response to a rejected request with typed questions."""
    if error.status != 422:
        return JSONResponse({"detail": str(error)}, error.status)
    return _faults(
        [
            error.fault
            if isinstance(error, QuestionsRefused)
            else QuestionFault(loc=["body"], msg=str(error), type="value_error")
        ]
    )


def _faults(faults: Sequence[QuestionFault]) -> Response:
    return JSONResponse({"detail": [fault.model_dump() for fault in faults]}, 422)


async def _gone(request: Request) -> None:
    """Return as soon as the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _described(name: str, task: Task, about: Mapping[str, Any]) -> TaskDescription:
    return TaskDescription(
        name=name,
        type=task.type_name,
        inputs=[column for column in (task.options.inputs.first, task.options.inputs.second) if column],
        labels=list(task.labels),
        options=task.options_column,
        range=range_of(about, name) if task.typical_range is not None else None,
        answer_range=task.answer_range,
        typical_range=task.typical_range,
        metric=task.metric,
        scores=scores_of(about, name),
        rows=rows_of(about, name),
        questions=_questions(name, task),
    )


def _questions(name: str, task: Task) -> list[dict[str, Any]]:
    """Return a typed question of each kind that a task can answer."""
    by_kind = {(question.type, question.label is None): question for question in reversed(task.typed_questions)}
    return [question.to_json(name) for question in reversed(by_kind.values())]


def _reads(task: Task, state: Example) -> bool:
    return task.options_column is None and (task.options.inputs.second is None) == isinstance(state, str)


def _characters(example: Example) -> int:
    """Return the length of an example's longest text, or of a whole row."""
    if isinstance(example, dict):
        return sum(len(cell) if isinstance(cell, str) else sum(map(len, cell)) + len(cell) for cell in example.values())
    return max(map(len, [example] if isinstance(example, str) else example))


def _content(answers: Sequence[TextPrediction]) -> dict[str, Any]:
    """Return the body of a response."""
    predictions = [answer.predictions for answer in answers]
    flags = {"truncated": [answer.truncated for answer in answers], "empty": [answer.empty for answer in answers]}
    return {"predictions": predictions, **flags}
