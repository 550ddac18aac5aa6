"""The command as a process: it starts, tells mistakes in words, asks for its key, and lets running requests finish."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from typer.testing import CliRunner

import polytask as pt
import polytask.serving
from polytask.cli import app, main
from polytask.errors import MissingExtra, UserError
from polytask.serving import ServeOptions, read_options, run, serve_model
from polytask.serving.app import create_app

pytestmark = pytest.mark.usefixtures("quick_processes")
PYTHON = sys.executable  # itself, and no stand-in


@contextmanager
def process(*arguments: Any, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str, list[dict[str, Any]]]]:
    """Start the command; give the process, its address, and the lines of its log (all of them once it has ended)."""
    command = [sys.executable, "-m", "polytask", "serve", *map(str, arguments), "--port", "0"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables})
    assert started.stderr is not None
    lines: list[dict[str, Any]] = []

    def read(stream: Iterator[str]) -> None:
        lines.extend(json.loads(line) for line in stream)

    try:
        for line in started.stderr:
            lines.append(json.loads(line))
            if lines[-1]["event"] == "listening":
                break
        assert started.poll() is None
        reader = threading.Thread(target=read, args=(started.stderr,))
        reader.start()
        yield started, lines[-1]["url"], lines
        started.terminate()
        started.wait(20)
        reader.join(20)
    finally:
        started.kill()
        started.wait()
        started.stderr.close()


def test_a_stopped_server_finishes_what_runs_and_ends_as_done(folder: Path) -> None:
    # A body that arrives in two parts holds its request open while the signal comes.
    with process(folder, "--device", "cpu", "--precision", "bf16") as (started, url, lines):
        body = json.dumps({"texts": ["A secret text."]}).encode()
        kind = "Content-Type: application/json"
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        address = (httpx.URL(url).host, httpx.URL(url).port)
        with socket.create_connection(address, timeout=20) as running:
            running.sendall(head.encode() + body[:10])
            assert httpx.get(f"{url}/health").status_code == 200
            started.send_signal(signal.SIGTERM)
            end = time.monotonic() + 10
            while True:  # the port is closed to new ones
                try:
                    socket.create_connection(address, timeout=1).close()
                except OSError:
                    break
                assert time.monotonic() < end
                time.sleep(0.02)
            running.sendall(body[10:])
            answer = b""
            while part := running.recv(65536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert b'"sentiment"' in answer
        assert started.wait(20) == 0
    events = [line["event"] for line in lines]
    assert events[:2] == ["loaded", "listening"]
    assert (lines[0]["device"], lines[0]["precision"]) == ("cpu", "bf16")
    assert events[-1] == "stopped"
    request = next(line for line in lines if line.get("route") == "/predict")
    assert (request["status"], request["texts"]) == (200, 1)
    assert "secret" not in json.dumps(lines)


def test_the_key_is_asked_for_everywhere_but_at_the_door(folder: Path) -> None:
    flags = ("--host", "0.0.0.0", "--grace-s", 1)
    with process(folder, *flags, POLYTASK_API_KEY="schlüssel-1") as (started, url, lines):
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert not [line for line in lines if line["level"] == "warning"]
        key = "schlüssel-1".encode()
        for path in ("/", "/health"):
            assert httpx.get(url + path).status_code == 200
        for path in ("/tasks", "/metrics", "/openapi.json", "/nowhere"):
            refused = httpx.get(url + path)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert httpx.get(url + path, headers={"X-API-Key": key}).status_code == (404 if path == "/nowhere" else 200)
        wrong = (
            {},
            {"X-API-Key": b"schl"},
            {"Authorization": b"Basic " + key},
            {"Authorization": b"Bearer " + key + b"2"},
        )
        for headers in wrong:
            assert httpx.post(f"{url}/predict", json={"texts": ["a"]}, headers=headers).status_code == 401
        right = httpx.post(f"{url}/predict", json={"texts": ["a"]}, headers={"Authorization": b"Bearer " + key})
        assert right.status_code == 200
        document = httpx.get(f"{url}/openapi.json", headers={"X-API-Key": key}).json()
        assert document["paths"]["/predict"]["post"]["security"] == [{"bearer": []}, {"header": []}]
        # A request that never comes to its end does not hold a stopping server.
        with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port), timeout=20) as unfinished:
            unfinished.sendall(
                f"POST /predict HTTP/1.1\r\nHost: x\r\nX-API-Key: {key.decode('latin-1')}\r\n".encode("latin-1")
            )
            unfinished.sendall(b"Content-Length: 10\r\n\r\n{")
            assert httpx.get(f"{url}/health").status_code == 200
            started.send_signal(signal.SIGTERM)
            assert started.wait(10) == 0
    assert "schl" not in json.dumps(lines)


@pytest.mark.parametrize(
    ("host", "key", "warns"), [("0.0.0.0", None, True), ("0.0.0.0", "k", False), ("::1", None, False)]
)
def test_a_server_open_to_the_network_without_a_key_warns(
    host: str, key: str | None, warns: bool, folder: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(run.Server, "run", lambda self, sockets: None)
    loggers = [logging.getLogger(name) for name in ("polytask.serving", "uvicorn", "py.warnings")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    run.run(folder, ServeOptions(host=host, port=0, api_key=None if key is None else SecretStr(key)))
    logging.captureWarnings(False)
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert any("without an API key" in line["event"] for line in lines if line["level"] == "warning") == warns


def ended(arguments: Sequence[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a command that ends by a user's mistake, and return what it says."""
    monkeypatch.setattr(sys, "argv", ["polytask", "serve", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    return capsys.readouterr().err


def test_mistakes_end_with_exit_code_2_and_a_reason(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = ended([folder, "--port", port], capsys, monkeypatch)
    assert f"127.0.0.1:{port}: cannot listen there (Address already in use)" in told
    assert "--port 0" in told
    assert "not a model folder" in ended([tmp_path, "--port", 0], capsys, monkeypatch)
    assert "cannot listen there" in ended([folder, "--host", "nowhere.invalid"], capsys, monkeypatch)
    assert "--max-texts: found 0; expected greater than 0" in ended([folder, "--max-texts", 0], capsys, monkeypatch)
    assert "--port: found 70000" in ended([folder, "--port", 70000], capsys, monkeypatch)
    assert "a request must fit into the queue" in ended([folder, "--max-queue", 5], capsys, monkeypatch)
    assert "--precision: found 'fp16'; expected 'auto', 'fp32' or 'bf16'" in ended(
        [folder, "--precision", "fp16"], capsys, monkeypatch
    )
    assert "device: found 'gpu'; accepted: auto, cpu" in ended([folder, "--device", "gpu"], capsys, monkeypatch)
    assert "cannot be read" in ended([folder, "--api-key-file", tmp_path / "none"], capsys, monkeypatch)


def test_a_missing_package_is_told_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("polytask.serving.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtra, match=r"'prometheus_client'.*pip install 'polytask\[serve\]'"):
        serve_model(Path("nowhere"), ServeOptions())


def test_the_key_is_the_first_that_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text("filed\n")
    monkeypatch.delenv("POLYTASK_API_KEY", raising=False)
    assert read_options({}).api_key is None
    monkeypatch.setenv("POLYTASK_API_KEY", "exported")

    def key(given: str | None, path: Path | None) -> str:
        found = read_options({"api_key": given}, path).api_key
        assert found is not None
        assert "given" not in repr(found)
        return found.get_secret_value()

    assert [key("given", file), key(None, file), key(None, None)] == ["given", "filed", "exported"]
    for empty in ("", " "):
        monkeypatch.setenv("POLYTASK_API_KEY", empty)
        with pytest.raises(UserError, match="the API key is empty"):
            read_options({})


def test_every_option_is_a_flag_that_tells_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")
    shown = CliRunner().invoke(app, ["serve", "--help"], color=False).output
    for name, field in ServeOptions.model_fields.items():
        line = next(line for line in shown.splitlines() if f"--{name.replace('_', '-')} " in line)
        assert field.default is None or f"(default: {field.default})" in line, name
        default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
        row = next(
            line for line in page.splitlines() if f"`--{name.replace('_', '-')}`" in line and line.startswith("| `--")
        )
        assert field.default is None or default in row.replace(",", ""), name


def test_the_server_needs_no_torch_unless_its_model_does() -> None:
    program = "import polytask.serving.run, sys; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([PYTHON, "-c", program], check=True)
    assert polytask.serving.__all__ == ["ServeOptions", "read_options", "serve", "serve_model"]


def test_a_program_serves_with_the_options_of_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[object, ServeOptions]] = []
    monkeypatch.setattr(run, "run", lambda model, options: ran.append((model, options)))
    pt.serve(folder.parent, port=0, max_texts=3, api_key="secret")
    ((model, options),) = ran
    assert model == folder.parent
    assert (options.port, options.max_texts, options.host) == (0, 3, "127.0.0.1")
    assert options.api_key is not None
    for wrong, told in (
        ({"prot": 0}, "prot: unknown option; accepted: .*did you mean 'port'"),
        ({"port": 70000}, "^port: found 70000"),
        ({"api_key_file": folder / "none"}, "^api_key_file: .* cannot be read"),
    ):
        with pytest.raises(pt.ConfigError, match=told):
            pt.serve(folder, **wrong)  # type: ignore[arg-type]


def test_a_loaded_model_is_served_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[object] = []
    monkeypatch.setattr(
        run, "create_app", lambda model, options, fail: served.append(model) or create_app(model, options, fail)
    )
    monkeypatch.setattr(run.Server, "run", lambda self, sockets: None)
    model = pt.load(folder)
    pt.serve(model, port=0)
    assert served == [model]
    with pytest.raises(pt.ConfigError, match="device: found together with a loaded model"):
        pt.serve(model, port=0, device="cpu")


def test_a_notebook_is_served_beside_its_event_loop() -> None:
    threads: list[str] = []

    class Stub:
        should_exit = False

        def run(self, sockets: object) -> None:
            asyncio.run(asyncio.sleep(0))  # fails in a thread that runs a loop
            threads.append(threading.current_thread().name)

    async def notebook() -> None:
        run._run_until_stopped(Stub(), None)  # type: ignore[arg-type]

    run._run_until_stopped(Stub(), None)  # type: ignore[arg-type]
    asyncio.run(notebook())
    assert threads == ["MainThread", "polytask-server"]


def test_answers_do_not_wait_for_acknowledgements() -> None:
    async def delayed() -> bool:
        with run._bind("127.0.0.1", 0) as bound:
            found: list[int] = []

            def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                accepted = writer.get_extra_info("socket")
                found.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                writer.close()

            async with await asyncio.start_server(connected, sock=bound):
                reader, writer = await asyncio.open_connection(*bound.getsockname()[:2])
                await reader.read()
                writer.close()
            return not found[0]

    assert not asyncio.run(delayed())


def test_a_search_for_garbage_leaves_out_what_was_loaded() -> None:
    async def started() -> int:
        server = run.Server(uvicorn.Config(create_app, lifespan="off", log_config=None))
        with run._bind("127.0.0.1", 0) as bound:
            server.config.load()
            server.lifespan = server.config.lifespan_class(server.config)
            await server.startup([bound])
            await server.shutdown()
        return gc.get_freeze_count()

    gc.unfreeze()  # the tests' own start freezes what it loaded, too
    try:
        assert asyncio.run(started()) > 10_000
    finally:
        gc.unfreeze()
