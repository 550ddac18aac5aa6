"""What a request and its answer cost is paid beside the event loop, and in pieces that let others go on."""

from __future__ import annotations

import json
import shlex
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.serving import rendering, service
from polytask.serving.rendering import MOST_VALUES, is_short, pieces, render

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text('aß"\\')
contents = st.recursive(leaves, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text("ab"), inner))


def count(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(count, inner))


@given(contents, st.integers(1, 8))
def test_pieces_are_the_whole_and_no_call_writes_more_than_its_share(content: Any, most: int) -> None:
    written: list[int] = []

    def dumps(value: Any) -> str:
        written.append(count(value))
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendering, "MOST_VALUES", most)
        patch.setattr(rendering, "_dumps", dumps)
        assert "".join(pieces(content)) == json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    assert max(written) <= most


def test_an_answer_of_many_entities_is_many_pieces() -> None:
    entities = [{"label": "X", "start": at, "end": at + 1, "text": "é", "score": 0.5} for at in range(MOST_VALUES)]
    content = {"predictions": [{"names": entities}], "truncated": [False]}
    assert not is_short(content)
    assert max(map(len, pieces(content))) < 10_000
    assert json.loads(render(content)) == content


def test_long_answers_are_written_while_others_are_served(
    serving: Any, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    begun, resume = threading.Event(), threading.Event()

    def slow(content: Any) -> bytes:
        threads.append(threading.current_thread().name)
        begun.set()
        assert resume.wait(20)
        return render(content)

    monkeypatch.setattr(service, "render", slow)
    text = "Ann " * MOST_VALUES
    with serving(stub) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, "/predict", json={"texts": [text]})
        assert begun.wait(20)
        assert client.get("/health").status_code == 200
        small = client.post("/predict", json={"texts": ["Ann"]})
        assert small.status_code == 200
        assert not waiting.done()
        resume.set()
        found = waiting.result()
    assert [name.startswith("polytask-json") for name in threads] == [True]  # the small one needs no thread
    assert found.headers["content-type"] == small.headers["content-type"] == "application/json"
    assert len(found.json()["predictions"][0]["names"]) == MOST_VALUES


def test_rows_of_a_large_body_are_checked_beside_the_loop(
    serving: Any, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    checked = service.queries_of

    def watched(*given: Any) -> Any:
        threads.append(threading.current_thread().name)
        return checked(*given)

    monkeypatch.setattr(service, "queries_of", watched)
    with serving(stub) as client:
        texts = [{"text": "word " * 400}] * 20
        assert client.post("/predict", json={"texts": texts}).status_code == 200
        assert client.post("/predict", json={"texts": [{"other": "word " * 400}] * 20}).status_code == 422
        assert client.post("/predict", json={"texts": texts, "tasks": ["moot"]}).status_code == 422
    assert len(threads) == 21
    assert all(name.startswith("polytask-json") for name in threads)


@pytest.mark.parametrize("path", ["/predict", "/v1/systemone"])
def test_a_person_who_opens_the_address_is_told_how_to_ask(path: str, client: Any) -> None:
    found = client.get(path)
    assert (found.status_code, found.headers["allow"]) == (405, "POST")
    told = found.json()["detail"]
    assert told.startswith(
        f"GET {path}: this address accepts only POST; to try the model, open {client.base_url}/ in a"
    )
    shown = client.get(path, headers={"Accept": "text/html,*/*"})
    assert shown.headers["content-type"].startswith("text/plain")
    assert shown.text == told
    words = shlex.split(told.partition("\n\n")[2])
    assert words[:2] == ["curl", f"{client.base_url}{path}"]
    header = dict([words[words.index("-H") + 1].split(": ")])
    assert client.post(path, content=words[words.index("-d") + 1], headers=header).status_code == 200


def test_another_method_of_another_address_has_a_plain_answer(client: Any) -> None:
    found = client.post("/health")
    assert (found.status_code, found.headers["allow"]) == (405, "GET")
    assert found.json()["detail"] == "POST /health: this address accepts only GET"
