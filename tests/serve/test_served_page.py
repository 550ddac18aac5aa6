"""The page in a browser: every kind of answer, entities in their places, by keyboard, on a phone, no markup."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from browsing import check_accessible, needs_chromium, started
from polytask.serving.app import create_app
from polytask.serving.examples import CHINESE, ENGLISH
from polytask.serving.options import ServeOptions

pytestmark = needs_chromium

PERMISSIONS = ["clipboard-read", "clipboard-write"]
EMOJI = "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 Ann sah 日本 \U00020000 Bob, it's <b>Carl</b>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as browser:
        yield browser


@contextmanager
def opened(browser: Any, url: httpx.URL, width: int = 1280, told: int = 0, **options: Any) -> Iterator[Any]:
    """Open the page; its console stays silent but for `told` refused requests, and it asks no other server."""
    page = browser.new_page(viewport={"width": width, "height": 800}, **options)
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(str(url)) else messages.append(request.url))
    page.goto(str(url))
    yield page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
    assert len(messages) == told, messages


def ask(page: Any, text: str) -> None:
    page.fill("#first", text)
    page.keyboard.press("Control+Enter")
    until(lambda: page.inner_text("#status") != "Asking …")


def until(condition: Callable[[], bool]) -> None:
    """Wait; the page's policy forbids the browser to do it."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("width", [pytest.param(1280, marks=pytest.mark.slow), 390])
def test_all_answers_of_a_model_are_shown(width: int, client: httpx.Client, browser: Any) -> None:
    with opened(browser, client.base_url, width) as page:
        page.wait_for_selector("#choices input")
        ask(page, "Ann liked the film in Lyon.")
        assert page.locator("#answers section h2").all_inner_texts() == [
            "sentiment",
            "topic",
            "entities",
            "stars",
            "marks",
        ]
        assert page.locator("#answers section").first.locator("tr").count() == 3
        assert page.locator("#answers section").nth(1).locator("details tr").count() == 0  # eight topics
        stars = page.locator("#answers section").nth(3).inner_text()
        assert "Labels of the training rows range from 0.5 to 4.5. Most lie between" in stars
        total = sum(
            float(cell.split()[0]) for cell in page.locator("section:first-child td:last-child").all_inner_texts()
        )
        assert total == pytest.approx(100, abs=0.3)
        page.fill("#second", "It was good.")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#answers section:nth-child(6)")
        assert page.locator("#answers section h2").all_inner_texts()[-1] == "alike"
        page.uncheck("text=topic")
        page.press("#second", "Meta+Enter")
        until(lambda: page.locator("#answers section").count() == 5)


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_entities_are_marked_where_they_stand(scheme: str, serving: Any, stub: Any, browser: Any) -> None:
    with serving(stub) as client, opened(browser, client.base_url, 400, color_scheme=scheme) as page:
        ask(page, EMOJI)
        marks = page.eval_on_selector_all(
            "mark", "all => all.map(one => [one.firstChild.textContent, one.lastChild.textContent])"
        )
        assert marks == [["Ann", "X0"], ["Bob,", "X1"]]
        whole = page.eval_on_selector(
            ".marked",
            "one => { one.querySelectorAll('mark span').forEach(label => label.remove()); return one.textContent; }",
        )
        assert whole == EMOJI
        assert page.locator(".marked b").count() == 0
        hues = page.eval_on_selector_all("mark", "all => all.map(one => getComputedStyle(one).borderBottomColor)")
        assert len(set(hues)) == 2


def test_nested_spans_are_marks_inside_of_marks(serving: Any, stub: Any, browser: Any) -> None:
    text = "\U0001f600 the Bank of Rome closed"
    places = [(6, 18, "ORG"), (14, 18, "LOC"), (14, 25, "EVENT"), (2, 5, "X")]
    stub.names = lambda _: [
        {"label": label, "start": start, "end": end, "text": text[start:end], "score": 0.9}
        for start, end, label in places
    ]
    with serving(stub) as client, opened(browser, client.base_url, 400) as page:
        ask(page, text)
        inside = page.eval_on_selector_all("mark", "all => all.map(one => [one.textContent, one.parentNode.tagName])")
        assert inside == [["theX", "P"], ["Bank of RomeLOCORG", "P"], ["RomeLOC", "MARK"], ["Rome closedEVENT", "P"]]
        page.click("summary:has-text('As a list')")
        assert page.locator("#answers section").nth(1).locator("tr").count() == 4


