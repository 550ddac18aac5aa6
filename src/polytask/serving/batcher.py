"""Micro-batches: requests queue while the model is busy, and are then predicted together.

An idle model takes the next request at once, without waiting for more. So a single client loses no time, and many
clients share passes through the encoder.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from polytask.errors import PolytaskError
from polytask.serving.log import LOG

if TYPE_CHECKING:
    from polytask.data.tokens import Tokenization
    from polytask.data.windows import Long
    from polytask.predict.predictor import TextPrediction
    from polytask.predict.record import Record
    from polytask.tasks import Task

# Bytes of text per token, to estimate the size of a batch before tokenisation: English has about four letters per
# token, Chinese one character of three bytes.
BYTES_A_TOKEN = 4


class Predictor(Protocol):
    """The interface of a model that the server needs; `polytask.predict` implements it."""

    @property
    def tasks(self) -> Mapping[str, Task]: ...

    @property
    def about(self) -> Mapping[str, Any]: ...

    @property
    def tokens(self) -> Tokenization: ...

    def answers(
        self, records: Sequence[Record], tasks: Sequence[str] | None = None, *, long: Long = "truncate"
    ) -> Iterator[TextPrediction]:
        """Predict records in order."""
        ...


class QueueFull(PolytaskError):
    """The queue is full; `retry_s` is the suggested waiting time in seconds."""

    def __init__(self, queued: int, most: int, retry_s: int) -> None:
        self.retry_s = retry_s
        super().__init__(f"{queued} texts are waiting, the maximum is {most}; try again in {retry_s} s")


class Stopping(PolytaskError):
    """The server is stopping and accepts no more requests."""


class ModelFailed(Exception):
    """The model's thread ended with an unusual exception, such as a panic in a library's Rust code."""


@dataclass(frozen=True, eq=False)
class Ticket:
    """A request in the queue.

    Attributes:
        tokens: estimated number of tokens in all its texts.
        answered: future that the handler awaits; cancelled when nobody waits any more.
    """

    records: Sequence[Record]
    tasks: tuple[str, ...]
    tokens: int
    answered: asyncio.Future[list[TextPrediction]]


@dataclass(frozen=True)
class MicroBatch:
    """Statistics of one micro-batch.

    Attributes:
        seconds: time that the model took.
    """

    requests: int
    texts: int
    seconds: float


class Batcher:
    """The queue, and the single thread that owns the model.

    Args:
        model: the model.
        most_texts, most_tokens: maximum size of a micro-batch; a larger request runs alone.
        most_queued: maximum number of waiting texts.
        long: how to handle texts that are longer than the model reads.
        ran: called after each micro-batch, in the model's thread.
        failed: called if the thread ends with an error; no more requests are answered then.
    """

    def __init__(
        self, model: Predictor, *, most_texts: int, most_tokens: int, most_queued: int, long: Long,
        ran: Callable[[MicroBatch], None], failed: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        self._model = model
        self._long: Long = long
        self._most_texts, self._most_tokens, self._most_queued = most_texts, most_tokens, most_queued
        self._ran = ran
        self._failed = failed
        self._waiting: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._broken = False
        self._seconds_a_text = 0.0
        self._thread = threading.Thread(target=self._work, name="polytask-model", daemon=True)

    @property
    def queued(self) -> int:
        """Number of waiting texts."""
        with self._changed:
            return self._queued()

    @property
    def ready(self) -> bool:
        """Whether requests are accepted."""
        return self._thread.is_alive() and not self._closed

    @property
    def failed(self) -> bool:
        """Whether the model's thread ended with an error, so that no more requests are answered."""
        return self._broken

    def start(self) -> None:
        """Start the model's thread."""
        self._thread.start()

    def close(self) -> None:
        """Accept no more requests, answer the waiting ones, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def put(self, records: Sequence[Record], tasks: tuple[str, ...]) -> Ticket:
        """Queue a request, from the event loop that awaits it. Raises QueueFull and Stopping.

        Args:
            records: the records of the request.
            tasks: names in the model's order, without duplicates; requests for the same tasks run together.
        """
        answered: asyncio.Future[list[TextPrediction]] = asyncio.get_running_loop().create_future()
        ticket = Ticket(records, tasks, sum(self._estimate(record) for record in records), answered)
        with self._changed:
            if self._closed:
                raise Stopping("the server is stopping")
            queued = self._queued()
            if queued + len(records) > self._most_queued:
                retry = max(1, min(60, round(queued * self._seconds_a_text)))
                raise QueueFull(queued, self._most_queued, retry)
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def drop(self, ticket: Ticket) -> None:
        """Drop a request that nobody waits for; if it is running already, its predictions are discarded."""
        if not ticket.answered.cancel():
            return
        with self._changed:
            if ticket in self._waiting:
                self._waiting.remove(ticket)

    def _queued(self) -> int:
        return sum(len(ticket.records) for ticket in self._waiting)

    def _estimate(self, record: Record) -> int:
        values = [record] if isinstance(record, str) else record.values() if isinstance(record, Mapping) else record
        size = sum(len(str(value).encode("utf-8", "replace")) for value in values)
        tokens = size // BYTES_A_TOKEN + 2
        return tokens if self._long == "windows" else min(self._model.tokens.max_tokens, tokens)

    def _take(self) -> list[Ticket]:
        """Wait for requests, and return the oldest with all others for the same tasks that fit; none at the end."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            batch: list[Ticket] = []
            remaining: deque[Ticket] = deque()
            texts = tokens = 0
            for ticket in self._waiting:
                texts_then, tokens_then = texts + len(ticket.records), tokens + ticket.tokens
                fits = texts_then <= self._most_texts and tokens_then <= self._most_tokens
                if not batch or (fits and ticket.tasks == batch[0].tasks):
                    batch.append(ticket)
                    texts, tokens = texts_then, tokens_then
                else:
                    remaining.append(ticket)
            self._waiting = remaining
            return batch

    def _work(self) -> None:
        tickets: list[Ticket] = []
        try:
            while tickets := self._take():
                self._answer(tickets)
        except BaseException as error:  # noqa: BLE001  a thread that ended in silence would let all requests wait in vain
            LOG.error("the model's thread failed", exc_info=error)
            self._give_up(tickets, error)

    def _give_up(self, running: Sequence[Ticket], error: BaseException) -> None:
        """Fail all requests, including future ones, and report that the batcher has failed."""
        with self._changed:
            self._closed = self._broken = True
            pending = [*running, *self._waiting]
            self._waiting.clear()
        if pending:
            _deliver(pending, [_ordinary(error)] * len(pending))
        if self._failed is not None:
            self._failed()

    def _answer(self, tickets: Sequence[Ticket]) -> None:
        """Predict requests together; if that fails, each one alone, so that only the culprit fails."""
        tickets = [ticket for ticket in tickets if not ticket.answered.cancelled()]
        if not tickets:
            return
        records = [record for ticket in tickets for record in ticket.records]
        began = time.perf_counter()
        try:
            answers = list(self._model.answers(records, tickets[0].tasks, long=self._long))
            if len(answers) != len(records):
                raise ModelFailed(f"{len(answers)} answers to {len(records)} texts")
        except BaseException as error:  # noqa: BLE001  a panic too: the thread must live on, and the handler raises it
            if len(tickets) == 1:
                _deliver(tickets, [_ordinary(error)])
                return
            for ticket in tickets:
                self._answer([ticket])
            return
        ran = MicroBatch(len(tickets), len(records), time.perf_counter() - began)
        self._seconds_a_text = 0.8 * self._seconds_a_text + 0.2 * ran.seconds / ran.texts
        self._ran(ran)
        outcomes: list[list[TextPrediction] | Exception] = []
        start = 0
        for ticket in tickets:
            outcomes.append(answers[start : start + len(ticket.records)])
            start += len(ticket.records)
        _deliver(tickets, outcomes)


def _ordinary(error: BaseException) -> Exception:
    """Return an exception that a future accepts, other than those that end a program and StopIteration."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failed = ModelFailed(type(error).__name__)
    failed.__cause__ = error
    return failed


def _deliver(tickets: Sequence[Ticket], outcomes: Sequence[list[TextPrediction] | Exception]) -> None:
    """Pass all outcomes to the event loop at once."""

    def settle() -> None:
        for ticket, outcome in zip(tickets, outcomes, strict=True):
            if ticket.answered.done():
                continue
            if isinstance(outcome, Exception):
                ticket.answered.set_exception(outcome)
            else:
                ticket.answered.set_result(outcome)

    loop = tickets[0].answered.get_loop()
    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop has ended, and nobody is waiting any more
        return
