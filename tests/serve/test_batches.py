"""Micro-batches: what has queued runs together and changes no answer; who fails or leaves does so alone."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from polytask.predict.predictor import Model
from polytask.serving import middleware
from samples import close, corpus_rows


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def queued(client: httpx.Client) -> int:
    return client.get("/health").json()["queued"]


def queue(pool: ThreadPoolExecutor, client: httpx.Client, texts: list[str], **rest: Any) -> Future[httpx.Response]:
    """Send a request, and return once it stands in the queue."""
    before = queued(client)
    found = pool.submit(client.post, "/predict", json={"texts": texts, **rest})
    until(lambda: queued(client) == before + len(texts))
    return found


def hold(pool: ThreadPoolExecutor, client: httpx.Client, stub: Any, text: str = "first") -> Future[httpx.Response]:
    """Let the model be busy with one request until `stub.resume.set()`."""
    stub.batches.clear()
    stub.resume.clear()
    found = pool.submit(client.post, "/predict", json={"texts": [text]})
    until(lambda: stub.batches == [[text]])
    return found


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(40) as found:
        yield found


def test_answers_under_load_are_those_of_each_text_alone(client: httpx.Client, model: Model, pool: Any) -> None:
    texts = [row["text"] for row in corpus_rows(120)]
    cuts = [(start, start + 1 + start % 5) for start in range(0, 110, 3)]
    alone = [model.predict([text])[0] for text in texts]
    sent = [pool.submit(client.post, "/predict", json={"texts": texts[slice(*cut)]}) for cut in cuts]
    for (start, end), found in zip(cuts, sent, strict=True):
        assert close(found.result().json()["predictions"], json.loads(json.dumps(alone[start:end])))
    assert 'polytask_batch_requests_bucket{le="1.0"}' in client.get("/metrics").text


def test_what_queued_while_the_model_was_busy_runs_together(serving: Any, stub: Any, pool: Any) -> None:
    with serving(stub) as client:
        sent = [hold(pool, client, stub)]
        sent += [queue(pool, client, [f"text {index}", "more"]) for index in range(5)]
        stub.resume.set()
        assert [len(one.result().json()["predictions"]) for one in sent] == [1, 2, 2, 2, 2, 2]
    assert [len(batch) for batch in stub.batches] == [1, 10]


def test_a_batch_is_of_one_set_of_tasks_and_of_limited_size(serving: Any, stub: Any, pool: Any) -> None:
    with serving(stub, batch_texts=3) as client:
        sent = [hold(pool, client, stub)]
        for index, tasks in enumerate((["mood"], ["names", "mood"], ["mood"], None, ["mood"], ["mood"])):
            sent.append(queue(pool, client, [str(index)], tasks=tasks))
        sent.append(queue(pool, client, list("abcdef")))  # larger than a batch: alone
        stub.resume.set()
        found = [one.result().json()["predictions"][0] for one in sent]
    assert stub.batches == [["first"], ["0", "2", "4"], ["1", "3"], ["5"], list("abcdef")]
    assert [list(one) for one in found[1:4]] == [["mood"], ["mood", "names"], ["mood"]]


def test_a_batch_is_of_limited_tokens(serving: Any, stub: Any, pool: Any) -> None:
    with serving(stub, batch_tokens=40) as client:
        sent = [hold(pool, client, stub)]
        sent += [queue(pool, client, ["x" * 100 + str(index)]) for index in range(3)]  # 16 tokens each, as they are cut
        stub.resume.set()
        assert all(one.result().status_code == 200 for one in sent)
    assert [len(batch) for batch in stub.batches] == [1, 2, 1]


def test_the_windows_of_a_text_count_as_tokens_of_a_batch(serving: Any, stub: Any, pool: Any) -> None:
    stub.long = "windows"
    with serving(stub, batch_tokens=60, long="windows") as client:
        sent = [hold(pool, client, stub)]
        sent += [queue(pool, client, ["x" * 100 + str(index)]) for index in range(3)]  # 27 tokens each
        stub.resume.set()
        assert all(one.result().status_code == 200 for one in sent)
    assert [len(batch) for batch in stub.batches] == [1, 2, 1]


@pytest.mark.parametrize(("culprit", "status"), [("fail", 500), ("break", 422)])
def test_a_bad_text_fails_its_own_request_only(
    culprit: str, status: int, serving: Any, stub: Any, pool: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(stub) as client:
        sent = [hold(pool, client, stub)]
        sent += [queue(pool, client, [text]) for text in ("good", culprit, "also good")]
        stub.resume.set()
        assert [one.result().status_code for one in sent] == [200, 200, status, 200]
        assert "secret" not in sent[2].result().text
        assert client.post("/predict", json={"texts": ["later"]}).status_code == 200
    assert stub.batches[1] == ["good", culprit, "also good"]


def test_a_full_queue_answers_429_and_says_when_to_come_back(serving: Any, stub: Any, pool: Any) -> None:
    with serving(stub, max_queue=4, max_texts=4) as client:
        sent = [hold(pool, client, stub), queue(pool, client, ["a", "b", "c"])]
        full = client.post("/predict", json={"texts": ["d", "e"]})
        assert full.status_code == 429
        assert int(full.headers["retry-after"]) >= 1
        assert "3 texts are waiting, the maximum is 4" in full.json()["detail"]
        sent.append(queue(pool, client, ["one finds room"]))
        stub.resume.set()
        assert all(one.result().status_code == 200 for one in sent)
        assert 'polytask_dropped_requests_total{cause="queue full"} 1.0' in client.get("/metrics").text


def test_a_request_that_takes_too_long_answers_504_and_never_runs(serving: Any, stub: Any, pool: Any) -> None:
    with serving(stub, timeout_s=1.5) as client:
        sent = [hold(pool, client, stub), queue(pool, client, ["waits in vain"])]
        assert [one.result().status_code for one in sent] == [504, 504]
        assert queued(client) == 0
        stub.resume.set()
        assert client.post("/predict", json={"texts": ["later"]}).status_code == 200
    assert stub.batches == [["first"], ["later"]]


def test_a_client_that_leaves_is_dropped_and_harms_no_other(serving: Any, stub: Any, pool: Any) -> None:
    with serving(stub) as client:
        sent = [hold(pool, client, stub)]
        leaving = [open_request(client, f"leaving {index}") for index in range(3)]
        until(lambda: queued(client) == 3)
        sent.append(queue(pool, client, ["stays"]))
        leaving[0].close()
        leaving[1].shutdown(socket.SHUT_RDWR)
        until(lambda: queued(client) == 2)
        half = open_request(client, "half a body", cut=20)
        half.close()
        stub.resume.set()
        assert all(one.result().status_code == 200 for one in sent)
        assert b"200 OK" in leaving[2].recv(1000)
        assert stub.batches == [["first"], ["leaving 2", "stays"]]
        assert 'polytask_dropped_requests_total{cause="client gone"} 2.0' in client.get("/metrics").text
        # One that leaves while its own texts run.
        sent = [hold(pool, client, stub, "runs")]
        stub.resume.set()
        sent[0].result()
        stub.resume.clear()
        running = open_request(client, "runs too")
        until(lambda: stub.batches[-1] == ["runs too"])
        running.close()
        stub.resume.set()
        assert client.post("/predict", json={"texts": ["later"]}).status_code == 200
        leaving[1].close()
        leaving[2].close()


def open_request(client: httpx.Client, text: str, cut: int = 0) -> socket.socket:
    """Send a request over a bare socket, the last `cut` bytes left out."""
    body = json.dumps({"texts": [text]}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    opened = socket.create_connection((client.base_url.host, client.base_url.port), timeout=10)
    sent = head.encode() + body
    opened.sendall(sent[: len(sent) - cut])
    return opened


def test_a_body_that_comes_too_slowly_answers_408(serving: Any, stub: Any) -> None:
    with serving(stub, timeout_s=1.0) as client:
        slow = open_request(client, "never ends", cut=5)
        assert b"408" in slow.recv(1000)
        slow.close()
        assert client.post("/predict", json={"texts": ["later"]}).status_code == 200


@pytest.mark.parametrize(("header", "patience"), [("Expect: 100-continue", 60.0), ("X-Other: none", 0.1)])
def test_a_body_that_is_announced_as_too_large_is_refused_without_being_sent(
    header: str, patience: float, serving: Any, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "_PATIENCE_S", patience)
    with serving(stub) as client:
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=20) as opened:
            opened.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n{header}\r\n\r\n".encode())
            assert b"413" in opened.recv(1000)
        assert client.post("/predict", json={"texts": ["later"]}).status_code == 200


def test_what_runs_and_what_waits_is_answered_before_the_server_ends(serving: Any, stub: Any, pool: Any) -> None:
    with serving(stub) as client:
        sent = [hold(pool, client, stub), queue(pool, client, ["waits"]), queue(pool, client, ["as well"])]
        client.stop()
        time.sleep(0.3)
        assert not any(one.done() for one in sent)
        stub.resume.set()
        assert [one.result().status_code for one in sent] == [200, 200, 200]