def test_nothing_that_is_written_becomes_markup(serving: Any, stub: Any, browser: Any) -> None:
    evil = "<img src=x onerror=document.title='owned'>"
    stub.labels = (evil, "x" * 200, *(f"label {index}" for index in range(20)))
    with serving(stub) as client, opened(browser, client.base_url, 400) as page:
        ask(page, f"Hello {evil} </textarea><script>document.title='owned'</script>")
        assert page.locator("main img").count() == 0
        assert page.locator(".said").first.inner_text() == evil
        assert page.title() == "polytask"
        page.click("summary:has-text('14 more')")
        assert page.locator("#answers section").first.locator("tr").count() == 22


def test_the_keyboard_reaches_everything_and_answers_are_announced(serving: Any, stub: Any, browser: Any) -> None:
    with serving(stub) as client, opened(browser, client.base_url) as page:
        page.wait_for_selector("#choices input")
        reached: list[str] = []
        for _ in range(7):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate("document.activeElement.labels?.[0]?.textContent ?? document.activeElement.textContent")
            )
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert reached == ["Text", *ENGLISH.texts, "mood", "names", "Predict"]
        page.focus("#first")
        page.keyboard.type("Ann and Bob")  # in place of the example
        for _ in range(4):
            page.keyboard.press("Tab")
        page.keyboard.press("Space")  # without mood
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector("mark")
        assert stub.batches[-1] == ["Ann and Bob"]
        assert page.locator("#answers h2").all_inner_texts() == ["names"]
        assert page.get_attribute("#status", "aria-live") == "polite"
        assert page.inner_text("#status").startswith("1 answer in ")
        assert page.evaluate("document.activeElement.type") == "submit"  # the focus stays
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.get_attribute("#code", "open") is None  # that was the list of entities
        assert page.locator("#answers details[open]").count() == 1


def test_the_curl_line_is_the_same_request(serving: Any, stub: Any, browser: Any) -> None:
    text = 'It\'s a "test" of $HOME, `ls` \\ and\nlines \U0001f600'
    with (
        serving(stub, api_key="k") as client,
        opened(browser, client.base_url, told=1, permissions=PERMISSIONS) as page,
    ):
        page.wait_for_selector("#key:visible")
        assert "asks for its API key" in page.inner_text("#status")
        page.fill("#key", "k")
        ask(page, text)
        page.click("#code summary")
        page.get_by_role("button", name="Copy the curl line").click()
        page.wait_for_selector("text=Copied: curl line.")
        line = page.inner_text("#curl")
        assert page.evaluate("navigator.clipboard.readText()") == line
        words = shlex.split(line.replace('"Authorization: Bearer $POLYTASK_API_KEY"', "KEY"))
        assert words[:2] == ["curl", str(client.base_url.join("/predict"))]
        assert words[2:6] == ["-H", "KEY", "-H", "Content-Type: application/json"]
        assert words[6] == "-d"
        assert json.loads(words[7]) == {"texts": [text]}


def test_refusals_are_told_in_words(serving: Any, stub: Any, browser: Any) -> None:
    with serving(stub, max_characters=10) as client, opened(browser, client.base_url, 400, told=2) as page:
        ask(page, "")
        assert page.inner_text("#status") == "Enter a text first."
        ask(page, "far too long a text")
        page.wait_for_selector("text=The request is too large.")
        assert "found 19 characters or more; at most 10" in page.inner_text("#status")
        ask(page, "fail")
        page.wait_for_selector("text=The server failed (500).")


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_everyone_can_read_the_page(scheme: Any, width: int, client: httpx.Client, browser: Any) -> None:
    with opened(browser, client.base_url, width, color_scheme=scheme) as page:
        page.wait_for_selector("#choices input")
        page.fill("#second", "It was good.")
        ask(page, "Ann liked the film in Lyon.")
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        check_accessible(page)
        cut = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.outerHTML)"
        assert page.eval_on_selector_all("button, h1, h2, td, th, p, pre, legend", cut) == []


