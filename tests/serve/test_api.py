"""What the routes promise: the model's answers, the limits, the words of a refusal; a bad text is never our fault."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.predict.predictor import Model
from samples import close

TEXTS = [
    "Ingrid's café in Lyon was not bad at all.",
    "",
    "日本の映画 is great 🙂🙂 in Lyon",
    "\x00\x01\x7f",
    "הסרט הזה נפלא",
    "never again " * 80,
    ("A man plays a guitar.", "Someone makes music."),
    {"text": "Ann was in Leeds.", "tokens": ["Ann", "was", "in", "Leeds", "."], "first": "a", "second": "b"},
]


def ask(client: httpx.Client, texts: list[Any], **rest: Any) -> dict[str, Any]:
    response = client.post("/predict", json={"texts": texts, **rest})
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: httpx.Client, status: int, **request: Any) -> str:
    response = client.post("/predict", **request)
    assert response.status_code == status, response.text
    assert set(response.json()) == {"detail"}
    return response.json()["detail"]


def test_answers_are_those_of_the_model_in_the_order_of_the_texts(client: httpx.Client, model: Model) -> None:
    found = ask(client, TEXTS)
    expected = list(model.answers(TEXTS))
    assert close(found["predictions"], [json.loads(json.dumps(answer.predictions)) for answer in expected])
    assert found["truncated"] == [answer.truncated for answer in expected]
    assert found["truncated"][5] is True
    assert ask(client, []) == {"predictions": [], "truncated": [], "empty": []}


def test_long_texts_are_read_whole_where_the_server_is_told_so(serving: Any, model: Model) -> None:
    texts = ["The phone died after two days in Leeds. " * 20, "A short one."]
    tasks = [name for name in model.tasks if name != "alike"]
    cut, whole = (list(model.answers(texts, tasks, long=long)) for long in ("truncate", "windows"))
    with serving(model) as plain, serving(model, long="windows") as patient:
        answers = [one.post("/predict", json={"texts": texts, "tasks": tasks}).json() for one in (plain, patient)]
    assert answers[0]["truncated"] == [True, False]
    assert answers[1]["truncated"] == [False, False]
    for answer, expected in zip(answers, (cut, whole), strict=True):
        assert close(answer["predictions"], [one.predictions for one in expected])
    assert answers[0]["predictions"][0] != answers[1]["predictions"][0]


def test_only_the_tasks_asked_for_answer_and_each_once(client: httpx.Client) -> None:
    found = ask(client, TEXTS[:2], tasks=["topic", "sentiment", "topic"])
    assert [list(one) for one in found["predictions"]] == [["sentiment", "topic"]] * 2


def test_tasks_tell_what_can_be_asked(client: httpx.Client, model: Model) -> None:
    found = client.get("/tasks").json()
    assert found["max_tokens"] == 48
    assert (found["max_texts"], found["max_characters"]) == (12, 2000)
    by_name = {task["name"]: task for task in found["tasks"]}
    assert list(by_name) == list(model.tasks)
    assert by_name["alike"]["inputs"] == ["first", "second"]
    assert by_name["sentiment"]["labels"] == list(model.tasks["sentiment"].labels)
    assert by_name["sentiment"]["scores"]["test"] == model.about["scores"]["test"]["sentiment"]
    assert by_name["stars"]["typical_range"][0] < 2.5 < by_name["stars"]["typical_range"][1]
    assert by_name["entities"]["typical_range"] is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"texts": ["a"], "tasks": ["sentimint"]}, "did you mean 'sentiment'?"),
        ({"texts": ["a"], "tasks": []}, "tasks: found an empty list; name a task"),
        ({"texts": ["a"], "tasks": ["alike"]}, "texts[0]: holds no text for any of the tasks; accepted: first, second"),
        ({"texts": ["a", {"txt": "b"}]}, "texts[1]: holds no text"),
        ({"texts": ["a", 3, None]}, "texts[1]: found a number; expected a text, a list of two texts, or an object"),
        ({"texts": [["a", "b", "c"]]}, "texts[0]: expected a text"),
        ({"texts": "a"}, "texts: found a text; expected a list"),
        ({"text": ["a"]}, "found the key 'text'; accepted: tasks, texts; did you mean 'texts'?"),
        (["a"], "found a list; expected an object"),
        ({"texts": [{"text": ["a"]}]}, "texts[0]: found ['a']; a text is expected"),
        ({"texts": ["a"], "tasks": ["\ud800"]}, "tasks: found '\\ud800'; accepted: alike"),
        ({"texts": ["a"], "\ud800": 1}, "found the key '\\ud800'; accepted: tasks, texts"),
    ],
)
def test_a_request_of_another_form_is_told_what_is_accepted(client: httpx.Client, body: Any, told: str) -> None:
    detail = refused(client, 422, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert told in detail.replace("Input", "input").replace("List", "list")


def test_what_is_no_json_is_told_so(client: httpx.Client) -> None:
    kind = {"Content-Type": "application/json"}
    assert "not JSON" in refused(client, 422, content=b'{"texts": [', headers=kind)
    told = refused(client, 422, content=b'{"texts": ["a"]}')
    assert told.startswith("found no header Content-Type; expected an object")
    assert told.endswith(" with the header Content-Type: application/json")
    other = refused(client, 422, content=b'{"texts": ["a"]}', headers={"Content-Type": "text/plain"})
    assert "found the header Content-Type: text/plain" in other
    told = refused(client, 422, content=b"[" * 5000, headers=kind)
    assert told == 'found a list; expected an object {"texts": [...], "tasks": [...]}'
    refused(client, 400, content=b"\xff\xfe{", headers=kind)
    for content in (b"[" * 5000, b'{"texts": [' + b"9" * 5000 + b"]}"):
        refused(client, 422, content=content, headers=kind)


@pytest.mark.parametrize("path", ["/predict", "/v1/systemone"])
def test_a_compressed_body_is_told_so(client: httpx.Client, path: str) -> None:
    body = gzip.compress(b'{"texts": ["a"]}')
    kind = {"Content-Type": "application/json"}
    for headers, name in ((kind, "gzip"), ({**kind, "Content-Encoding": "br"}, "br")):
        response = client.post(path, content=body, headers=headers)
        told = f"found a compressed body ({name}); expected JSON that is not compressed"
        assert (response.status_code, response.json()["detail"]) == (400, told)
    plain = {**kind, "Content-Encoding": "identity"}
    assert client.post("/predict", content=b'{"texts": ["a"]}', headers=plain).status_code == 200


def test_texts_with_nothing_to_read_are_flagged(client: httpx.Client) -> None:
    assert ask(client, ["a", "", " "])["empty"] == [False, True, True]


def test_limits_are_told(client: httpx.Client) -> None:
    assert "found more than 12; at most 12" in refused(client, 422, json={"texts": ["a"] * 13})
    assert "texts[1]: found 2001 characters or more; at most 2000" in refused(
        client, 413, json={"texts": ["a", "b" * 2001]}
    )
    assert "texts[0]" in refused(client, 413, json={"texts": [["a", "b" * 2000]]})
    assert "texts[0]" in refused(client, 413, json={"texts": [{"tokens": ["a"] * 1500}]})
    assert "more than 20000 bytes" in refused(client, 413, json={"texts": ["x" * 1_000_000]})


def test_a_body_without_a_length_is_counted_as_it_comes(client: httpx.Client) -> None:
    def pieces(count: int) -> Iterator[bytes]:
        yield b'{"texts": ["'
        for _ in range(count):
            yield b"x" * 1000
        yield b'"]}'

    kind = {"Content-Type": "application/json"}
    assert client.post("/predict", content=pieces(1), headers=kind).status_code == 200
    assert "more than 20000 bytes" in refused(client, 413, content=pieces(300), headers=kind)
    assert ask(client, ["still there"])["truncated"] == [False]


@settings(max_examples=40)
@given(
    st.lists(
        st.text(max_size=60)
        | st.text(st.characters(categories=["Cs", "Cc", "Cf", "Co", "Mn", "So"]), max_size=20)
        | st.sampled_from(
            ["\ud83d", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u202eabc", "\x00", "\ufeff", "[UNK] [SEP]"]
        ),
        min_size=1,
        max_size=4,
    )
)
def test_every_text_is_answered(client: httpx.Client, model: Model, texts: list[str]) -> None:
    content = json.dumps({"texts": texts, "tasks": ["sentiment", "entities"]})
    response = client.post("/predict", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 200, response.text
    assert close(response.json()["predictions"], model.predict(texts, ["sentiment", "entities"]))
    for text, found in zip(texts, response.json()["predictions"], strict=True):
        for entity in found["entities"]:
            written = text[entity["start"] : entity["end"]].encode("utf-8", "replace").decode()
            assert written == entity["text"]


def test_health_metrics_and_the_openapi_document(client: httpx.Client) -> None:
    ask(client, ["one", "two"])
    client.get("/nowhere/special")
    assert client.get("/health").json()["status"] == "ready"
    figures = client.get("/metrics").text
    for told in (
        'polytask_requests_total{route="/predict",status="200"}',
        'polytask_requests_total{route="other",status="404"}',
        "polytask_batch_texts_bucket",
        "polytask_queued_texts 0.0",
        "polytask_texts_total",
        'polytask_request_seconds_count{route="/predict"}',
        'polytask_dropped_requests_total{cause="client gone"}',
    ):
        assert told in figures, told
    assert "special" not in figures
    document = client.get("/openapi.json").json()
    request = document["components"]["schemas"]["PredictRequest"]["examples"][0]
    answer = document["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    assert close(ask(client, request["texts"]), answer)
    assert client.get("/docs").status_code == 404


def test_every_answer_says_that_its_type_is_meant(client: httpx.Client) -> None:
    for path in ("/", "/tasks", "/nowhere"):
        assert client.get(path).headers["x-content-type-options"] == "nosniff"
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
