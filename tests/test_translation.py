"""The Chinese pages are whole, say what the English ones say today, and keep their code, links and numbers."""

from __future__ import annotations

import re
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip("myst_parser")
pytest.importorskip("babel")
sys.path.insert(0, str(ROOT / "tools"))
import catalogues  # noqa: E402

# These stay translated: a change of one of them in English needs the same change in Chinese.
COMPLETE = {
    "adding-tasks", "auto", "balancing", "batch", "comparison", "concepts/why", "configuration", "data", "encoders",
    "engines", "exporting", "extending", "gallery", "how-to/add-a-task", "how-to/chinese", "how-to/data-with-gaps",
    "how-to/entities-and-classes", "how-to/export", "how-to/from-libmtl", "how-to/from-machamp",
    "how-to/from-trainer", "how-to/own-method", "how-to/resume", "how-to/separate-models", "how-to/serve",
    "how-to/several-gpus", "how-to/small-task", "how-to/tasks-that-need-each-other", "index", "onnx", "predicting",
    "python", "questions", "recipe", "relatedness", "reliability", "report", "scale", "scheduling", "serving",
    "sharing", "shipping", "start", "tasks/classification", "tasks/embedding", "tasks/matching", "tasks/mlm",
    "tasks/ordinal", "tasks/soft-labels", "tasks/spans", "tasks/tagging", "training", "tuning",
    "tutorials/1-two-tasks-one-model", "tutorials/2-does-sharing-pay", "tutorials/3-sharing-and-scheduling",
}  # fmt: skip
TIMES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "M": 10**6, "万": 10**4, "亿": 10**8}
NUMBER = re.compile(r"(?<![\w.])(\d+(?:,\d{3})*(?:\.\d+)?)(?: ?(thousand|million|billion|万|亿))?")
HAN = r"[\u4e00-\u9fff]"


@pytest.fixture(scope="module")
def english() -> dict[str, list[str]]:
    return catalogues.extract(ROOT / "docs")


def translated(page: str) -> list[tuple[str, str]]:
    catalogue = catalogues.read(catalogues.pages()[page])
    return [(str(message.id), str(message.string)) for message in catalogue if message.id and message.string]


def marks(text: str) -> Counter[str]:
    """Count what a text has besides its words: code, links' and pictures' targets, emphasis; it is one paragraph."""
    from markdown_it import MarkdownIt

    blocks = MarkdownIt("commonmark").parse(text)
    assert [block.type for block in blocks] == ["paragraph_open", "inline", "paragraph_close"], text
    found: Counter[str] = Counter()
    for token in blocks[1].children or ():
        if token.type == "code_inline":
            found[f"`{token.content}`"] += 1
        elif token.type in ("link_open", "image"):
            found[str(token.attrs.get("href") or token.attrs.get("src"))] += 1
        elif token.type in ("strong_open", "em_open"):
            found[token.type] += 1
        elif token.type == "text":
            found.update(re.findall(r"\{\w+\}|%\w|\*\*", token.content))
    return found


def numbers(text: str) -> Counter[Decimal]:
    """Count the numbers outside of code: 22 million is 2200 万."""
    words = re.sub(r"\]\([^)]*\)", "]", catalogues.CODE.sub(" ", text))
    found = (match.groups() for match in NUMBER.finditer(words))
    return Counter(Decimal(number.replace(",", "")) * TIMES.get(unit, 1) for number, unit in found)


def test_listed_pages_are_translated_whole(english: dict[str, list[str]]) -> None:
    assert sorted(catalogues.pages()) == sorted(COMPLETE)
    missing = []
    for page, path in catalogues.pages().items():
        catalogue = catalogues.read(path)
        for text in english.get(page, [f"docs/{page}.md is gone: rename its catalogue with it"]):
            entry = catalogue.get(text)
            if entry is None or not entry.string:
                missing.append(f"docs/{page}.md: not in Chinese (run make docs-catalogues): {text}")
    assert missing == []


def test_catalogues_hold_nothing_old_or_doubtful(english: dict[str, list[str]]) -> None:
    for page, path in catalogues.pages().items():
        catalogue = catalogues.read(path)
        assert [message.id for message in catalogue if message.id and message.fuzzy] == [], page
        assert list(catalogue.obsolete) == [], page
        assert [message.id for message in catalogue if message.id and message.id not in english[page]] == [], page


@pytest.mark.parametrize("page", catalogues.pages())
def test_translations_keep_code_links_and_numbers(page: str) -> None:
    for text, chinese in translated(page):
        before = marks(re.sub(r"^(\d+)\. ", r"\1\\. ", text))
        assert marks(chinese) == before, f"code, links or emphasis of: {chinese}"
        assert numbers(chinese.replace("\\", "")) == numbers(text), f"numbers of: {chinese}"


@pytest.mark.parametrize("page", catalogues.pages())
def test_chinese_is_set_as_chinese(page: str) -> None:
    """A space stands between Chinese and Latin letters, digits and code; punctuation is full-width."""
    for _, chinese in translated(page):
        shown = catalogues.CODE.sub("x", re.sub(r"\]\([^)]*\)", "]", chinese)).replace("*", "")
        assert re.findall(rf".{{0,8}}{HAN}[A-Za-z0-9].{{0,8}}|.{{0,8}}[A-Za-z0-9]{HAN}.{{0,8}}", shown) == []
        # Formulas keep their parentheses.
        assert re.findall(rf".{{0,8}}{HAN}[,;:?!]|[,;:?!]{HAN}.{{0,8}}|\([^()/+-]*{HAN}[^()/+-]*\)", shown) == []


def test_what_changed_in_english_is_named(
    english: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogues, "CATALOGUES", tmp_path)
    assert catalogues.update("start", english["start"]) == (len(english["start"]),) * 2
    old = catalogues.read(tmp_path / "start.po")
    first, second, *rest = english["start"]
    old[first].string, old[second].string = "甲", "乙"
    with (tmp_path / "start.po").open("wb") as file:
        catalogues.write_po(file, old)
    catalogues.update("start", [first, f"{second} And a word.", *rest])
    new = catalogues.read(tmp_path / "start.po")
    assert (new[first].string, new[first].fuzzy) == ("甲", False)
    assert (new[f"{second} And a word."].string, new[f"{second} And a word."].fuzzy) == ("乙", True)
    assert second not in new
    assert not new.obsolete


def test_a_second_update_keeps_the_marks_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogues, "CATALOGUES", tmp_path)
    (tmp_path / "page.po").write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'
        'msgid "A model for three tasks"\nmsgstr "三个任务的模型"\n',
        "utf-8",
    )
    for _ in range(3):
        assert catalogues.update("page", ["A model for four tasks"]) == (1, 1)
