"""The Open Inference Protocol (V2), by its specification's schema and by Triton's own client."""

from __future__ import annotations

import json
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import polytask as pt
from polytask.predict.predictor import Model
from polytask.serving import middleware
from polytask.serving.batcher import Batcher
from polytask.serving.inference_request import pack_texts
from polytask.serving.tensors import outputs_of
from samples import close

INFER = "/v2/models/polytask/infer"
TEXTS = ["Ingrid's café in Lyon was not bad.", "", "日本の映画 🙂", "never again " * 80]
# The objects of the specification (github.com/kserve/open-inference-protocol, inference_rest.md), in JSON Schema.
_STRING: dict[str, Any] = {"type": "string"}
_PARAMETERS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}


def listed(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def an_object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


_DATATYPE = {"enum": ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32",
                      "FP64", "BYTES"]}  # fmt: skip
_METADATA_TENSOR = an_object(
    {"name": _STRING, "datatype": _DATATYPE, "shape": listed({"type": "integer", "minimum": -1})}
)
_TENSOR = an_object(
    {"name": _STRING, "shape": listed({"type": "integer", "minimum": 0}), "datatype": _DATATYPE,
     "data": listed({"type": ["string", "number", "boolean", "array"]})},
    parameters=_PARAMETERS,
)  # fmt: skip
SPECIFICATION = {
    "server": an_object({"name": _STRING, "version": _STRING, "extensions": listed(_STRING)}),
    "model": an_object(
        {"name": _STRING, "platform": _STRING, "inputs": listed(_METADATA_TENSOR), "outputs": listed(_METADATA_TENSOR)},
        versions=listed(_STRING),
    ),
    "live": an_object({"live": {"type": "boolean"}}),
    "model_ready": an_object({"name": _STRING, "ready": {"type": "boolean"}}),
    "request": an_object(
        {"inputs": listed(_TENSOR)},
        id=_STRING, parameters=_PARAMETERS, outputs=listed(an_object({"name": _STRING}, parameters=_PARAMETERS)),
    ),
    "response": an_object(
        {"model_name": _STRING, "outputs": listed(_TENSOR)}, model_version=_STRING, id=_STRING, parameters=_PARAMETERS
    ),
    "error": an_object({"error": _STRING}),
}  # fmt: skip


def require(name: str, found: Any) -> Any:
    """Return what is as the specification has it."""
    jsonschema.validate(found, SPECIFICATION[name])
    for tensor in found.get("outputs", []) if name == "response" else []:
        assert len(tensor["data"]) == int(np.prod(tensor["shape"])), tensor
    return found


def tensor(name: str, texts: list[str], **rest: Any) -> dict[str, Any]:
    return {"name": name, "shape": [len(texts)], "datatype": "BYTES", "data": texts, **rest}


def infer(client: httpx.Client, *inputs: dict[str, Any], **rest: Any) -> dict[str, dict[str, Any]]:
    """Return the outputs by name."""
    response = client.post(INFER, json=require("request", {"inputs": list(inputs), **rest}))
    assert response.status_code == 200, response.text
    found = require("response", response.json())
    assert found["model_name"] == "polytask"
    assert found.get("id") == rest.get("id")
    return {one["name"]: one for one in found["outputs"]}


def refused(client: httpx.Client, status: int, path: str = INFER, **request: Any) -> str:
    response = client.post(path, **request)
    assert response.status_code == status, response.text
    found = require("error", response.json())
    assert set(found) == {"error"}
    return found["error"]


def predictions(outputs: dict[str, dict[str, Any]], rows: int) -> list[dict[str, Any]]:
    """Put the answers of `/predict` together again."""
    found: list[dict[str, Any]] = [{} for _ in range(rows)]
    for name, one in outputs.items():
        task, _, field = name.rpartition(".")
        labels = json.loads(one.get("parameters", {}).get("labels", "null"))
        values = np.array(one["data"], object).reshape(one["shape"]).tolist()
        for row, value in zip(found, values, strict=True):
            if labels is not None:
                value = dict(zip(labels, value, strict=True))
            elif value and isinstance(value, str) and (value[0] in "[{"):
                value = json.loads(value)
            if field == "answer":
                row[task] = value
            else:
                row.setdefault(task, {})[field] = value
    return found


