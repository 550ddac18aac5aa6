"""A task that chooses among each row's own options, over HTTP and on the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_served_page import opened, until

import polytask as pt
from browsing import check_accessible, needs_chromium, started
from polytask.predict.predictor import Model
from polytask.serving.examples import ENGLISH


@pytest.fixture(scope="module")
def chooser(tiny: Path) -> Model:
    rows = [{"text": f"text {at}", "menu": ["tea", "water"], "drink": ["tea", "water"][at % 2]} for at in range(8)]
    task = {"type": "matching", "label": "drink", "options": "menu", "data": {"train": rows, "dev": rows}}
    train = {"max_steps": 1, "precision": "fp32"}
    return pt.train({"encoder": str(tiny), "max_tokens": 16, "tasks": {"drink": task}, "train": train}).model


@pytest.fixture
def client(chooser: Model, serving: Any) -> Iterator[httpx.Client]:
    with serving(chooser) as client:
        yield client


def test_rows_are_answered_with_their_options(client: httpx.Client, chooser: Model) -> None:
    rows = [{"text": "x", "menu": ["tea", "cocoa", "water"]}, {"text": "y", "menu": ["a", "b"]}]
    answer = client.post("/predict", json={"texts": rows}).json()
    assert answer["predictions"] == chooser.predict(rows)
    found = client.get("/tasks").json()
    assert found["tasks"][0]["options"] == "menu"
    assert found["examples"] == [{"text": ENGLISH.question, "menu": list(ENGLISH.options)}]
    assert client.post("/predict", json={"texts": found["examples"]}).status_code == 200
    assert client.get("/openapi.json").status_code == 200


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a text alone", "has no options in 'menu'; expected a list of texts there"),
        ({"text": "x", "menu": ["tea"]}, "one option only"),
        ({"text": "x", "menu": ["tea", "Tea"]}, "twice"),
        ({"text": "x", "menu": ["tea", " "]}, "option 2 is ' '"),
    ],
)
def test_what_is_no_choice_is_refused(row: Any, message: str, client: httpx.Client) -> None:
    response = client.post("/predict", json={"texts": [{"text": "x", "menu": ["tea", "water"]}, row]})
    assert response.status_code == 422
    assert "texts[1]" in response.json()["detail"]
    assert message in response.json()["detail"]


def test_typed_questions_are_refused(client: httpx.Client) -> None:
    question = {"type": "choice", "criteria": {"tea": None, "water": None}}
    response = client.post("/v1/systemone", json={"state": "x", "questions": {"drink": question}})
    assert response.status_code == 422
    assert "the task answers no choice question" in response.text


@needs_chromium
def test_the_page_takes_options_one_a_line(client: httpx.Client) -> None:
    with started() as browser, opened(browser, client.base_url, 390) as page:
        page.wait_for_selector("#options:visible")
        assert page.input_value("#options") == "\n".join(ENGLISH.options)
        page.fill("#options", "tea\n <b>cocoa</b> \n\nwater")
        page.click("button[type=submit]")
        page.wait_for_selector("#answers section")
        assert page.locator("#answers tr").count() == 3
        assert "<b>cocoa</b>" in page.inner_text("#answers")
        assert page.locator("#answers b:has-text('cocoa')").count() == 0
        check_accessible(page)
        page.fill("#options", "")
        page.click("button[type=submit]")
        until(lambda: page.inner_text("#status") == "Enter the options, one per line.")
