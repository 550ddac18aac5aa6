"""The page in a browser: every kind of answer, entities in their places, by keyboard, on a phone, no markup."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from browsing import needs_chromium, started

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


@pytest.mark.parametrize("width", [1280, 400])
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
        assert "Most of the training texts" in page.locator("#answers section").nth(3).inner_text()
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
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
        for _ in range(4):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate("document.activeElement.labels?.[0]?.textContent ?? document.activeElement.textContent")
            )
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert reached == ["Text", "mood", "names", "Answer"]
        page.focus("#first")
        page.keyboard.type("Ann and Bob")
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
        assert page.get_attribute("#curl", "open") is None  # that was the list of entities
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
        page.click("#curl summary")
        page.click("#copy")
        page.wait_for_selector("text=Copied.")
        line = page.inner_text("#line")
        assert page.evaluate("navigator.clipboard.readText()") == line
        words = shlex.split(line.replace('"Authorization: Bearer $POLYTASK_API_KEY"', "KEY"))
        assert words[:2] == ["curl", str(client.base_url.join("/predict"))]
        assert words[2:6] == ["-H", "KEY", "-H", "Content-Type: application/json"]
        assert words[6] == "-d"
        assert json.loads(words[7]) == {"texts": [text]}


def test_refusals_are_told_in_words(serving: Any, stub: Any, browser: Any) -> None:
    with serving(stub, max_characters=10) as client, opened(browser, client.base_url, 400, told=2) as page:
        ask(page, "")
        assert page.inner_text("#status") == "Type a text first."
        ask(page, "far too long a text")
        page.wait_for_selector("text=That is too much at once.")
        assert "found 19 characters or more; at most 10" in page.inner_text("#status")
        ask(page, "fail")
        page.wait_for_selector("text=The server failed (500).")
