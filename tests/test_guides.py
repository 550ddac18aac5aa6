"""Each tutorial, how-to page and concept runs by itself, on a small model in place of the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pages import GUIDES, run_page, small, write_quickstart


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """The quickstart's data and configuration, and the model that `polytask train` makes of them: runs/reviews."""
    import polytask as pt

    found = tmp_path_factory.mktemp("guides")
    write_quickstart(found, tiny)
    pt.train(found / "quickstart" / "config.yaml", found / "runs" / "reviews")
    return found


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_guide_runs(page: Path, folder: Path, stand_ins: Path, tiny: Path) -> None:
    run_page(page, folder, stand_ins, small(tiny))


def test_every_how_to_page_has_something_to_run_and_is_short() -> None:
    from pages import blocks

    for page in GUIDES:
        if page.parent.name == "how-to":
            kinds = [kind for kind, note, _ in blocks(page) if not note]
            assert {"bash", "python", "yaml"} & set(kinds), page.name
            assert len(page.read_text("utf-8").splitlines()) <= 80, page.name
