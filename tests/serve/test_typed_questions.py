"""The protocol of typed questions: its own classes read what is asked and answered, and agree with every figure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import httpx
import numpy as np
import pytest
from fastapi import HTTPException
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils import import_utils

import polytask as pt
from polytask.predict.predictor import Model
from polytask.serving import body as bodies
from polytask.serving.body import RequestRefused
from polytask.serving.options import ServeOptions
from polytask.serving.questions import MOST_DEPTH, MOST_VALUES, read_questions
from polytask.tasks import TASKS, LabelStats, Task
from polytask.tasks.arrays import sigmoid, softmax
from polytask.tasks.question import TypedQuestion, between_levels
from samples import close, corpus_rows, write_jsonl

pytest.importorskip("transformers.decision", reason="this transformers has not the protocol's classes")

from transformers.decision import DecisionConfig
from transformers.decision.template_utils import Question

with mock.patch.object(import_utils, "is_serve_available", return_value=True):  # it asks for one more package
    from transformers.cli.serving import systemone

TEXT = "Ingrid's café in Lyon was not bad at all."
PAIR = ["A man plays a guitar.", "Someone makes music."]
# The protocol's own reader takes as many options as its model has labels.
MANY = DecisionConfig(labels={kind: [f"L{index}" for index in range(60)] for kind in ("choice", "score")})


def theirs(body: Any) -> Any:
    """Return what the protocol's own server says of a request: the parsed one, or its refusal."""
    server: Any = SimpleNamespace(model_manager=SimpleNamespace(force_model="ours"), decision_config=MANY)
    return systemone.SystemOneHandler._validate_request(server, body)