def test_an_example_stands_ready_and_others_are_a_click_away(serving: Any, stub: Any, browser: Any) -> None:
    with serving(stub) as client, opened(browser, client.base_url) as page:
        page.wait_for_selector("#chips button")
        assert page.input_value("#first") == ENGLISH.texts[0]
        assert page.locator("#chips button").all_inner_texts() == list(ENGLISH.texts)
        page.click("#chips button:nth-child(2)")
        page.wait_for_selector("#answers section")
        assert stub.batches[-1] == [ENGLISH.texts[1]]
        page.click("#first")
        page.keyboard.type("mine")  # a text that was clicked is edited, not replaced
        assert ENGLISH.texts[1] in page.input_value("#first").replace("mine", "")


def test_examples_of_pairs_fill_both_texts(client: httpx.Client, browser: Any) -> None:
    with opened(browser, client.base_url) as page:
        page.wait_for_selector("#chips button")
        page.click("#chips button:nth-child(3)")
        until(lambda: page.locator("#answers section").count() == 6)
        assert (page.input_value("#first"), page.input_value("#second")) == ENGLISH.pairs[0]
        page.click("#chips button:nth-child(1)")
        until(lambda: page.locator("#answers section").count() == 5)
        assert page.input_value("#second") == ""


def test_examples_are_chinese_where_a_label_is(serving: Any, browser: Any, stub: Any) -> None:
    with serving(type(stub)(("好", "坏"))) as client, opened(browser, client.base_url) as page:
        page.wait_for_selector("#chips button")
        assert page.locator("#chips button").all_inner_texts() == list(CHINESE.texts)


def test_the_scores_of_the_model_folder_stand_on_the_page(serving: Any, stub: Any, browser: Any) -> None:
    evil = "<img src=x onerror=document.title='owned'>"
    scores = {"test": {"mood": {"accuracy": 0.5, "macro_f1": 0.4}}}
    stub.about = {"scores": scores, "encoder": f"/home/me/{evil}", "data": {"mood": {"rows": {"test": 321}}}}
    with serving(stub, name=evil) as client, opened(browser, client.base_url, 390) as page:
        page.wait_for_selector("#scores tbody tr")
        assert page.inner_text("#title") == f"Ask {evil}"
        assert page.title() == f"{evil} · polytask"
        assert page.locator("main img").count() == 0
        rows = page.eval_on_selector_all(
            "#scores tr", "all => all.map(row => [...row.cells].map(one => one.innerText))"
        )
        assert rows == [
            ["task", "metric", "dev", "test", "test rows"],
            ["mood", "accuracy", "–", "0.500", "321"],
            ["names", "f1", "–", "–", "–"],
        ]
        ask(page, "Ann")
        assert "accuracy 0.500 on test (321 rows)" in page.inner_text("#answers section:nth-child(1)")
        assert " on test" not in page.inner_text("#answers section:nth-child(2)")


NUMBERS = [
    # value, range, typical range -> ends, place of the needle and the band in percent, words
    (3.0, (1.0, 5.0), (2.0, 6.0), ["1", "5"], 50.0, (25.0, 75.0), ["from 1 to 5.", "between 2 and 6"]),
    (7.0, (1.0, 5.0), (2.0, 4.0), ["1", "7"], 100.0, (100 / 6, 200 / 6), ["This prediction lies outside."]),
    (-1.0, None, (0.0, 4.0), ["-1", "4"], 0.0, (20.0, 80.0), ["between 0 and 4", "outside"]),
]


@pytest.mark.parametrize(("value", "whole", "typical", "ends", "needle", "band", "words"), NUMBERS)
def test_a_number_is_drawn_on_the_scale_of_its_labels(
    value: float, whole: Any, typical: Any, ends: list[str], needle: float, band: Any, words: list[str],
    serving: Any, stub: Any, browser: Any,
) -> None:  # fmt: skip
    with serving(stub) as client, opened(browser, client.base_url, 390) as page:
        page.evaluate(
            "([value, range, typical_range]) => at('answers').append(...number(value, {range, typical_range}))",
            [value, whole, typical],
        )
        assert page.locator("#answers .ends span").all_inner_texts() == ends
        assert float(page.eval_on_selector(".track b", "one => one.style.left")[:-1]) == pytest.approx(needle)
        drawn = page.eval_on_selector(".track i", "one => [one.style.left, one.style.width].map(parseFloat)")
        assert drawn == pytest.approx(list(band), rel=1e-3)
        told = page.inner_text("#answers")
        assert all(part in told for part in words)
        assert math.isfinite(sum(drawn))


