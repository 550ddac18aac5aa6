"""What a client can do to others: nothing. Sizes, silence, many connections and failures of the model have limits."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

import polytask as pt
from polytask.data.cache import file_digest
from polytask.errors import ModelError, PolytaskError
from polytask.serving import body as bodies
from polytask.serving import connection, middleware, run, service
from polytask.serving.app import create_app
from polytask.serving.body import RequestRefused
from polytask.serving.connection import LoopErrors, allow_descriptors
from polytask.serving.messages import PredictRequest, read_request
from polytask.serving.metrics import Metrics
from polytask.serving.options import ServeOptions
from polytask.serving.run import configured


def until(check: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not check():
        assert time.monotonic() < end
        time.sleep(0.01)


def connect(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=20)


def dropped(client: httpx.Client, cause: str) -> float:
    line = f'polytask_dropped_requests_total{{cause="{cause}"}} '
    return float(client.get("/metrics").text.partition(line)[2].split()[0])


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as found:
        yield found


# bodies


@pytest.mark.parametrize(
    "body",
    [
        {"texts": [1] * 50_000},
        {"texts": [["a"]] * 50_000},
        {"texts": ["a"], "tasks": [1] * 50_000},
        {"texts": [{"a": [1] * 50_000}]},
    ],
)
def test_one_mistake_is_told_however_many_there_are(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        PredictRequest.model_validate(body)
    assert caught.value.error_count() == 1


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"texts": [1] * 100}, 422, "texts[0]: found a number; expected a text"),
        ({"texts": ["a"] * 100}, 422, "texts: found more than 8; at most 8 a request"),
        ({"texts": ["a", "b" * 101]}, 413, "texts[1]: found 101 characters or more; at most 100"),
        ({"texts": [["a" * 60, "b" * 60]]}, 413, "texts[0]: found 122 characters or more; at most 100"),
        ({"texts": [{"a": "b" * 60, "c": "d" * 60}]}, 413, "texts[0]: found 120 characters or more; at most 100"),
        ({"texts": [{"tokens": ["a"] * 51}]}, 413, "texts[0]: found 102 characters or more; at most 100"),
        ({"texts": [{"tokens": [""] * 101}]}, 413, "texts[0]: found 101 characters or more; at most 100"),
        ({"texts": [{str(n): "" for n in range(1001)}]}, 422, "texts[0]: found more than 1000 columns; at most 1000"),
        ({"texts": [{"a": {"b": "c"}}]}, 422, "texts[0]: found an object; expected a text"),
        ({"texts": [["a", 1]]}, 422, "texts[0][1]: found a number; expected a text"),
        ({"texts": ["a"], "tasks": ["mood"] * 1001}, 422, "tasks: found more than 1000; at most 1000 a request"),
        ({"texts": ["a"], "tasks": [1]}, 422, "tasks[0]: found a number; expected the name of a task"),
        ({f"key{n}": 1 for n in range(50_000)}, 422, "found the key 'key0'"),
        ([1] * 50_000, 422, "expected an object"),
    ],
)
def test_sizes_are_checked_before_anything_is_validated(
    body: Any, status: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PredictRequest, "model_validate", lambda *_: pytest.fail("validated"))
    with pytest.raises(RequestRefused) as caught:
        read_request(json.dumps(body).encode(), ServeOptions(max_texts=8, max_characters=100))
    assert caught.value.status == status
    assert told in str(caught.value)


MIB = 2**20
# Bodies of a megabyte that are refused.
HOSTILE = {
    "numbers": b'{"texts": [' + b"1, " * (MIB // 3 - 10) + b"1]}",
    "lists": b'{"texts": [' + b"[]," * (MIB // 3 - 10) + b"[]]}",
    "a list": b'{"texts": [[' + b"1," * (MIB // 2 - 10) + b"1]]}",
    "a deep list": b'{"texts": ' + b"[" * (MIB - 20),
    "a deep object": b'{"texts":' * (MIB // 9),
    "texts": b'{"texts": [' + b'"",' * (MIB // 3 - 10) + b'""]}',
    "a row": b'{"texts": [{"a": [' + b'"",' * (MIB // 3 - 10) + b'""]}]}',
    "columns": b'{"texts": [{' + b",".join(b'"%d":""' % n for n in range(90_000)) + b"}]}",
    "keys": b"{" + b",".join(b'"%d":1' % n for n in range(90_000)) + b"}",
    "one key": b"{" + b'"texts":[],' * (MIB // 11 - 1) + b'"texts":[]}',
    "tasks": b'{"texts": ["a"], "tasks": [' + b'"a",' * (MIB // 4 - 10) + b'"a"]}',
    "digits": b'{"texts": [' + b"9" * (MIB - 20) + b"]}",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_large_body_is_refused_after_a_few_small_pieces(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a call of the JSON scanner reads holds up the event loop, in whatever thread it is made."""
    pieces: list[int] = []
    whole = bodies._scan

    def scan(text: str, at: int) -> tuple[Any, int]:
        value, end = whole(text, at)
        pieces.append(end - at)
        return value, end

    monkeypatch.setattr(bodies, "_scan", scan)
    with pytest.raises(RequestRefused):
        read_request(HOSTILE[kind], ServeOptions())
    assert max(pieces, default=0) < 100
    assert len(pieces) <= ServeOptions().max_characters + 10


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
names = st.text() | st.sampled_from(["texts", "tasks"])
json_values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=20)