def test_health_and_metadata_are_as_specified(client: httpx.Client, model: Model) -> None:
    found = require("server", client.get("/v2").json())
    assert found == {"name": "polytask", "version": pt.__version__, "extensions": ["binary_tensor_data"]}
    assert client.get("/v2/").json() == found
    assert require("live", client.get("/v2/health/live").json())["live"] is True
    assert require("live", client.get("/v2/health/ready").json())["ready"] is True
    assert require("model_ready", client.get("/v2/models/polytask/ready").json())["ready"] is True
    about = require("model", client.get("/v2/models/polytask").json())
    assert [one["name"] for one in about["inputs"]] == ["text", "first", "second"]
    found = {one["name"]: (one["datatype"], one["shape"]) for one in about["outputs"]}
    assert found["truncated"] == ("BOOL", [-1])
    assert found["topic.label"] == ("BYTES", [-1])
    assert found["topic.probabilities"] == ("FP64", [-1, len(model.tasks["topic"].labels)])
    assert found["stars.value"] == ("FP64", [-1])
    assert found["marks.labels"] == found["entities.answer"] == ("BYTES", [-1])
    assert {name.split(".")[0] for name in found} == {"truncated", *model.tasks}
    parameters = {one["name"]: one.get("parameters") for one in about["outputs"]}
    assert json.loads(parameters["topic.probabilities"]["labels"]) == list(model.tasks["topic"].labels)


@pytest.mark.parametrize("nested", [False, True])
def test_outputs_are_the_answers_of_predict(client: httpx.Client, nested: bool) -> None:
    given = tensor("text", TEXTS)
    if nested:
        given |= {"shape": [len(TEXTS), 1], "data": [[text] for text in TEXTS]}
    outputs = infer(client, given, id="42", parameters={"priority": 1, "sequence_id": "a", "urgent": True})
    expected = client.post("/predict", json={"texts": TEXTS}).json()
    assert outputs.pop("truncated")["data"] == expected["truncated"]
    assert close(predictions(outputs, len(TEXTS)), expected["predictions"])
    assert all(one["shape"][0] == len(TEXTS) for one in outputs.values())


def test_columns_of_a_pair_and_of_words_are_those_of_a_row(client: httpx.Client) -> None:
    rows = {"text": ["Ann was in Leeds.", "Nothing."], "first": ["a", "b"], "second": ["c", "d"],
            "tokens": ['["Ann", "was", "in", "Leeds", "."]', "Nothing ."]}  # fmt: skip
    outputs = infer(client, *(tensor(name, texts) for name, texts in rows.items()))
    spelled = [["Ann", "was", "in", "Leeds", "."], ["Nothing", "."]]
    texts = [dict(zip(rows, cells, strict=True)) for cells in zip(*list(rows.values())[:3], spelled, strict=True)]
    expected = client.post("/predict", json={"texts": texts}).json()["predictions"]
    del outputs["truncated"]
    assert close(predictions(outputs, 2), expected)
    pair = infer(client, tensor("first", ["a"]), tensor("second", ["c"]))
    assert set(pair) == {"truncated", "alike.label", "alike.probabilities"}


