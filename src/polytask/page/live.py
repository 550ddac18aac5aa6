"""Serves the page of a folder on this machine only, and redraws it whenever the files change."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from socketserver import TCPServer
from typing import Any

from polytask.errors import UserError
from polytask.lock import FILE as LOCK
from polytask.lock import is_held
from polytask.page.block import Page
from polytask.page.report import NAME, kind_of, render, run_folder
from polytask.regular import open_regular

HOST = "127.0.0.1"
# Files that no page shows, and that grow large.
_PASSED_OVER = frozenset({"checkpoints", "model", "tensorboard", "cache"})
_DEPTH = 4
# Number of bytes at the end of a log that are searched for its last complete line.
_TAIL = 65_536
_STOPPED = {"failed": "The run has failed.", "interrupted": "The run was interrupted; it can be resumed."}
ENDED = "No process writes into this folder any more: it was stopped before it finished."
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Live:
    """The state of a page that follows a folder.

    Attributes:
        version: version of the page; differs if the page differs.
        state: sentence that says whether the folder still changes.
        changed: time of the last change as text.
        script: script that fetches the next version.
    """

    version: str
    state: str
    changed: str
    script: str


class LivePage:
    """The page of a folder, redrawn when one of the files has changed.

    Raises UserError for a folder of another kind, unless it is still empty.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = run_folder(folder)
        self._lock = threading.Lock()
        self._page = Page(f"Folder {self._folder.resolve().name}", "Nothing has been written yet")
        self._live = Live("", "", "", files("polytask.page").joinpath("templates", "live.js").read_text("utf-8"))
        self._text = b""
        if not _is_new(self._folder):
            kind_of(self._folder)

    @property
    def policy(self) -> str:
        """The content security policy of the page: only its own script and styles, and this server."""
        digest = base64.b64encode(hashlib.sha256(self._live.script.encode()).digest()).decode()
        rest = "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; {rest}"

    def current(self) -> tuple[str, bytes]:
        """Return the version and the current page; parts that can no longer be read keep their last state."""
        with self._lock:
            stamps = sorted(_stamps(self._folder, _DEPTH))
            state = self._read_state()
            version = hashlib.sha256(repr((stamps, state)).encode("utf-8", "replace")).hexdigest()[:32]
            if version != self._live.version:
                self._draw(version, state, max((changed for _, changed, _ in stamps), default=None))
            return version, self._text

    def _read_state(self) -> str:
        if not self._folder.is_dir():
            return "The folder is gone; this page shows its last state."
        if _is_new(self._folder):
            killed = (self._folder / LOCK).exists() and is_held(self._folder) is False
            return f"{ENDED} Nothing was written." if killed else "Nothing has been written into the folder yet."
        try:
            kind = kind_of(self._folder)
        except UserError:
            return "The folder no longer contains the files of a page; this page shows its last state."
        if (self._folder / kind.finished).is_file():
            return f"Finished: {kind.finished} has been written."
        stopped = _STOPPED.get(_last_event(self._folder / "events.jsonl"))
        if stopped is None and is_held(self._folder) is False:
            stopped = ENDED
        return stopped or "Running; this page updates itself."

    def _draw(self, version: str, state: str, changed_ns: int | None) -> None:
        changed = self._live.changed
        with suppress(UserError, OSError):  # files may appear and disappear meanwhile
            self._page = kind_of(self._folder).page(self._folder)
            changed = "" if changed_ns is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(changed_ns / 1e9))
        self._live = replace(self._live, version=version, state=state, changed=changed)
        self._text = render(self._page, self._live).encode("utf-8", "replace")


def watch(folder: str | Path, port: int = 0, on_start: Callable[[str], None] | None = None) -> None:
    """Serve the page of a folder on this machine until Ctrl-C, and redraw it when the files change.

    Nothing is written into the folder, and only the page is served, none of the files.

    Args:
        folder: the folder.
        port: port number; 0 for any free one.
        on_start: called with the URL as soon as the server answers.

    Raises UserError for a folder of another kind, and for a port that is taken.
    """
    page = LivePage(Path(folder))
    page.current()
    try:
        server = PageServer((HOST, port), page)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise UserError(f"--port: cannot listen on {HOST}:{port} ({reason}); leave it out to take a free one") from None
    with server, suppress(KeyboardInterrupt):
        if on_start is not None:
            on_start(server.url)
        server.serve_forever()


class PageServer(ThreadingHTTPServer):
    """Answers GET / with the page, and rejects everything else."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], page: LivePage) -> None:
        self.page = page
        super().__init__(address, _Handler)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.port}/"

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # without looking up the host name, which can take seconds

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Ignore errors: a browser that disconnects during a response is not a problem."""
        del request, client_address


class _Handler(BaseHTTPRequestHandler):
    server: PageServer  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = 10.0

    def do_GET(self) -> None:
        # Another site can resolve its name to 127.0.0.1 (DNS rebinding); the browser then sends that name as Host.
        port = self.server.port
        if self.headers.get_all("Host") not in ([f"{HOST}:{port}"], [f"localhost:{port}"]):
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, b"this server answers for this machine alone\n")
        elif self.path != "/":
            self._answer(HTTPStatus.NOT_FOUND, b"there is one page, at /\n")
        else:
            version, text = self.server.page.current()
            is_current = self.headers.get("If-None-Match") == f'"{version}"'
            more = {"Content-Security-Policy": self.server.page.policy, "ETag": f'"{version}"'}
            if is_current:
                self._answer(HTTPStatus.NOT_MODIFIED, b"", more)
            else:
                self._answer(HTTPStatus.OK, text, {**more, "Content-Type": "text/html; charset=utf-8"})

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Reject a request that is not GET, or cannot be parsed, without repeating its content."""
        del message, explain
        self._answer(HTTPStatus(code), b"this server answers GET / alone\n")

    def _answer(self, status: HTTPStatus, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        kind = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))} if body else {}
        self.send_response(status)
        for name, value in (_HEADERS | kind | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "polytask"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        del format, args


def _is_new(folder: Path) -> bool:
    """Whether a folder contains nothing but a lock and a log."""
    try:
        return folder.is_dir() and all(path.name.startswith(".") or path.name == "log.txt" for path in folder.iterdir())
    except OSError:
        return False


def _stamps(folder: Path, depth: int) -> Iterator[tuple[str, int, int]]:
    """Yield path, modification time (ns) and size of the files of a page, skipping those that vanish meanwhile."""
    try:
        with os.scandir(folder) as iterator:
            entries = list(iterator)
    except OSError:
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                if depth > 1 and entry.name not in _PASSED_OVER:
                    yield from _stamps(Path(entry.path), depth - 1)
            elif not entry.name.startswith(".") and entry.name != NAME:
                status = entry.stat()
                yield entry.path, status.st_mtime_ns, status.st_size
        except OSError:
            continue


def _last_event(log: Path) -> str:
    """Return the name of the last complete event of a log; empty if there is none."""
    try:
        with open_regular(log) as lines:
            lines.seek(max(0, lines.seek(0, os.SEEK_END) - _TAIL))
            complete_lines = lines.read().split(b"\n")[:-1]
    except OSError:
        return ""
    for line in reversed(complete_lines):
        try:
            return str(json.loads(line)["event"])
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
    return ""
