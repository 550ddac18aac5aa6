"""A task of vectors on the page: each text beside those that were asked before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from test_served_page import ask, opened

import polytask as pt
from browsing import check_accessible, needs_chromium, started
from polytask.predict.predictor import Model
from vectors import config, pairs


@pytest.fixture(scope="module")
def vectors(tiny: Path) -> Model:
    return pt.train(config(tiny, pairs(8), pairs(4, start=8), train={"max_steps": 1})).model


@pytest.fixture
def client(vectors: Model, serving: Any) -> Iterator[httpx.Client]:
    with serving(vectors) as client:
        yield client


@needs_chromium
def test_the_closest_of_the_texts_that_were_asked_before_are_shown(client: httpx.Client, vectors: Model) -> None:
    texts = ["A moving film.", "<b>Shares</b> fell " + "and fell again " * 8, "A film that moved me."]
    told = [np.array(answer["near"]["vector"]) for answer in vectors.predict(texts)]
    with started() as browser, opened(browser, client.base_url, 390) as page:
        page.wait_for_selector("#choices input", state="attached")
        ask(page, texts[0])
        assert "Enter another text" in page.inner_text("#answers")
        ask(page, texts[1])
        ask(page, texts[2])
        rows = page.locator("#answers tr")
        cosines = [float(told[2] @ told[at]) for at in (0, 1)]
        order = sorted((0, 1), key=lambda at: -cosines[at])
        shown = [line.split("\t") for line in rows.all_inner_texts()]
        assert [line[0].rstrip("…").strip() for line in shown] == [texts[at][:80].strip() for at in order]
        assert [float(line[-1]) for line in shown] == pytest.approx([cosines[at] for at in order], abs=0.006)
        assert page.locator("#answers b").count() == 0
        check_accessible(page)
        ask(page, texts[2])  # the same text again is no neighbour of itself
        assert rows.count() == 2