def test_a_row_brings_its_options_as_a_list_in_a_text(tiny: Path, serving: Any) -> None:
    rows = [{"text": f"text {at}", "menu": ["tea", "water"], "drink": ["tea", "water"][at % 2]} for at in range(8)]
    task = {"type": "matching", "label": "drink", "options": "menu", "data": {"train": rows, "dev": rows}}
    train = {"max_steps": 1, "precision": "fp32"}
    chooser = pt.train({"encoder": str(tiny), "max_tokens": 16, "tasks": {"drink": task}, "train": train}).model
    menus = [["tea", "cocoa", "water"], ["a", "b"]]
    with serving(chooser) as client:
        outputs = infer(client, tensor("text", ["x", "y"]), tensor("menu", list(map(json.dumps, menus))))
        expected = chooser.predict([{"text": text, "menu": menu} for text, menu in zip("xy", menus, strict=True)])
        del outputs["truncated"]
        assert close(predictions(outputs, 2), [{"drink": dict(one["drink"])} for one in expected])
        assert [one["name"] for one in client.get("/v2/models/polytask").json()["inputs"]] == ["text", "menu"]
        assert "inputs, row 0: has no options in 'menu'" in refused(
            client, 400, json={"inputs": [tensor("text", ["x"])]}
        )
        bad = {"inputs": [tensor("text", ["x"]), tensor("menu", ['["tea"]'])]}
        assert "one option only" in refused(client, 400, json=bad)
        example = client.get("/openapi.json").json()["components"]["schemas"]["InferenceRequest"]["examples"][0]
        assert client.post(INFER, json=require("request", example)).status_code == 200


def test_vectors_are_rows_of_numbers(tiny: Path, serving: Any) -> None:
    rows = [{"text": f"text {at}", "positive": f"other {at}"} for at in range(8)]
    task = {"type": "embedding", "positive": "positive", "data": {"train": rows, "dev": rows}}
    found = pt.train({"encoder": str(tiny), "max_tokens": 16, "tasks": {"near": task}, "train": {"max_steps": 1}}).model
    with serving(found) as client:
        outputs = infer(client, tensor("text", ["a", "b"]), outputs=[{"name": "near.vector"}])
    vectors = np.array(outputs["near.vector"]["data"]).reshape(outputs["near.vector"]["shape"])
    assert vectors.shape == (2, 32)
    assert vectors.tolist() == [one["near"]["vector"] for one in found.predict(["a", "b"])]


def test_only_the_tasks_of_the_outputs_that_are_asked_for_run(serving: Any, stub: Any) -> None:
    asked: list[Any] = []
    answers = stub.answers
    stub.answers = lambda records, tasks=None, **rest: asked.append(tasks) or answers(records, tasks, **rest)
    with serving(stub) as client:
        asked.clear()
        outputs = infer(client, tensor("text", ["Ann is here"]), outputs=[{"name": "names.answer"}])
        assert list(outputs) == ["names.answer"]
        assert json.loads(outputs["names.answer"]["data"][0])[0]["text"] == "Ann"
        order = [{"name": "truncated"}, {"name": "mood.label"}]
        assert list(infer(client, tensor("text", ["a"]), outputs=order)) == ["truncated", "mood.label"]
        infer(client, tensor("text", ["a"]))
    assert asked == [("names",), ("mood",), ("mood", "names")]


