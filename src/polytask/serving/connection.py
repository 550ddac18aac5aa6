"""Limits on connections before there is a request: their number, and how long each may be silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from polytask.serving.log import LOG

_REFUSAL = b'{"detail": "too many connections; try again shortly"}'
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_REFUSAL), _REFUSAL)
)
# asyncio's message for a process without free file descriptors, logged once per attempted connection.
_NO_DESCRIPTORS = "socket.accept() out of system resource"
_SILENCE_S = 60.0


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits on the connections of a server.

    Attributes:
        most: maximum number of simultaneous connections.
        timeout_s: time in seconds for the head of a request to arrive, and for a client to read a response.
        dropped: called with the cause for each connection that is closed or rejected.
    """

    most: int
    timeout_s: float
    dropped: Callable[[str], None]


class Connection(H11Protocol):
    """A uvicorn connection that closes if a client does not finish the head of a request or read the response.

    uvicorn itself waits for both indefinitely; the middleware limits the time for bodies.
    """

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **options)
        self._limits = limits
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(
            high=0
        )  # so that `pause_writing` is called for every byte that the client has not read
        if len(self.connections) > self._limits.most:
            self._limits.dropped("too many connections")
            transport.write(_FULL)
            transport.close()
            return
        self._head = self._after_timeout()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:  # pyright: ignore[reportUnnecessaryComparison]
            self._head = _cancelled(self._head)
        elif self._head is None and not self.transport.is_closing():
            self._head = self._after_timeout()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self._after_timeout()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread = _cancelled(self._unread)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head, self._unread = _cancelled(self._head), _cancelled(self._unread)
        super().connection_lost(exc)

    def _after_timeout(self) -> asyncio.TimerHandle:
        return self.loop.call_later(self._limits.timeout_s, self._cut)

    def _cut(self) -> None:
        self._limits.dropped("connection too slow")
        self.transport.abort()


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class LoopErrors:
    """Logs errors of the event loop that belong to no request: one line each, and few of the same kind."""

    def __init__(self) -> None:
        self._told = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Write a line (asyncio's exception handler)."""
        del loop
        if context.get("message") != _NO_DESCRIPTORS:
            LOG.error("failed", exc_info=context.get("exception"))
            return
        if time.monotonic() - self._told > _SILENCE_S:
            self._told = time.monotonic()
            LOG.error("no file descriptors left, connections wait: raise `ulimit -n`, or lower --max-connections")


def allow_descriptors(wanted: int) -> None:
    """Raise the limit of open files for this number of connections, as far as the system allows."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    reached = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (reached, hard))
    if reached < wanted:
        LOG.warning(f"open files are limited to {hard}: lower --max-connections, or raise `ulimit -Hn` to {wanted}")
