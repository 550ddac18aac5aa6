"""Shows the page of a folder while its files change: one page on this machine alone, drawn again after each change."""

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
# What no page shows, and what grows large.
_PASSED_OVER = frozenset({"checkpoints", "model", "tensorboard", "cache"})
_DEPTH = 4
# Bytes at the end of a log in which its last whole line is looked for.
_TAIL = 65_536
_STOPPED = {"failed": "The run has failed.", "interrupted": "The run was interrupted; it can be resumed."}
ENDED = "No process writes into this folder any more: it was ended before it was done."
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Live:
    """What a page that follows a folder says of itself.

    Attributes:
        version: another one means that the page differs.
        state: a sentence: whether the folder still changes.
        changed: when it last did, in words.
        script: what asks for the next version.
    """

    version: str
    state: str
    changed: str
    script: str


class LivePage:
    """The page of a folder, drawn again when one of the folder's files has changed.

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
        """The page's content security policy: its own script and styles, and this server, nothing else."""
        digest = base64.b64encode(hashlib.sha256(self._live.script.encode()).digest()).decode()
        rest = "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; {rest}"

    def current(self) -> tuple[str, bytes]:
        """Return the version and the page as it is now; what can no longer be read stays as it was."""
        with self._lock:
            stamps = sorted(_stamps(self._folder, _DEPTH))
            state = self._read_state()
            version = hashlib.sha256(repr((stamps, state)).encode("utf-8", "replace")).hexdigest()[:32]
            if version != self._live.version:
                self._draw(version, state, max((changed for _, changed, _ in stamps), default=None))
            return version, self._text

    def _read_state(self) -> str:
        if not self._folder.is_dir():
            return "The folder is gone; this is what it held last."
        if _is_new(self._folder):
            killed = (self._folder / LOCK).exists() and is_held(self._folder) is False
            return f"{ENDED} Nothing was written." if killed else "Nothing has been written into the folder yet."
        try:
            kind = kind_of(self._folder)
        except UserError:
            return "The folder no longer holds what a page is made of; this is what it held last."
        if (self._folder / kind.finished).is_file():
            return f"It has ended: {kind.finished} is written."
        stopped = _STOPPED.get(_last_event(self._folder / "events.jsonl"))
        if stopped is None and is_held(self._folder) is False:
            stopped = ENDED
        return stopped or "It goes on; this page follows it."

    def _draw(self, version: str, state: str, changed_ns: int | None) -> None:
        changed = self._live.changed
        with suppress(UserError, OSError):  # files come and go while they are read
            self._page = kind_of(self._folder).page(self._folder)
            changed = "" if changed_ns is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(changed_ns / 1e9))
        self._live = replace(self._live, version=version, state=state, changed=changed)
        self._text = render(self._page, self._live).encode("utf-8", "replace")


def watch(folder: str | Path, port: int = 0, told: Callable[[str], None] | None = None) -> None:
    """Serve the page of a folder on this machine until Ctrl-C, drawn again when its files change.

    Nothing is written into the folder, and none of its files is served but the page made of them.

    Args:
        port: 0 for any free one.
        told: is given the address as soon as it answers.

    Raises UserError for a folder of another kind, and for a port that is taken.
    """
    page = LivePage(Path(folder))
    page.current()
    try:
        server = PageServer((HOST, port), page)
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise UserError(f"--port: cannot listen on {HOST}:{port} ({why}); leave it out to take a free one") from None
    with server, suppress(KeyboardInterrupt):
        if told is not None:
            told(server.url)
        server.serve_forever()


class PageServer(ThreadingHTTPServer):
    """Answers GET / with a page, and refuses all else."""

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
        TCPServer.server_bind(self)  # without the look-up of the machine's name, which can take seconds

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Say nothing: a browser that leaves in the middle of an answer is no error."""
        del request, client_address


class _Handler(BaseHTTPRequestHandler):
    server: PageServer  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = 10.0

    def do_GET(self) -> None:
        # A page of another site can make its name mean 127.0.0.1 and ask; its browser then names that site here.
        port = self.server.port
        if self.headers.get_all("Host") not in ([f"{HOST}:{port}"], [f"localhost:{port}"]):
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, b"this server answers for this machine alone\n")
        elif self.path != "/":
            self._answer(HTTPStatus.NOT_FOUND, b"there is one page, at /\n")
        else:
            version, text = self.server.page.current()
            known = self.headers.get("If-None-Match") == f'"{version}"'
            more = {"Content-Security-Policy": self.server.page.policy, "ETag": f'"{version}"'}
            if known:
                self._answer(HTTPStatus.NOT_MODIFIED, b"", more)
            else:
                self._answer(HTTPStatus.OK, text, {**more, "Content-Type": "text/html; charset=utf-8"})

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request that is no GET, or cannot be read; what it holds is not repeated."""
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
    """Whether there is nothing in a folder yet but a lock and a log."""
    try:
        return folder.is_dir() and all(path.name.startswith(".") or path.name == "log.txt" for path in folder.iterdir())
    except OSError:
        return False


def _stamps(folder: Path, depth: int) -> Iterator[tuple[str, int, int]]:
    """Yield path, time of change (ns) and size of what a page may be made of, passing over what vanishes meanwhile."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
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
    """Return the name of the last whole event of a log; empty where there is none."""
    try:
        with open_regular(log) as lines:
            lines.seek(max(0, lines.seek(0, os.SEEK_END) - _TAIL))
            whole = lines.read().split(b"\n")[:-1]
    except OSError:
        return ""
    for line in reversed(whole):
        try:
            return str(json.loads(line)["event"])
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
    return ""
