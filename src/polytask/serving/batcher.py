"""Micro-batches: while the model is busy requests queue, and what has queued is answered together.

Nothing waits for company: an idle model takes the next request at once. So one client loses no time, and many share
passes through the encoder.
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

# Bytes of text that one token stands for, to estimate a batch's size before it is tokenised: English has about four
# letters a token, Chinese one character of three bytes.
BYTES_A_TOKEN = 4


class Predictor(Protocol):
    """What the server asks of a model; `polytask.predict` offers it."""

    @property
    def tasks(self) -> Mapping[str, Task]: ...

    @property
    def about(self) -> Mapping[str, Any]: ...

    @property
    def tokens(self) -> Tokenization: ...

    def answers(
        self, records: Sequence[Record], tasks: Sequence[str] | None = None, *, long: Long = "truncate"
    ) -> Iterator[TextPrediction]:
        """Answer records in their order."""
        ...


class QueueFull(PolytaskError):
    """No room for a request; `retry_s` is when there should be some."""

    def __init__(self, queued: int, most: int, retry_s: int) -> None:
        self.retry_s = retry_s
        super().__init__(f"{queued} texts are waiting, and at most {most} may; try again in {retry_s} s")


class Stopping(PolytaskError):
    """The server is stopping and takes no more requests."""


class ModelFailed(Exception):
    """The model's thread met something that is no ordinary exception, such as a panic in a library's Rust code."""


@dataclass(frozen=True, eq=False)
class Ticket:
    """A request in the queue.

    Attributes:
        tokens: of all its texts, as estimated.
        answered: what the handler awaits; cancelled when nobody waits any more.
    """

    records: Sequence[Record]
    tasks: tuple[str, ...]
    tokens: int
    answered: asyncio.Future[list[TextPrediction]]


@dataclass(frozen=True)
class MicroBatch:
    """What one micro-batch was.

    Attributes:
        seconds: that the model took.
    """

    requests: int
    texts: int
    seconds: float


class Batcher:
    """The queue, and the one thread that owns the model.

    Args:
        most_texts, most_tokens: of a micro-batch; a larger request runs alone.
        most_queued: texts that may wait.
        long: what becomes of texts that are longer than the model reads.
        ran: told of each micro-batch, in the model's thread.
        failed: told when the thread ends by an error; nothing is answered any more.
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
        """Number of texts that wait."""
        with self._changed:
            return self._queued()

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self._thread.is_alive() and not self._closed

    @property
    def failed(self) -> bool:
        """Whether the model's thread ended by an error, so that nothing is answered any more."""
        return self._broken

    def start(self) -> None:
        """Start the model's thread."""
        self._thread.start()

    def close(self) -> None:
        """Take no more requests, answer those that wait, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def put(self, records: Sequence[Record], tasks: tuple[str, ...]) -> Ticket:
        """Queue a request, in the event loop that awaits it. Raises QueueFull and Stopping.

        Args:
            tasks: in the model's order, each once; requests of the same tasks run together.
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
        """Forget a request that nobody waits for; when it is running already, its answers are thrown away."""
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
        """Wait for requests and take the oldest, with all others of the same tasks that fit; none at the end."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            taken: list[Ticket] = []
            left: deque[Ticket] = deque()
            texts = tokens = 0
            for ticket in self._waiting:
                texts_then, tokens_then = texts + len(ticket.records), tokens + ticket.tokens
                fits = texts_then <= self._most_texts and tokens_then <= self._most_tokens
                if not taken or (fits and ticket.tasks == taken[0].tasks):
                    taken.append(ticket)
                    texts, tokens = texts_then, tokens_then
                else:
                    left.append(ticket)
            self._waiting = left
            return taken

    def _work(self) -> None:
        tickets: list[Ticket] = []
        try:
            while tickets := self._take():
                self._answer(tickets)
        except BaseException as error:  # noqa: BLE001  a thread that ended in silence would let all requests wait in vain
            LOG.error("the model's thread failed", exc_info=error)
            self._give_up(tickets, error)

    def _give_up(self, running: Sequence[Ticket], error: BaseException) -> None:
        """Fail all requests, those to come too, and tell that nothing is answered any more."""
        with self._changed:
            self._closed = self._broken = True
            left = [*running, *self._waiting]
            self._waiting.clear()
        if left:
            _deliver(left, [_ordinary(error)] * len(left))
        if self._failed is not None:
            self._failed()

    def _answer(self, tickets: Sequence[Ticket]) -> None:
        """Answer requests together; when that fails each one alone, so that only the culprit fails."""
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
    """Return an exception that a future takes: not one that ends a program, and no StopIteration."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failed = ModelFailed(type(error).__name__)
    failed.__cause__ = error
    return failed


def _deliver(tickets: Sequence[Ticket], outcomes: Sequence[list[TextPrediction] | Exception]) -> None:
    """Hand the outcomes over to the event loop, all at once."""

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
    except RuntimeError:  # the loop has ended, and so has everyone who waited
        return
