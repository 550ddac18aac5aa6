"""The page of a search shows what tune.json holds, says what is missing, and lets nothing through as markup."""

from __future__ import annotations

from pathlib import Path

import pytest
from folders import make_search

import polytask as pt
from polytask.errors import UserError


def page(folder: Path) -> str:
    return pt.report(folder).read_text("utf-8")


@pytest.mark.parametrize("count", [2, 30, 300])
def test_the_page_shows_the_best_trial_first_and_runs_nothing(count: int, tmp_path: Path) -> None:
    text = page(make_search(tmp_path / "search", count))
    assert f"Trial {count - 1} is the best by the mean gap between the dev scores and their baselines" in text
    assert "The original configuration (trial 0) has 0.5000" in text
    assert "(0.80 to 0.90)" in text
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert ("more trials are in tune.json" in text) == (count > 200)
    assert text.count("<svg") >= 4


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    folder = make_search(tmp_path / "search", importance=None, test={"problem": "the test rows could not be scored: x"})
    (folder / "best.yaml").unlink()
    text = page(folder)
    assert "the importance of the options is unknown" in text
    assert "the test rows could not be scored: x" in text
    assert "best.yaml is not in the folder" in text


def test_a_search_that_goes_on_and_one_that_cannot_be_read_have_a_page(tmp_path: Path) -> None:
    folder = make_search(tmp_path / "search")
    (folder / "search.json").write_text("{}", "utf-8")
    (folder / "tune.json").write_text("{", "utf-8")
    assert "tune.json is not JSON" in page(folder)
    (folder / "tune.json").unlink()
    assert "This search was stopped" in page(folder)
    assert "tune.json is not in the folder. Run the same command again" in page(folder)
    assert "trials/0000" in page(folder)


def test_a_folder_of_another_kind_is_told_of_searches(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nor a tuning \(tune\.json\).*train, compare, auto, tune or relate"):
        pt.report(tmp_path)
