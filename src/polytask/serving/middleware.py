"""Middleware in front of the application: checks key, size and pace of bodies, and logs each request."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from fastapi.responses import JSONResponse

from polytask.serving.log import LOG, log_event
from polytask.serving.metrics import Metrics
from polytask.serving.options import ServeOptions

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

# Open without a key: health, and the page, which shows nothing about the model until it gets the key.
OPEN = frozenset({"/", "/health", "/v2/health/live", "/v2/health/ready"})
# Amount beyond the limit, and time, that are read and discarded before the rejection: a client that is still writing
# when the connection closes would see a broken pipe instead of the reason.
_PATIENCE_BODIES, _PATIENCE_S = 8, 2.0
# Total memory for bodies, in bodies of the maximum size.
BODIES_AT_ONCE = 64
# Path below which the protocol requires another form of rejections.
_INFERENCE = re.compile(r"/v2(/.*)?", re.DOTALL)  # a name may hold line breaks
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


def refusal(path: str, detail: str, status: int, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the response to a rejected request, in the form of the protocol of its path."""
    key = "error" if _INFERENCE.fullmatch(path) else "detail"
    return JSONResponse({key: detail}, status, headers)


class BodyTooLarge(Exception):
    """The body has more bytes than accepted."""


class BodyMemoryFull(Exception):
    """The bodies in memory leave no room for another one."""


class ClientDisconnected(Exception):
    """The client has closed the connection."""


@dataclass
class _HeldBytes:
    """Number of bytes of a request's body in memory."""

    size: int = 0


class RequestMiddleware:
    """An ASGI application that wraps another one.

    Args:
        application: the wrapped application.
        options: options of the server.
        metrics: metrics to update.
        routes: paths that are logged and counted by name; unknown paths could be anything.
    """

    def __init__(
        self, application: Application, options: ServeOptions, metrics: Metrics, routes: frozenset[str]
    ) -> None:
        self._application = application
        self._routes = routes
        self._options = options
        self.metrics = metrics
        self._held = 0
        key = options.api_key
        self._key = None if key is None else key.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the application's start and end."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        began = time.perf_counter()
        status = 499  # like nginx, for a client that did not wait

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        try:
            await self._serve(scope, receive, watched)
        except ClientDisconnected:
            pass
        except Exception:  # noqa: BLE001  answered with 500 where it was found, and told here
            LOG.exception("failed")
        seconds = time.perf_counter() - began
        route = scope["path"] if scope["path"] in self._routes else "other"
        self.metrics.requested(route, status, seconds)
        fields = scope.get("state", {}).get("log", {})
        log_event("request", method=scope["method"], route=route, status=status, ms=round(1000 * seconds, 1), **fields)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._admits(scope):
            detail = "an API key is needed: send the header Authorization: Bearer KEY, or X-API-Key: KEY"
            headers = {"WWW-Authenticate": "Bearer", "Connection": "close"}
            await refusal(scope["path"], detail, 401, headers)(scope, receive, send)
            return
        held = _HeldBytes()
        try:
            await self._hold(scope, receive, send, held)
        finally:
            self._held -= held.size

    async def _hold(self, scope: Scope, receive: Receive, send: Send, held: _HeldBytes) -> None:
        """Read a body and pass the request on."""
        try:
            async with asyncio.timeout(self._options.timeout_s):
                body = await self._read(scope, receive, held)
        except BodyMemoryFull:
            headers = {"Connection": "close", "Retry-After": "1"}
            detail = "too many large requests at once; try again shortly"
            await refusal(scope["path"], detail, 429, headers)(scope, receive, send)
            return
        except BodyTooLarge:
            detail = f"the body has more than {self._options.max_body_bytes} bytes; send fewer or shorter texts"
            await refusal(scope["path"], detail, 413, {"Connection": "close"})(scope, receive, send)
            return
        except TimeoutError:
            detail = f"the body did not arrive within {self._options.timeout_s:g} s"
            await refusal(scope["path"], detail, 408, {"Connection": "close"})(scope, receive, send)
            return
        await self._application(scope, _replay(body, receive), send)

    def _admits(self, scope: Scope) -> bool:
        if self._key is None or scope["path"] in OPEN:
            return True
        headers = {name: value for name, value in scope["headers"] if name in (b"authorization", b"x-api-key")}
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        sent_key = token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        return hmac.compare_digest(sent_key, self._key)

    async def _read(self, scope: Scope, receive: Receive, held: _HeldBytes) -> bytes:
        """Read the body, counting bytes as they arrive, since the length may be missing.

        Raises BodyTooLarge, BodyMemoryFull and ClientDisconnected.
        """
        most = self._options.max_body_bytes
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and (len(declared) > 18 or int(declared) > most):
            if b"expect" not in headers:  # such a client waits for a response before it sends the body
                await _drain(receive, most * _PATIENCE_BODIES)
            raise BodyTooLarge
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise ClientDisconnected
            part = message.get("body", b"")
            body += part
            held.size += len(part)
            self._held += len(part)
            if self._held > most * BODIES_AT_ONCE:
                raise BodyMemoryFull
            more = message.get("more_body", False)
            if len(body) > most:
                if more:
                    await _drain(receive, most * _PATIENCE_BODIES)
                raise BodyTooLarge
        return bytes(body)


async def _drain(receive: Receive, most: int) -> None:
    """Read and discard what a client still sends, up to a limit. Raises ClientDisconnected."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            more = True
            while more and most > 0:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientDisconnected
                most -= len(message.get("body", b""))
                more = message.get("more_body", False)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the whole body first, and then later messages, such as a disconnect."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
