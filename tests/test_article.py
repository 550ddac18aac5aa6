"""The tutorial on sharing and scheduling shows what its benchmark kept, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from benchmarks import article

from pages import DOCS, blocks

PAGE = DOCS / "tutorials" / "3-sharing-and-scheduling.md"


def test_tables_and_figures_are_those_of_the_kept_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    article.show(article.kept(), tmp_path)
    text = PAGE.read_text("utf-8")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) > 15
    assert [row for row in rows if row not in text] == []
    drawn = sorted(tmp_path.iterdir())
    assert [file.name for file in drawn] == sorted(re.findall(r"\.\./images/([\w-]+\.svg)", text))
    for file in drawn:
        assert file.read_bytes() == (DOCS / "images" / file.name).read_bytes()
        assert file.stat().st_size < 100_000


def test_the_arms_of_the_page_are_those_of_the_benchmark() -> None:
    (shown,) = (text for kind, _, text in blocks(PAGE) if kind == "text" and text.startswith("global:"))
    assert {name: change or {} for name, change in yaml.safe_load(shown).items()} == article.ARMS
