"""Runs the server: binds the port, loads the model, serves until a signal, and lets running requests finish."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import os
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import uvicorn

from polytask.errors import ConfigError, PolytaskError, UserError
from polytask.inputs import folder_of
from polytask.predict.load import load
from polytask.predict.predictor import Model
from polytask.serving.app import create_app
from polytask.serving.connection import Connection, ConnectionLimits, LoopErrors, allow_descriptors
from polytask.serving.log import LOG, log_event, write_json_lines
from polytask.serving.middleware import RequestMiddleware
from polytask.serving.options import ServeOptions
from polytask.signals import on_signals

# Number of files that the process itself keeps open: model, log, libraries.
_OWN_DESCRIPTORS = 64


class Server(uvicorn.Server):
    """uvicorn's server, but with a successful exit after a signal, which uvicorn would raise again.

    Attributes:
        failed: whether it stopped because the model's thread failed.
    """

    failed = False

    def fail(self) -> None:
        """Stop the server, from any thread, after a failure."""
        self.failed = True
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        with on_signals(self.handle_exit):
            yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Objects loaded by now stay. Scanning them for garbage would block all requests, for 0.2 s with torch.
        gc.collect()
        gc.freeze()
        asyncio.get_running_loop().set_exception_handler(LoopErrors())
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            url_host = f"[{host}]" if ":" in host else host
            log_event("listening", url=f"http://{url_host}:{port}", pid=os.getpid())


def run(model: str | PathLike[str] | Model, options: ServeOptions) -> None:
    """Serve a model until SIGTERM or SIGINT. Raises UserError for a bad folder or a port that is taken."""
    if isinstance(model, Model):
        _require_as_loaded(options)
    else:
        model = folder_of(model, "model")
        if options.name is None:
            options = options.model_copy(update={"name": _name_of(model)})
    write_json_lines()
    with _bind(options.host, options.port) as bound:
        place = "a loaded model" if isinstance(model, Model) else str(model)
        model = model if isinstance(model, Model) else load(model, options.device, options.precision)
        if options.api_key is None and not _is_loopback(options.host):
            LOG.warning("open to the network without an API key: give one by POLYTASK_API_KEY, or use --host 127.0.0.1")
        server: Server | None = None

        def fail() -> None:
            assert server is not None
            server.fail()

        application = create_app(model, options, fail)
        log_event("loaded", model=place, tasks=list(model.tasks), **model.engine.describe())
        allow_descriptors(options.max_connections + _OWN_DESCRIPTORS)
        server = Server(configured(application, options))
        _run_until_stopped(server, bound)
        if server.failed:
            raise PolytaskError("the model's thread ended with an error, see the log; start the server again")
        log_event("stopped")


def _name_of(folder: Path) -> str:
    """Return the name of the run's folder, or of the model folder if it is not part of a run."""
    folder = folder.resolve()
    return (folder.parent if folder.name == "model" else folder).name


def _require_as_loaded(options: ServeOptions) -> None:
    """Raise ConfigError for loading options if the model is loaded already."""
    for name in ("device", "precision"):
        if name in options.model_fields_set:
            raise ConfigError(
                f"{name}: found together with a loaded model; give it to polytask.load, or serve the folder"
            )


def _run_until_stopped(server: Server, bound: socket.socket) -> None:
    """Run a server in this thread, or in another one if this one runs the event loop of a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        server.run([bound])
        return
    thread = threading.Thread(target=server.run, args=([bound],), name="polytask-server")
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:  # the notebook's stop button
        server.should_exit = True
        thread.join()


def configured(application: RequestMiddleware, options: ServeOptions, **more: Any) -> uvicorn.Config:  # noqa: ANN401
    """Return uvicorn's configuration for an application, with the limits on connections."""
    limits = ConnectionLimits(options.max_connections, options.timeout_s, application.metrics.dropped)
    connection: Any = partial(Connection, limits=limits)
    return uvicorn.Config(
        application, log_config=None, access_log=False, server_header=False, timeout_keep_alive=30, backlog=128,
        timeout_graceful_shutdown=max(1, round(options.grace_s)), lifespan="on", ws="none", loop="asyncio",
        http=connection, **more,
    )  # fmt: skip


def _bind(host: str, port: int) -> socket.socket:
    """Bind the port before the model is loaded, so that a taken port is reported at once."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio disables Nagle's algorithm only if the protocol is named; with it, the body of a response would wait
        # 40 ms for the client to acknowledge the head.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise UserError(
            f"{host}:{port}: cannot listen there ({error.strerror}); name another address with --host or --port "
            "(--port 0 takes a free one)"
        ) from None
    return bound


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
