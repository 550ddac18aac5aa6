"""Every page in light and dark colours, wide and on a phone: readable, announced, and usable by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from folders import make_auto, make_comparison, make_relatedness, make_run, make_search

import polytask
from browsing import check_accessible, needs_chromium, started

pytestmark = needs_chromium

FOLDERS: dict[str, Callable[[Path], Path]] = {
    "run": lambda folder: make_run(folder, 2),
    "comparison": lambda folder: make_comparison(folder, 2),
    "relatedness": lambda folder: make_relatedness(folder, 2),
    "tuning": lambda folder: make_search(folder, 6),
    "auto": lambda folder: make_auto(folder, 2),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as browser:
        yield browser


# All pages have the colours of one sheet: that the others can be read in the dark is looked at with the slow tests.
DARK = [pytest.param(name, "dark", 1280, marks=[pytest.mark.slow] if name != "run" else []) for name in FOLDERS]


@pytest.mark.parametrize(("name", "scheme", "width"), [*((name, "light", 390) for name in FOLDERS), *DARK])
def test_everyone_can_read_a_page(name: str, scheme: Any, width: int, browser: Any, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(polytask.report(FOLDERS[name](tmp_path / "folder")).as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    check_accessible(page, colours_only=scheme == "dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_the_keyboard_reaches_every_section_and_shows_where_it_is(browser: Any, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(polytask.report(make_run(tmp_path / "run")).as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    reached: set[str] = set()
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        if page.evaluate("document.activeElement.tagName === 'SUMMARY'"):
            page.keyboard.press("Space")
            assert page.evaluate("document.activeElement.parentElement.open")
        reached.add(page.evaluate("document.activeElement.closest('section')?.id ?? ''"))
    holds = "all => all.filter(one => one.querySelector('a, summary, [tabindex]')).map(one => one.id)"
    assert reached - {""} == set(page.eval_on_selector_all("section", holds))
    page.close()
