"""A browser for the tests of pages, and what every page must be: readable and usable without a mouse."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium (Debian's package of that name) is missing")

# The contrast of every text of every drawing with what lies behind it (WCAG 2, success criterion 1.4.3), which axe
# leaves out: with the last filled rectangle that is drawn before the text and holds its middle, or else with the page;
# both colours as the filter of the drawing shows them.
CONTRASTS = """() => {
    const channels = text => text.match(/[\\d.]+/g).map(Number);
    const bounded = value => Math.min(255, Math.max(0, value));
    const inverted = ([r, g, b]) => [r, g, b].map(value => 255 - value);
    const turned = ([r, g, b]) => [  // hue-rotate(180deg), by the matrix of the specification
        -0.574 * r + 1.43 * g + 0.144 * b, 0.426 * r + 0.43 * g + 0.144 * b, 0.426 * r + 1.43 * g - 0.856 * b,
    ].map(bounded);
    const light = colour => {
        const [r, g, b] = colour.map(value => value / 255).map(
            value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = channels(getComputedStyle(document.body).backgroundColor).slice(0, 3);
    return [...document.querySelectorAll("svg text")].filter(text => text.getClientRects().length).map(text => {
        const svg = text.closest("svg");
        const shown = getComputedStyle(svg).filter === "none" ? colour => colour : colour => turned(inverted(colour));
        const box = text.getBoundingClientRect();
        const [x, y] = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
        let behind = ground;
        for (const shape of svg.querySelectorAll("rect")) {
            const place = shape.getBoundingClientRect();
            const fill = getComputedStyle(shape).fill;
            const before = shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING;
            if (before && fill !== "none" && place.left <= x && x <= place.right && place.top <= y && y <= place.bottom)
                behind = shown(channels(fill).slice(0, 3));
        }
        const [one, other] = [shown(channels(getComputedStyle(text).fill).slice(0, 3)), behind].map(light);
        return [text.firstChild.textContent, (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05)];
    });
}"""


@contextmanager
def started() -> Iterator[Any]:
    """Start the browser for as long as the block lasts."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as manager:
        browser = manager.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def check_accessible(page: Any, *, colours_only: bool = False) -> None:
    """Assert that axe finds nothing, by all of its rules, best practices included, and that drawings can be read."""
    options: dict[str, Any] = {"resultTypes": ["violations"], **({"runOnly": ["cat.color"]} if colours_only else {})}
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    violations = axe.Axe().run(page, options=options).response["violations"]
    assert not [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in violations]
    assert not [(text, ratio) for text, ratio in page.evaluate(CONTRASTS) if ratio < 4.5]