def test_a_level_is_drawn_on_its_scale_in_the_order_of_the_levels(serving: Any, stub: Any, browser: Any) -> None:
    found = {"level": "2", "expected": 4.6, "probabilities": {"10": 0.375, "2": 0.5, "3": 0.125}}
    with serving(stub) as client, opened(browser, client.base_url, 390) as page:
        page.evaluate(
            "([found, labels]) => at('answers').append(...level(found, {labels}, 'stars'))", [found, ["10", "3", "2"]]
        )
        assert page.locator("#answers .said").inner_text() == "2"
        heights = page.eval_on_selector_all(".levels i", "all => all.map(one => parseFloat(one.style.height))")
        assert heights == [37.5, 12.5, 50.0]
        assert page.locator(".levels .on").count() == 1
        assert page.locator("#answers th").all_inner_texts() == ["10", "3", "\u2713 2"]
        assert page.locator("#answers .ends span").all_inner_texts() == ["10", "2"]
        assert "Expected: 4.6." in page.inner_text("#answers")


def test_a_stated_range_is_told_as_one(serving: Any, stub: Any, browser: Any) -> None:
    with serving(stub) as client, opened(browser, client.base_url, 390) as page:
        page.evaluate("at('answers').append(...number(4, {range: [2, 4], answer_range: [1, 5]}))")
        assert page.locator("#answers .ends span").all_inner_texts() == ["1", "5"]
        assert "Predictions lie between 1 and 5." in page.inner_text("#answers")


def test_the_python_program_sends_the_same_request(serving: Any, stub: Any, browser: Any) -> None:
    text = 'It\'s a "test" {of} \\n \t\nlines \u2028 \U0001f600'
    with (
        serving(stub, api_key="k") as client,
        opened(browser, client.base_url, told=1, permissions=PERMISSIONS) as page,
    ):
        page.wait_for_selector("#key:visible")
        page.fill("#key", "k")
        ask(page, text)
        page.wait_for_selector("#code:visible")
        page.click("#code summary")
        page.get_by_role("button", name="Copy the Python program").click()
        page.wait_for_selector("text=Copied: Python program.")
        program = page.evaluate("navigator.clipboard.readText()")
        page.get_by_role("button", name="Copy the answer as JSON").click()
        page.wait_for_selector("text=Copied: answer as JSON.")
        answer = json.loads(page.evaluate("navigator.clipboard.readText()"))
        assert "'k'" not in program
        assert '"k"' not in program
        done = subprocess.run(
            [sys.executable, "-I", "-W", "error", "-c", program], capture_output=True, text=True, check=True,
            env={"POLYTASK_API_KEY": "k"},
        )  # fmt: skip
        assert stub.batches[-2:] == [[text], [text]]
        assert json.loads(done.stdout) == answer["predictions"]


def test_the_page_works_below_a_path(serving: Any, stub: Any, browser: Any) -> None:
    async def below(scope: Any, receive: Any, send: Any) -> None:
        """Take the path from a request, as a reverse proxy does."""
        if scope["type"] == "http":
            assert scope["path"].startswith("/models/mood/")
            path = scope["path"].removeprefix("/models/mood")
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await application(scope, receive, send)

    application = create_app(stub, ServeOptions())
    vars(below)["metrics"] = application.metrics
    with serving(below) as client, opened(browser, client.base_url.join("/models/mood/")) as page:
        ask(page, "Ann")
        assert page.locator("#answers section").count() == 2
        url = str(client.base_url.join("/models/mood/predict"))
        assert shlex.split(page.text_content("#curl"))[1] == url
        assert json.dumps(url) in page.text_content("#python")