def ask(client: httpx.Client, state: Any, questions: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    body = {"model": "ours", "state": state, "questions": questions, **rest}
    assert theirs(body).questions == questions
    response = client.post("/v1/systemone", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def faults(client: httpx.Client, body: Any) -> list[dict[str, Any]]:
    response = client.post("/v1/systemone", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert response.status_code == 422, response.text
    assert set(response.json()) == {"detail"}
    for fault in response.json()["detail"]:
        assert set(fault) == {"loc", "msg", "type"}
        assert fault["loc"][0] == "body"
    return response.json()["detail"]


def refused(client: httpx.Client, questions: Any, state: Any = TEXT) -> str:
    return "\n".join(fault["msg"] for fault in faults(client, {"state": state, "questions": questions}))


def oracle(question: Mapping[str, Any], probabilities: list[float]) -> dict[str, Any]:
    """Return the answer of the protocol's own class."""
    return Question.from_request("q", dict(question), MANY).answer(probabilities)


def labelled(model: Model, text: Any, name: str) -> dict[str, float]:
    """Return the probability of each label, from the head's outputs."""
    (found,) = model.answers([text])
    task: Any = model.tasks[name]
    turn = sigmoid if task.type_name == "multilabel" else softmax
    values = turn(found.outputs[name].astype(np.float64) / task.temperature)
    return dict(zip(task.labels, values.tolist(), strict=True))


def test_a_task_answers_the_question_that_is_named_after_it(client: httpx.Client, model: Model) -> None:
    criteria = dict.fromkeys(reversed(model.tasks["topic"].labels), "described for people")
    question = {"type": "choice", "instructions": "What is it about?", "criteria": criteria}
    found = ask(client, TEXT, {"topic": question})
    assert set(found) == {"model", "answers", "usage"}
    assert found["model"] == "ours"
    assert found["usage"] == {"input_tokens": len(model.tokens.rows([TEXT], [None], [[]])[0].ids), "output_tokens": 0}
    expected = labelled(model, TEXT, "topic")
    assert close(found["answers"]["topic"], oracle(question, [expected[label] for label in criteria]))
    assert list(found["answers"]["topic"]["probabilities"]) == list(criteria)
    shown = model.predict([TEXT])[0]["topic"]["probabilities"]
    assert close(found["answers"]["topic"]["probabilities"], {label: shown[label] for label in criteria})


def test_a_subset_of_the_labels_is_renormalised(client: httpx.Client, model: Model) -> None:
    labels = model.tasks["topic"].labels
    expected = labelled(model, TEXT, "topic")
    some = [labels[-1], labels[0]]
    question = {"type": "choice", "criteria": dict.fromkeys(some)}
    answer = ask(client, TEXT, {"topic": question})["answers"]["topic"]
    total = sum(expected[label] for label in some)
    assert close(answer, oracle(question, [expected[label] / total for label in some]))
    alone = ask(client, TEXT, {"topic": {"type": "choice", "criteria": {labels[1]: None}}})["answers"]["topic"]
    assert alone == {"type": "choice", "choice": labels[1], "confidence": 1.0, "probabilities": {labels[1]: 1.0}}


@pytest.mark.parametrize("instructions", ["sentiment", {"task": "sentiment"}])
def test_instructions_may_name_the_task(client: httpx.Client, model: Model, instructions: Any) -> None:
    criteria = dict.fromkeys(model.tasks["sentiment"].labels)
    question = {"type": "choice", "instructions": instructions, "criteria": criteria}
    named = ask(client, TEXT, {"tone": question, "topic": question})["answers"]
    plain = ask(client, TEXT, {"sentiment": {"type": "choice", "criteria": criteria}})["answers"]
    assert named["tone"] == named["topic"] == plain["sentiment"]


def test_a_yes_or_no_question_is_about_a_label(client: httpx.Client, model: Model) -> None:
    for name in ("marks", "sentiment"):
        expected = labelled(model, TEXT, name)
        questions = {
            label: {"type": "noul", "instructions": {"task": name, "label": label}, "criteria": {"true": "so it is"}}
            for label in expected
        }
        answers = ask(client, TEXT, questions)["answers"]
        for label, probability in expected.items():
            assert close(answers[label], oracle(questions[label], [probability, 1 - probability]))


def choosing(labels: list[Any], **options: Any) -> Task:
    kind = TASKS["classification"]
    made, stats = kind.Options.model_validate({"type": "classification", **options}), LabelStats()
    for label in labels:
        kind.read(made, {"label": label}, stats)
    return kind.fit("it", made, stats)


def test_which_label_means_yes_is_named_or_certain() -> None:
    outputs = np.array([0.0, 2.0], np.float32)
    yes = 1 / (1 + np.exp(-2.0))
    for task, expected in (
        (choosing(["ham", "spam"], positive="spam"), yes),
        (choosing(["ham", "spam"], positive=" ham "), 1 - yes),
        (choosing(["0", 1], positive=True and 1), yes),
        (choosing([True, False]), yes),
        (choosing(["FALSE", "true"]), yes),
    ):
        assert task.asked(TypedQuestion("noul"))(outputs).tolist() == pytest.approx([expected, 1 - expected])
        assert Task.from_json.__func__(type(task), "it", task.to_json()).typed_questions == task.typed_questions  # type: ignore[attr-defined]
    for labels in (["ham", "spam"], ["true", "false", "maybe"]):
        with pytest.raises(ValueError, match=r"`positive: LABEL`"):
            choosing(labels).asked(TypedQuestion("noul"))
    with pytest.raises(ValueError, match="positive: found 'sapm', which no training row has; labels: ham, spam"):
        choosing(["ham", "spam"], positive="sapm")


def test_sixty_four_questions_cost_one_pass(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    run = model.engine.run

    def counted(encoded: Any, names: Any) -> Any:
        rows.append(len(encoded))
        return run(encoded, names)

    monkeypatch.setattr(model.engine, "run", counted)
    tasks = ["sentiment", "topic"]
    questions = {
        f"q{index}": {"type": "noul", "instructions": {"task": task, "label": model.tasks[task].labels[index % 2]}}
        for index, task in enumerate(tasks * 32)
    }
    answers = model.ask(TEXT, questions)
    assert rows == [1]
    assert list(answers) == list(questions)
    with pytest.raises(pt.DataError, match="found 65 questions; expected an object of 1 to 64"):
        model.ask(TEXT, {**questions, "more": questions["q0"]})


def test_pairs_and_rows_are_states(client: httpx.Client, model: Model) -> None:
    question = {"type": "choice", "criteria": dict.fromkeys(model.tasks["alike"].labels)}
    pair = ask(client, PAIR, {"alike": question})
    row = ask(client, {"first": PAIR[0], "second": PAIR[1]}, {"alike": question})
    assert pair["answers"] == row["answers"]
    both = {"text": TEXT, "first": PAIR[0], "second": PAIR[1]}
    other = {"type": "choice", "criteria": dict.fromkeys(model.tasks["topic"].labels)}
    found = ask(client, both, {"alike": question, "topic": other})
    assert close(found["answers"]["alike"], pair["answers"]["alike"])
    told = refused(client, {"alike": question, "topic": other})
    assert told == "the task 'alike' reads a pair of texts, or first and second, which the state does not contain"
    for state in ({"message": "a"}, PAIR):
        assert "state" in faults(client, {"state": state, "questions": {"topic": other}})[0]["loc"]


def test_what_no_head_answers_is_refused_with_what_can_be_asked(client: httpx.Client) -> None:
    told = refused(client, {"spam": {"type": "noul", "instructions": "Is this spam?"}})
    assert "no task has this name" in told
    for part in ("sentiment: choice (", "marks: noul about a label (odd, third)", "noul about a label"):
        assert part in told
    assert "entities" not in told
    assert "found the label 'joy'; accepted: " in refused(
        client, {"topic": {"type": "choice", "criteria": {"joy": None}}}
    )
    assert "without an order" in refused(client, {"topic": {"type": "score", "criteria": ["low", "high"]}})
    assert "no known range" in refused(client, {"stars": {"type": "score", "criteria": ["low", "high"]}})
    assert "answers no choice question" in refused(client, {"entities": {"type": "choice", "criteria": {"PER": None}}})
    assert "each label is decided by itself" in refused(
        client, {"marks": {"type": "choice", "criteria": {"odd": None}}}
    )
    assert "`positive: LABEL`" in refused(client, {"sentiment": {"type": "noul"}})
    many = faults(client, {"state": TEXT, "questions": {"a": {"type": "noul"}, "b": {}, "sentiment": {"type": "noul"}}})
    assert [fault["loc"] for fault in many] == [["body", "questions", name] for name in ("a", "b", "sentiment")]


WRONG: list[Any] = [
    {},
    None,
    [],
    "sentiment",
    {"type": "box"},
    {"type": "noul", "criterion": None},
    {"type": "noul", "instructions": 3},
    {"type": "noul", "instructions": True},
    {"type": "noul", "criteria": {"yes": "a"}},
    {"type": "noul", "criteria": ["a"]},
    {"type": "noul", "criteria": {"true": 1}},
    {"type": "choice"},
    {"type": "choice", "criteria": {}},
    {"type": "choice", "criteria": ["a"]},
    {"type": "choice", "criteria": {"a": 1}},
    {"type": "score", "criteria": {"a": None}},
    {"type": "score", "criteria": []},
    {"type": "score", "criteria": [None]},
    {"type": "score", "criteria": None},
]


@pytest.mark.parametrize("question", WRONG, ids=json.dumps)
def test_a_question_of_another_form_is_refused_as_the_protocol_does(client: httpx.Client, question: Any) -> None:
    with pytest.raises(HTTPException) as caught:
        theirs({"state": TEXT, "questions": {"sentiment": question}})
    assert caught.value.status_code == 422
    (fault,) = faults(client, {"state": TEXT, "questions": {"sentiment": question}})
    assert fault["loc"] == ["body", "questions", "sentiment"]
    assert "no task" not in fault["msg"]


@pytest.mark.parametrize(
    ("body", "loc", "told"),
    [
        ({"questions": {"a": {}}}, ["state"], "Field required"),
        ({"state": "a"}, ["questions"], "Field required"),
        ({"state": "a", "questions": {}}, ["questions"], "found none"),
        ({"state": "a", "questions": []}, ["questions"], "valid dictionary"),
        ({"state": 1, "questions": {"a": {}}}, ["state"], "expected a text"),
        ({"state": None, "questions": {"a": {}}}, ["state"], "expected a text"),
        ({"state": ["a"], "questions": {"a": {}}}, ["state"], "found a list of 1 texts"),
        ({"state": {"a": 1}, "questions": {"a": {}}}, ["state"], "expected a text"),
        ({"model": 1, "state": "a", "questions": {"a": {}}}, ["model"], "found a number; expected a text"),
        ({"assets": [], "state": "a", "questions": {"a": {}}}, ["assets"], "valid dictionary"),
        ({"stat": "a"}, [], "did you mean 'state'?"),
        (["a"], [], "expected an object"),
        ({"state": "a", "questions": {"\ud800": {}}}, ["questions"], "surrogate"),
        ({"state": "a", "questions": {"a": {"criteria": [float("nan")]}}}, ["questions", "a"], "not finite"),
        ({"state": "a", "questions": {str(n): {} for n in range(65)}}, ["questions"], "at most 64"),
    ],
)
def test_a_request_of_another_form_is_refused_with_its_place(
    client: httpx.Client, body: Any, loc: list[str], told: str
) -> None:
    (fault,) = faults(client, body)
    assert fault["loc"] == ["body", *loc]
    if isinstance(body, dict) and not ({"\ud800", "a"} & set(body.get("questions") or ())):
        with pytest.raises(HTTPException) as caught:
            theirs(body)
        assert caught.value.status_code == 422
    assert told in fault["msg"]


def test_other_refusals_are_the_protocols(serving: Any, model: Model) -> None:
    asked = {
        "state": TEXT,
        "questions": {"topic": {"type": "choice", "criteria": dict.fromkeys(model.tasks["topic"].labels)}},
    }
    with serving(model, name="reviews", api_key="secret", max_characters=100) as client:
        assert client.post("/v1/systemone", json=asked).status_code == 401
        client.headers["Authorization"] = "Bearer secret"
        assert client.post("/v1/systemone", json=asked).json()["model"] == "reviews"
        assert client.post("/v1/systemone", json={**asked, "model": "reviews", "assets": {}}).status_code == 200
        other = client.post("/v1/systemone", json={**asked, "model": "jev"})
        assert (other.status_code, "requested 'jev'" in other.json()["detail"]) == (400, True)
        images = client.post("/v1/systemone", json={**asked, "assets": {"image": {"data_base64": "x" * 300}}})
        assert (images.status_code, "not images" in images.json()["detail"]) == (400, True)
        for long in ({**asked, "state": "a" * 101}, {**asked, "questions": {"a": {"instructions": "b" * 101}}}):
            assert client.post("/v1/systemone", json=long).status_code == 413
        assert (
            client.post("/v1/systemone", content=b"\xff", headers={"Content-Type": "application/json"}).status_code
            == 400
        )
        assert client.post("/v1/systemone", content=b"{}").json()["detail"][0]["loc"] == ["body"]


MIB = 2**20
HOSTILE = {
    "a deep state": b'{"state": ' + b"[" * (MIB - 20),
    "numbers in a state": b'{"state": {"a": [' + b"1," * (MIB // 2 - 20) + b"1]}}",
    "deep questions": b'{"questions": {"a": ' + b"[" * (MIB - 30),
    "deep objects": b'{"questions": ' + b'{"a":' * (MIB // 5 - 10),
    "numbers": b'{"questions": {"a": [' + b"1," * (MIB // 2 - 20) + b"1]}}",
    "texts": b'{"questions": {"a": [' + b'"",' * (MIB // 3 - 20) + b'""]}}',
    "keys": b'{"questions": {"a": {' + b",".join(b'"%d":1' % n for n in range(90_000)) + b"}}}",
    "names": b'{"questions": {' + b",".join(b'"%d":1' % n for n in range(90_000)) + b"}}",
    "one name": b'{"questions": {' + b'"a":1,' * (MIB // 6 - 10) + b'"a":1}}',
    "assets": b'{"assets": {' + b'"a":1,' * (MIB // 6 - 10) + b'"a":1}}',
    "a long name": b'{"questions": {"' + b"a" * (MIB - 40) + b'": {}}}',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_body_is_refused_after_few_values(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[int] = []
    whole = bodies._scan

    def scan(text: str, at: int) -> tuple[Any, int]:
        value, end = whole(text, at)
        pieces.append(end - at)
        return value, end

    monkeypatch.setattr(bodies, "_scan", scan)
    with pytest.raises(RequestRefused) as caught:
        read_questions(HOSTILE[kind], ServeOptions())
    assert caught.value.status == (400 if kind == "assets" else 413 if kind == "a long name" else 422)
    assert len(str(caught.value)) < 300
    assert len(pieces) <= max(MOST_VALUES, ServeOptions().max_characters) + 10


def test_digits_are_refused() -> None:
    for digits in (b"9" * (MIB - 100), b"1e999"):
        with pytest.raises(RequestRefused):
            read_questions(b'{"state": "a", "questions": {"a": {"criteria": [' + digits + b"]}}}", ServeOptions())


def test_values_may_lie_so_deep_and_no_deeper() -> None:
    def nested(depth: int) -> bytes:
        return b'{"state": "a", "questions": {"a": ' + b"[" * depth + b"]" * depth + b"}}"

    read_questions(nested(MOST_DEPTH), ServeOptions())
    with pytest.raises(RequestRefused, match="at most 16"):
        read_questions(nested(MOST_DEPTH + 1), ServeOptions())


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
json_values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


@given(json_values)
def test_any_json_is_read_as_json_loads_does_or_refused(value: Any) -> None:
    for body in (
        value,
        {"state": value, "questions": {"a": value}},
        {"state": "", "questions": {"a": {"criteria": value}}},
    ):
        encoded = json.dumps(body).encode()
        try:
            found = read_questions(encoded, ServeOptions())
        except RequestRefused:
            continue
        assert found.questions == json.loads(encoded)["questions"]
        json.dumps(found.questions, allow_nan=False)


# The figures of an answer


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=20), st.sampled_from(["choice", "score", "noul"]))
def test_every_answer_is_that_of_the_protocols_own_class(weights: list[float], kind: str) -> None:
    values = [*weights, 1.0][:2] if kind == "noul" else weights
    probabilities = np.array(values) / sum(values)
    names = [f"n{index}" for index in range(len(values))]
    criteria: Any = {"choice": dict.fromkeys(names), "score": names, "noul": None}[kind]
    question = {"type": kind, "criteria": criteria}
    typed = {
        "choice": TypedQuestion("choice", tuple(names)),
        "score": TypedQuestion.score(names),
        "noul": TypedQuestion("noul"),
    }[kind]
    found = typed.answer(probabilities)
    assert (
        found == pytest.approx(oracle(question, probabilities.tolist()))
        if kind == "noul"
        else close(found, oracle(question, probabilities.tolist()))
    )
    json.dumps(found)


@given(st.floats(-0.5, 1.5), st.integers(1, 30))
def test_the_mean_of_the_levels_is_the_number(place: float, count: int) -> None:
    found = between_levels(place, count)
    assert found.sum() == pytest.approx(1.0)
    assert (found >= 0).all()
    if count > 1:
        assert found @ np.arange(count) == pytest.approx(min(max(place, 0.0), 1.0) * (count - 1), abs=1e-9)


def test_a_number_with_stated_ends_is_a_score() -> None:
    kind = TASKS["regression"]
    fitted = {"mean": 3.0, "deviation": 2.0}
    options = {"type": "regression", "range": [1, 5]}
    task = kind.from_json("it", {"type": "regression", "options": options, "fitted": fitted})
    answers = task.asked(TypedQuestion.score(["bad", "fair", "good"]))
    for output, expected in ((0.0, 1.0), (0.5, 1.5), (-1.0, 0.0), (9.0, 2.0)):
        answer = TypedQuestion.score(["bad", "fair", "good"]).answer(answers(np.array([output], np.float32)))
        assert answer["score"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="the levels go from the lowest up"):
        task.asked(TypedQuestion.score(["5", "3", "1"]))
    assert [one.type for one in task.typed_questions] == ["score"]
    with pytest.raises(ValueError, match="ask a score question"):
        task.asked(TypedQuestion("noul"))


def test_a_scale_is_asked_for_a_level_or_among_some() -> None:
    kind = TASKS["ordinal"]
    stats = LabelStats(Counter({"1": 4, "2": 2, "3": 1}), present=7)
    task = kind.fit("it", kind.Options.model_validate({"type": "ordinal"}), stats)
    outputs = np.array([0.7, -0.4], np.float32)
    shown = task.format_prediction(outputs, "", [], [])["probabilities"]  # type: ignore[call-overload]
    level = task.asked(TypedQuestion.score(["low", "middle", "high"]))(outputs)
    assert level.tolist() == pytest.approx(list(shown.values()), abs=1e-6)
    some = task.asked(TypedQuestion("choice", ("3", "1")))(outputs)
    assert some.tolist() == pytest.approx([shown[name] / (shown["1"] + shown["3"]) for name in ("3", "1")], abs=1e-5)
    with pytest.raises(ValueError, match=r"its scale has 3 levels \(1, 2, 3\), and the question has 2"):
        task.asked(TypedQuestion.score(["low", "high"]))
    for levels in (["3", "2", "1"], ["3.0", "2.0", "1.0"]):  # not told as if they stood the other way round
        with pytest.raises(ValueError, match="the levels go from the lowest up, 1, 2, 3"):
            task.asked(TypedQuestion.score(levels))
    with pytest.raises(ValueError, match="found the level '4'"):
        task.asked(TypedQuestion("choice", ("4", "1")))
    with pytest.raises(ValueError, match="ask a score question"):
        task.asked(TypedQuestion("noul"))


def test_labels_that_are_texts_are_choices(tmp_path: Path, tiny: Path) -> None:
    rows = [row for row in corpus_rows(60) if row.get("sentiment")]
    path = str(write_jsonl(tmp_path / "rows.jsonl", rows))
    tasks = {"sentiment": {"type": "matching", "data": {"train": path, "dev": path}, "label": "sentiment"}}
    train = {"max_steps": 3, "batch_size": 8, "precision": "fp32"}
    model = pt.train({"encoder": str(tiny), "max_tokens": 48, "tasks": tasks, "train": train}).model
    shown = model.predict([TEXT])[0]["sentiment"]["probabilities"]
    answer = model.ask(TEXT, {"sentiment": {"type": "choice", "criteria": dict.fromkeys(shown)}})["sentiment"]
    assert close(answer["probabilities"], shown)


# What tells of it


def test_every_question_that_is_told_of_is_answered(client: httpx.Client) -> None:
    for task in client.get("/tasks").json()["tasks"]:
        state = PAIR if len(task["inputs"]) == 2 else TEXT
        for index, question in enumerate(task["questions"]):
            ask(client, state, {f"q{index}": question})
        assert bool(task["questions"]) == (task["name"] not in ("entities", "stars"))
    document = client.get("/openapi.json").json()
    (example,) = document["components"]["schemas"]["SystemOneRequest"]["examples"]
    assert {"sentiment", "topic"} <= set(ask(client, **example)["answers"])


def test_the_log_tells_of_questions_and_not_their_words(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "polytask.serving")
    ask(client, TEXT, {"marks": {"type": "noul", "instructions": {"task": "marks", "label": "odd"}}})
    assert 'route="/v1/systemone"' in client.get("/metrics").text  # on the same connection, so after the line of log
    told = [vars(record) for record in caplog.records if "/v1/systemone" in str(vars(record))]
    assert told
    assert "'questions': 1" in str(told)
    assert "Ingrid" not in str(told)


# A client of the protocol, unchanged


@pytest.fixture
def typesafe(client: httpx.Client) -> Iterator[Any]:
    sdk = pytest.importorskip("typesafe_sdk", reason="typesafe-sdk, a client of the protocol, is not installed")
    with sdk.TypeSafeClient(api_key="none", base_url=str(client.base_url), model="ours") as found:
        yield found


def test_a_client_of_the_protocol_works_unchanged(typesafe: Any, model: Model) -> None:
    import typesafe_sdk as sdk

    labels = model.tasks["topic"].labels
    found = typesafe.system_one(
        state=TEXT,
        questions={
            "topic": sdk.Choice(instructions="What is it about?", criteria=dict.fromkeys(labels)),
            "odd": sdk.Noul(instructions={"task": "marks", "label": "odd"}),
        },
    )
    assert found.choices["topic"].choice in labels
    assert close(found.choices["topic"].probabilities, labelled(model, TEXT, "topic"))
    assert found.nouls["odd"].noul == pytest.approx(labelled(model, TEXT, "marks")["odd"], abs=1e-5)
    with pytest.raises(sdk.TypeSafeUnprocessableEntityError) as caught:
        typesafe.system_one(state=TEXT, questions={"spam": sdk.Noul(instructions="Is this spam?")})
    assert "what can be asked" in str(caught.value.body)