@given(json_values)
def test_any_json_is_read_as_json_loads_does_or_refused(value: Any) -> None:
    for body in (value, {"texts": value}, {"texts": [value]}, {"texts": [{"a": value}], "tasks": value}):
        encoded = json.dumps(body).encode()
        try:
            found = bodies.read_body(encoded, ServeOptions())
        except RequestRefused:
            continue
        assert found == json.loads(encoded)


def test_texts_of_every_form_are_read() -> None:
    request = {"texts": ["a", ["b", "中😀"], {"x": "c", "tokens": ["d", ""]}, {}, ""], "tasks": None}
    spaced = json.dumps(request, indent=3).encode()
    for encoded in (spaced, json.dumps(request, ensure_ascii=False).encode()):
        assert bodies.read_body(encoded, ServeOptions()) == request
    for cut in range(len(spaced)):
        with pytest.raises((RequestRefused, ValueError)):
            bodies.read_body(spaced[:cut], ServeOptions())
    with pytest.raises(RequestRefused, match="found the key 'texts' twice"):
        bodies.read_body(b'{"texts": ["a"], "texts": ["b"]}', ServeOptions())
    with pytest.raises(ValueError, match="Extra data"):
        bodies.read_body(b'{"texts": ["a"]} x', ServeOptions())


def test_a_large_body_is_read_beside_the_event_loop(
    serving: Any, stub: Any, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume, threads = threading.Event(), list[str]()

    def slow(body: bytes, options: ServeOptions) -> PredictRequest:
        threads.append(threading.current_thread().name)
        if len(body) > service.SMALL_BODY:
            assert resume.wait(20)
        return read_request(body, options)

    monkeypatch.setattr(service, "read_request", slow)
    with serving(stub) as client:
        large = [pool.submit(client.post, "/predict", json={"texts": [1] * 20_000}) for _ in range(4)]
        until(lambda: bool(threads))
        assert client.get("/health").status_code == 200
        assert client.post("/predict", json={"texts": ["small"]}).status_code == 200
        assert not any(one.done() for one in large)
        resume.set()
        assert [one.result().status_code for one in large] == [422] * 4
    assert sum(name.startswith("polytask-json") for name in threads) == 4


def test_bodies_that_are_held_have_a_limit_in_all(serving: Any, stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "BODIES_AT_ONCE", 1)
    with serving(stub, max_body_bytes=10_000) as client, connect(client) as first, connect(client) as second:
        for opened in (first, second):
            opened.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n" + b" " * 6000)
            time.sleep(0.3)  # one after the other
        assert b"429" in second.recv(1000)
        first.close()
        until(lambda: client.post("/predict", json={"texts": ["later"]}).status_code == 200)


def test_deep_and_strange_json_is_refused_with_a_reason() -> None:
    options = ServeOptions()
    for body in (
        b"[" * 100_000,
        b"{" * 100_000,
        b'{"texts":' * 20_000,
        b"\xff\xfe\x00",
        b"9" * 5000,
        b"1e999999999",
        b"",
    ):
        with pytest.raises(RequestRefused) as caught:
            read_request(body, options)
        assert caught.value.status in (400, 422)
        assert len(str(caught.value)) < 500


# connections


def test_a_head_that_does_not_come_to_its_end_is_cut(serving: Any, stub: Any) -> None:
    with serving(stub, timeout_s=0.6) as client, connect(client) as silent, connect(client) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\n")
        assert silent.recv(100) == b""
        with connect(client) as dripping:
            assert drip(dripping, b"X-A: b\r\n", times=200)
        assert slow.recv(100) == b""
        assert dropped(client, "connection too slow") == 3
        # Also behind an answer on the same connection.
        with connect(client) as again:
            again.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = again.recv(1000)
            while not answer.endswith(b"}"):
                answer += again.recv(1000)
            assert answer.startswith(b"HTTP/1.1 200")
            again.sendall(b"GET /health HTTP/1.1\r\n")
            assert again.recv(1000) == b""
        assert client.post("/predict", json={"texts": ["later"]}).status_code == 200


def drip(opened: socket.socket, part: bytes, times: int) -> bool:
    """Send a part again and again; say whether the other side ended that."""
    try:
        for _ in range(times):
            opened.sendall(part)
            time.sleep(0.05)
    except OSError:
        return True
    return False


def test_an_answer_that_nobody_reads_is_cut(serving: Any, stub: Any) -> None:
    stub.labels = tuple(f"label {n}" * 5 for n in range(2000))
    body = json.dumps({"texts": ["a"] * 100, "tasks": ["mood"]}).encode()
    with serving(stub, timeout_s=1.0) as client:
        with socket.socket() as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            opened.connect((client.base_url.host, client.base_url.port))
            opened.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
            opened.sendall(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: dropped(client, "connection too slow") == 1)
        assert client.get("/health").status_code == 200


def test_connections_are_limited_and_room_comes_back(serving: Any, stub: Any) -> None:
    with serving(stub, max_connections=4) as client:
        opened = [connect(client) for _ in range(4)]
        time.sleep(0.2)
        with connect(client) as more:
            more.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = more.recv(1000)
        assert answer.startswith(b"HTTP/1.1 503"), answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"detail": "too many connections; try again shortly"}
        for one in opened:
            one.close()
        until(lambda: _healthy(client))
        assert dropped(client, "too many connections") >= 1