def test_tensors_may_follow_as_bytes_both_ways(client: httpx.Client) -> None:
    raw = pack_texts(TEXTS)
    given = {"name": "text", "shape": [4], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    named = [{"name": "topic.probabilities"}, {"name": "topic.label", "parameters": {"binary_data": False}},
             {"name": "entities.answer", "parameters": {"binary_data": True}}, {"name": "truncated"}]  # fmt: skip
    head = json.dumps({"inputs": [given], "outputs": named, "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    response = client.post(INFER, content=head + raw, headers=headers)
    assert response.status_code == 200, response.text
    size = int(response.headers["inference-header-content-length"])
    found = json.loads(response.content[:size])
    plain = infer(client, tensor("text", TEXTS), outputs=[{"name": one["name"]} for one in named])
    at = size
    for one in found["outputs"]:
        length = one.get("parameters", {}).get("binary_data_size")
        part = response.content[at : at + (length or 0)]
        at += len(part)
        expected = plain[one["name"]]["data"]
        assert one["shape"] == plain[one["name"]]["shape"]
        match one["name"]:
            case "topic.label":
                assert (length, one["data"]) == (None, expected)
            case "topic.probabilities":
                assert np.frombuffer(part, "<f8").tolist() == pytest.approx(expected, abs=2e-6)
            case "truncated":
                assert np.frombuffer(part, "?").tolist() == expected
            case _:
                texts: list[str] = []
                while part:
                    (count,) = struct.unpack("<I", part[:4])
                    texts.append(part[4 : 4 + count].decode())
                    part = part[4 + count :]
                assert [len(json.loads(text)) for text in texts] == [len(json.loads(text)) for text in expected]
    assert at == len(response.content)


TEXT = tensor("text", ["a"])
REFUSALS: list[tuple[Any, str]] = [
    ([], "expected an object"),
    ({}, "inputs: found none"),
    ({"inputs": []}, "inputs: found none"),
    ({"inputs": {}}, "inputs: found an object; expected a list"),
    ({"inputs": [TEXT], "texts": []}, "found the key 'texts'; accepted: id, inputs, outputs, parameters"),
    ({"inputs": [TEXT], "id": 7}, "id: found a number; expected a text"),
    ({"inputs": [TEXT], "parameters": {"a": []}}, "parameters: a parameter must be a text, a number, true or false"),
    ({"inputs": [tensor("txt", ["a"])]}, "inputs[0].name: found 'txt'; accepted: first, second, text"),
    ({"inputs": [TEXT, TEXT]}, "inputs[1].name: found 'text' twice"),
    ({"inputs": [{"shape": [1], "datatype": "BYTES", "data": ["a"]}]}, "inputs[0].name: missing"),
    ({"inputs": [{**TEXT, "rank": 1}]}, "inputs[0]: found the key 'rank'"),
    ({"inputs": [{**TEXT, "datatype": "INT64"}]}, "inputs[0].datatype: found 'INT64'; every input is BYTES"),
    ({"inputs": [{**TEXT, "data": [1]}]}, "inputs[0].data[0]: found a number; expected a text"),
    ({"inputs": [{**TEXT, "data": "a"}]}, "inputs[0].data: found a text; expected a list"),
    ({"inputs": [{**TEXT, "data": [["a", "b"]]}]}, "inputs[0].data[0]: a row has one text"),
    ({"inputs": [{**TEXT, "data": [[]]}]}, "inputs[0].data[0]: a row has one text"),
    ({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES"}]}, "inputs[0].data: missing"),
    ({"inputs": [{"name": "text", "datatype": "BYTES", "data": ["a"]}]}, "inputs[0].shape: missing"),
    ({"inputs": [{**TEXT, "shape": [2]}]}, "inputs[0]: found 1 texts, and the shape [2]"),
    ({"inputs": [{**TEXT, "shape": [1, 2]}]}, "inputs[0].shape: found [1, 2]; expected [rows], or [rows, 1]"),
    ({"inputs": [{**TEXT, "shape": []}]}, "inputs[0].shape: found []"),
    ({"inputs": [{**TEXT, "shape": [-1]}]}, "inputs[0].shape: input should be a valid integer, not below 0"),
    ({"inputs": [{**TEXT, "shape": [1.0]}]}, "inputs[0].shape: input should be a valid integer"),
    ({"inputs": [{**TEXT, "shape": [True]}]}, "inputs[0].shape: input should be a valid integer"),
    ({"inputs": [{**TEXT, "shape": [1] * 9}]}, "inputs[0].shape: found more than 8 dimensions"),
    ({"inputs": [tensor("text", [])]}, "inputs[0]: found no row; expected at least one"),
    ({"inputs": [tensor("text", ["a"] * 13)]}, "inputs[0].data: found more than 12 texts; at most 12 a request"),
    ({"inputs": [tensor("first", ["a"]), tensor("second", ["a", "b"])]}, "inputs[1]: found 2 rows, and 1 in"),
    ({"inputs": [tensor("first", ["a"])]}, "inputs, row 0: holds no text for any of the tasks"),
    ({"inputs": [{**TEXT, "parameters": {"content_type": "base64"}}]}, "found the content_type 'base64'"),
    ({"inputs": [{**TEXT, "parameters": {"binary_data_size": 5}}]}, "found both data and binary_data_size"),
    ({"inputs": [TEXT], "outputs": [{"name": "topics"}]}, "outputs: found 'topics'; accepted: "),
    ({"inputs": [TEXT], "outputs": [{}]}, "outputs[0].name: missing"),
    ({"inputs": [TEXT], "outputs": [{"name": "truncated"}] * 2}, "outputs[1].name: found 'truncated' twice"),
    ({"inputs": [TEXT], "outputs": [{"name": "topic.label", "parameters": {"classification": 2}}]}, "no class"),
    ({"inputs": [TEXT], "outputs": [{"name": "topic.label"}, {"name": "alike.label"}]},
     "outputs: found 'alike.label', whose task reads other inputs: first, second"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), REFUSALS)
def test_what_is_no_request_is_refused_in_the_words_of_the_protocol(
    body: Any, message: str, client: httpx.Client
) -> None:
    assert message in refused(client, 400, json=body)


def test_what_is_too_large_or_elsewhere_is_refused_in_the_same_form(client: httpx.Client) -> None:
    long = {"inputs": [tensor("text", ["a" * 2001])]}
    assert refused(client, 413, json=long) == "inputs[0].data[0]: found 2001 characters; at most 2000"
    both = {"inputs": [tensor("first", ["a" * 1500]), tensor("second", ["a" * 600])]}
    assert refused(client, 413, json=both) == "inputs[1]: row 0 has 2100 characters; at most 2000"
    assert "more than 20000 bytes" in refused(client, 413, content=b" " * 30_000)
    assert "found no model 'other'" in refused(client, 404, "/v2/models/other/infer", json={"inputs": [TEXT]})
    assert refused(client, 404, "/v2/models/a%0Ab/infer", json={"inputs": [TEXT]})
    assert "versions" in refused(client, 404, "/v2/models/polytask/versions/1/infer", json={"inputs": [TEXT]})
    for path in ("/v2/models/other", "/v2/models/other/ready", "/v2/models/polytask/versions/1", "/v2/nowhere"):
        response = client.get(path)
        assert (response.status_code, set(response.json())) == (404, {"error"})
    assert client.get("/nowhere").json() == {"detail": "Not Found"}
    assert client.get(INFER).status_code == 404
    assert client.post("/v2/health/live").json() == {"error": "POST /v2/health/live: this address accepts only GET"}
    assert "not JSON" in refused(client, 400, content=b'{"inputs": ')
    assert "UTF-8" in refused(client, 400, content=b'"\xff"')
    assert "Content-Type" in refused(client, 400, content=b"{}", headers={"Content-Type": "text/plain"})
    assert "compressed" in refused(client, 400, content=b"{}", headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    ("length", "size", "raw", "message"),
    [
        ("x", 0, b"", "inference-header-content-length: found 'x'"),
        ("999", 0, b"", "inference-header-content-length: found '999'"),
        (None, 5, b"\x01\0\0\0ab", "found 1 bytes after the inputs"),
        (None, 9, b"\x01\0\0\0a", "found the binary_data_size 9, of 5 bytes"),
        (None, 5, b"\xff\xff\xff\xffa", "a text extends beyond the binary_data_size"),
        (None, 3, b"\x01\0\0", "a text extends beyond the binary_data_size"),
        (None, 5, b"\x01\0\0\0\xff", "a text is not UTF-8"),
        (None, 52, b"\0\0\0\0" * 13, "found more than 12 texts"),
        (None, -1, b"", "found the binary_data_size -1"),
        (None, 1.5, b"", "found the binary_data_size 1.5"),
    ],
)
def test_bytes_that_are_no_texts_are_refused(
    length: str | None, size: Any, raw: bytes, message: str, client: httpx.Client
) -> None:
    given = {"name": "text", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [given]}).encode()
    headers = {"Inference-Header-Content-Length": length or str(len(head))}
    assert message in refused(client, 400, content=head + raw, headers=headers)


def test_limits_of_queue_key_and_bodies_answer_in_the_protocols_form(
    serving: Any, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(stub, max_texts=2, max_queue=2, api_key="k") as client, ThreadPoolExecutor(2) as pool:
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert client.get(path).status_code == 200
        for path in ("/v2", "/v2/models/polytask", "/v2/models/polytask/ready"):
            response = client.get(path)
            assert (response.status_code, set(response.json())) == (401, {"error"})
        client.headers["X-API-Key"] = "k"
        stub.batches.clear()
        stub.resume.clear()
        running = pool.submit(client.post, INFER, json={"inputs": [tensor("text", ["a"])]})
        while not stub.batches:
            pass
        waiting = pool.submit(client.post, INFER, json={"inputs": [tensor("text", ["b", "c"])]})
        while client.get("/health").json()["queued"] < 2:
            pass
        response = client.post(INFER, json={"inputs": [TEXT]})
        assert (response.status_code, set(response.json())) == (429, {"error"})
        assert int(response.headers["retry-after"]) >= 1
        stub.resume.set()
        assert [one.result().status_code for one in (running, waiting)] == [200, 200]
        assert stub.batches == [["a"], ["b", "c"]]
        assert refused(client, 500, json={"inputs": [tensor("text", ["fail"])]}).startswith("the server failed")
        monkeypatch.setattr(middleware, "BODIES_AT_ONCE", 0)
        assert refused(client, 429, json={"inputs": [TEXT]}) == "too many large requests at once; try again shortly"
        routes = client.get("/metrics").text
        assert 'route="/v2/models/polytask/infer",status="200"' in routes.replace('", ', '",')


def test_a_model_has_the_name_of_its_server(serving: Any, stub: Any) -> None:
    for name in ("reviews", "team/reviews", "a b", "{x}", "漢"):
        with serving(stub, name=name) as client:
            path = f"/v2/models/{httpx.URL('http://x').copy_with(path=f'/{name}').raw_path.decode()[1:]}"
            assert client.get(path).json()["name"] == name
            assert client.post(f"{path}/infer", json={"inputs": [TEXT]}).json()["model_name"] == name
            assert client.get("/v2/models/polytask").status_code == 404


def test_a_thread_that_has_failed_is_neither_live_nor_ready(serving: Any, stub: Any) -> None:
    with serving(stub) as client:
        ran = Batcher._answer  # pyright: ignore[reportPrivateUsage]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Batcher, "_answer", lambda batcher, tickets: {}["gone"])
            assert refused(client, 500, json={"inputs": [TEXT]})
        assert Batcher._answer is ran  # pyright: ignore[reportPrivateUsage]
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/polytask/ready"):
            response = client.get(path)
            assert response.status_code == 503
            assert set(response.json().values()) <= {False, "polytask"}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_NEAR = st.fixed_dictionaries(
    {"inputs": st.lists(st.fixed_dictionaries(
        {}, optional={"name": st.sampled_from(["text", "first", "second", "tokens", "?"]) | _JSON,
                      "shape": st.lists(st.integers(-1, 3), max_size=3) | _JSON, "datatype": st.just("BYTES") | _JSON,
                      "parameters": _JSON, "data": st.lists(st.text(max_size=5), max_size=3) | _JSON}), max_size=3)
     | _JSON},
    optional={"id": _JSON, "parameters": _JSON, "outputs": _JSON},
)  # fmt: skip


@settings(max_examples=150, deadline=None, derandomize=True)
@given(body=_NEAR | _JSON)
def test_no_request_is_our_fault(body: Any) -> None:
    from polytask.serving.body import RequestRefused
    from polytask.serving.inference_request import read_inference
    from polytask.serving.options import ServeOptions

    accepted = {"text", "first", "second", "tokens"}
    try:
        found = read_inference(json.dumps(body).encode(), ServeOptions(), json_length=None, accepted=accepted)
    except RequestRefused as error:
        status, lengths = error.status, {1}
    else:
        status, lengths = 200, {len(texts) for texts in found.columns.values()}
    assert status in (200, 400, 413, 422)
    assert len(lengths) == 1
    assert min(lengths) >= 1


def test_outputs_of_every_type_have_names_of_their_own(model: Model) -> None:
    found = outputs_of(model.tasks)
    assert len(found) == len({name.casefold() for name in found})
    assert all(name == "truncated" or name.count(".") == 1 for name in found)


@pytest.fixture(scope="module")
def triton() -> Any:
    pytest.importorskip("geventhttpclient", reason="tritonclient[http] is not installed")
    return pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_reads_every_answer(triton: Any, client: httpx.Client, binary: bool) -> None:
    """Its defaults send and ask for bytes."""
    caller = triton.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}")
    assert caller.is_server_live()
    assert caller.is_server_ready()
    assert caller.is_model_ready("polytask")
    assert not caller.is_model_ready("other")
    assert "binary_tensor_data" in caller.get_server_metadata()["extensions"]
    about = require("model", caller.get_model_metadata("polytask"))
    given = triton.InferInput("text", [len(TEXTS), 1], "BYTES")
    given.set_data_from_numpy(np.array([[text] for text in TEXTS], object), binary_data=binary)
    read = [one["name"] for one in about["outputs"] if not one["name"].startswith("alike.")]
    outputs = None if binary else [triton.InferRequestedOutput(name, binary_data=False) for name in read]
    found = caller.infer("polytask", [given], request_id="7", outputs=outputs)
    assert found.get_response()["id"] == "7"
    plain = infer(client, tensor("text", TEXTS))
    assert {one["name"] for one in found.get_response()["outputs"]} == set(read) == set(plain)
    for name in read:
        values = found.as_numpy(name)
        assert list(values.shape) == plain[name]["shape"]
        expected = plain[name]["data"]
        if plain[name]["datatype"] == "FP64":
            assert values.dtype == np.float64
            assert values.ravel().tolist() == pytest.approx(expected, abs=2e-6)
        elif plain[name]["datatype"] == "BOOL":
            assert values.tolist() == expected
        elif name.endswith(".label"):
            assert [one.decode() if isinstance(one, bytes) else one for one in values] == expected
        else:
            decoded = [json.loads(one) for one in values]
            assert [len(one) for one in decoded] == [len(json.loads(one)) for one in expected]
    with pytest.raises(Exception, match=r"\[404\] found no model 'other'"):
        caller.infer("other", [given])
    caller.close()


@pytest.fixture(scope="module")
def exported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxscript", reason="polytask[export] is not installed")
    out = tmp_path_factory.mktemp("onnx") / "exported"
    pt.export(folder, out, to="onnx")
    return out


def test_an_onnx_folder_answers_as_the_model_folder_does(exported: Path, client: httpx.Client, serving: Any) -> None:
    expected = infer(client, tensor("text", TEXTS))
    with serving(pt.load(exported)) as other:
        found = infer(other, tensor("text", TEXTS))
    assert list(found) == list(expected)
    for name, one in found.items():
        assert one["shape"] == expected[name]["shape"]
        if one["datatype"] == "FP64":
            assert one["data"] == pytest.approx(expected[name]["data"], abs=1e-4)
        elif name != "entities.answer":
            assert one["data"] == expected[name]["data"]
