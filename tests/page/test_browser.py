"""Pages in a browser: nothing to complain of in its console, drawings with marks, no text over another, no overflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from folders import make_auto, make_comparison, make_relatedness, make_run, make_search

import polytask
from browsing import needs_chromium, started

pytestmark = needs_chromium

LABELS = [f"a rather long label {index}" for index in range(20)] + ["other"]
FOLDERS: dict[str, Callable[[Path], Path]] = {
    "run": lambda folder: make_run(folder),
    "run of twelve tasks": lambda folder: make_run(folder, 12),
    "run of one task": lambda folder: make_run(folder, 1),
    "run of many labels": lambda folder: make_run(folder, 2, LABELS),
    "run that goes on": lambda folder: make_run(folder, finished=False),
    "comparison": lambda folder: make_comparison(folder),
    "comparison of twelve tasks": lambda folder: make_comparison(folder, 12),
    "relatedness": lambda folder: make_relatedness(folder),
    "relatedness of twelve tasks": lambda folder: make_relatedness(folder, 12),
    "tuning": lambda folder: make_search(folder),
    "auto": lambda folder: make_auto(folder),
}

# What a drawing holds, as the browser laid it out.
MEASURE = """() => [...document.querySelectorAll("svg")].map(svg => ({
    label: svg.getAttribute("aria-label"),
    box: (box => [box.left, box.top, box.right, box.bottom])(svg.getBoundingClientRect()),
    marks: [...svg.querySelectorAll("circle,polygon,polyline,rect,path")].map(mark => {
        const box = mark.getBBox();
        return [box.x, box.y, box.width, box.height];
    }),
    texts: [...svg.querySelectorAll("text")].map(text => {
        const box = text.getBoundingClientRect();
        return [text.firstChild.textContent, box.left, box.top, box.right, box.bottom];
    }),
}))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as browser:
        yield browser


@pytest.mark.parametrize("width", [pytest.param(1280, marks=pytest.mark.slow), 390])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_page_is_drawn_without_overlap_or_overflow(name: str, width: int, browser: Any, tmp_path: Path) -> None:
    path = polytask.report(FOLDERS[name](tmp_path / "folder"))
    page = browser.new_page(viewport={"width": width, "height": 900})
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: told.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    drawings = page.evaluate(MEASURE)
    wide = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert told == []
    assert wide <= width
    assert len(drawings) >= 3
    for drawing in drawings:
        assert any(width > 0 or height > 0 for _, _, width, height in drawing["marks"]), drawing["label"]
        assert all(abs(value) < 10_000 for mark in drawing["marks"] for value in mark), drawing["label"]
        check_texts(drawing)


def check_texts(drawing: dict[str, Any]) -> None:
    """Each text lies in its drawing, and over no other text."""
    left, top, right, bottom = drawing["box"]
    texts = drawing["texts"]
    for place, (text, x1, y1, x2, y2) in enumerate(texts):
        assert left - 1 <= x1, (drawing["label"], text)
        assert x2 <= right + 1, (drawing["label"], text)
        assert top - 2 <= y1, (drawing["label"], text)
        assert y2 <= bottom + 2, (drawing["label"], text)
        for other, a1, b1, a2, b2 in texts[:place]:
            apart = x2 <= a1 + 0.5 or a2 <= x1 + 0.5 or y2 <= b1 + 1.5 or b2 <= y1 + 1.5
            assert apart, (drawing["label"], text, other)