def _healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def test_no_file_descriptors_is_one_line_of_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "polytask.serving")
    handler: Any = LoopErrors()
    for _ in range(5000):
        handler(None, {"message": connection._NO_DESCRIPTORS, "exception": OSError(24, "Too many open files")})
    assert [record.getMessage() for record in caplog.records] == [
        "no file descriptors left, connections wait: raise `ulimit -n`, or lower --max-connections"
    ]
    handler(None, {"message": "else", "exception": ValueError("x")})
    assert len(caplog.records) == 2


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import resource

    limits = [(256, 1000)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, found: limits.append(found))
    allow_descriptors(200)
    allow_descriptors(600)
    assert limits[-1] == (600, 1000)
    assert not caplog.records
    allow_descriptors(2000)
    assert limits[-1] == (1000, 1000)
    assert "open files are limited to 1000" in caplog.text


# the model's thread


def test_a_panic_is_answered_and_the_server_goes_on(serving: Any, stub: Any, pool: Any) -> None:
    with serving(stub) as client:
        assert client.post("/predict", json={"texts": ["panic"]}).status_code == 500
        before = len(stub.batches)
        stub.resume.clear()
        sent = [pool.submit(client.post, "/predict", json={"texts": [text]}) for text in ("first", "panic", "good")]
        until(lambda: len(stub.batches) > before)
        time.sleep(0.2)
        stub.resume.set()
        assert sorted(one.result().status_code for one in sent) == [200, 200, 500]
        assert client.get("/health").json()["status"] == "ready"


def test_too_few_answers_fail_the_request(serving: Any, stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub, "answers", lambda *_, **__: iter(()))
    monkeypatch.setattr(service.Service, "example", ({"texts": ["a"]}, {"predictions": [], "truncated": []}))
    with serving(stub) as client:
        assert client.post("/predict", json={"texts": ["a"]}).status_code == 500


def test_a_failing_thread_ends_the_service_at_once(stub: Any, pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Metrics, "ran", _broken)
    ended = threading.Event()
    options = ServeOptions()
    application = create_app(stub, options, ended.set)
    server = uvicorn.Server(configured(application, options, port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        sent = pool.submit(client.post, "/predict", json={"texts": ["a"]})
        assert sent.result().status_code == 500
        assert ended.wait(20)
        assert client.get("/health").status_code == 503
        assert client.post("/predict", json={"texts": ["a"]}).status_code == 503
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def _broken(*_: object) -> None:
    raise MemoryError


def test_a_server_whose_model_failed_ends_with_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.Server, "run", lambda self, sockets: self.fail())
    with pytest.raises(PolytaskError, match="the model's thread ended with an error"):
        run.run(folder, ServeOptions(port=0))


def test_outputs_that_are_no_numbers_are_the_servers_fault(serving: Any, model: Any, monkeypatch: Any) -> None:
    whole = model.engine.run

    def diverged(*arguments: Any) -> Any:
        return [{task: outputs * float("nan") for task, outputs in row.items()} for row in whole(*arguments)]

    with serving(model) as client:
        monkeypatch.setattr(model.engine, "run", diverged)
        assert client.post("/predict", json={"texts": ["a"]}).status_code == 500
        with pytest.raises(ModelError, match=r"the outputs of '\w+' are not finite"):
            model.predict(["a"])


def test_a_model_that_diverged_is_refused_at_load(folder: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(folder, tmp_path / "model"))
    file = home / "model.safetensors"
    whole = load_file(file)
    name = next(name for name in whole if name.endswith("word_embeddings.weight"))
    for edit, told in (
        (
            lambda weight: weight.index_fill(0, torch.tensor([4_000]), float("nan")),
            f"{name} holds values that are not",
        ),
        (lambda weight: weight.fill_(3e38), r"the outputs of '\w+' are not finite"),
    ):
        weights = {key: value.clone() for key, value in whole.items()}
        weights[name] = edit(weights[name])
        if "outputs" in told:  # each number is finite, and their sums are not
            for key in weights:
                if "heads" in key:
                    weights[key].fill_(3e38)
        save_file(weights, file, metadata={"format": "pt"})
        data = json.loads((home / "polytask.json").read_text("utf-8"))
        data["sha256"]["model.safetensors"] = file_digest(file)
        (home / "polytask.json").write_text(json.dumps(data), "utf-8")
        with pytest.raises(ModelError, match=told):
            pt.load(home)
