"""Every command and code block of the README and the docs runs, on a small model in place of the real one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pages import GUIDES, KINDS, PAGES, ROOT, blocks, run_page, write_quickstart

CHINESE = ROOT / "README.zh-CN.md"
ALL = [*PAGES, *GUIDES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A folder with a third of the quickstart's data and its configuration, on the tiny encoder, for sixteen steps."""
    found = tmp_path_factory.mktemp("docs")
    write_quickstart(found, tiny)
    return found


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    for page in ALL:
        assert {kind for kind, _, _ in blocks(page)} <= KINDS, page


def test_commands_and_programs_run_in_the_order_of_the_page(folder: Path, stand_ins: Path) -> None:
    assert sum(run_page(page, folder, stand_ins) for page in PAGES) >= 4


def test_make_commands_are_targets() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    found = [
        word for page in ALL for kind, note, text in blocks(page) if note == "make"
        for word in re.findall(r"^make (\w+)", text, re.MULTILINE)
    ]  # fmt: skip
    assert {"quickstart", "test"} <= set(found) <= targets


def test_benchmark_commands_name_modules_that_are_there() -> None:
    for page in ALL:
        for kind, note, text in blocks(page):
            if note == "benchmark":
                assert kind == "bash"
                for module in re.findall(r"-m ([\w.]+)", text):
                    if module.startswith("benchmarks"):
                        assert (ROOT / f"{module.replace('.', '/')}.py").exists() or (ROOT / module).is_dir(), text


def test_configurations_of_the_docs_are_valid() -> None:
    from polytask.config import validate

    # Those of extensions run in tests/extending.
    plain = [text for page in ALL for kind, note, text in blocks(page) if kind == "yaml" and note != "extension"]
    found = [yaml.safe_load(text) for text in plain]
    assert len(found) >= 2
    for values in found:
        validate(values)


def test_the_options_table_names_every_option_of_training() -> None:
    from polytask.training.options import TrainOptions

    page = (ROOT / "docs" / "training.md").read_text("utf-8")
    missing = [name for name in TrainOptions.model_fields if f"`{name}`" not in page]
    assert not missing


def test_the_options_table_names_every_option_of_a_task() -> None:
    from polytask.tasks import TASKS

    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    names = {name for kind in TASKS.values() for name in kind.Options.model_fields} - {"separator", "threshold"}
    assert not [name for name in sorted(names) if f"`{name}`" not in page]


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*ALL, CHINESE]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            if link not in ("PER", "ORG", "LOC", "WORK"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_chinese_readme_has_the_same_commands_and_programs() -> None:
    def without_comments(page: Path) -> list[tuple[str, str, list[str]]]:
        return [
            (kind, note, [re.sub(r"\s+#.*", "", line) for line in text.splitlines()])
            for kind, note, text in blocks(page)
        ]

    assert without_comments(CHINESE) == without_comments(ROOT / "README.md")


def test_the_chinese_readme_leads_where_the_english_one_does() -> None:
    def links(page: Path) -> list[str]:
        return sorted(re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")))

    assert [link for link in links(CHINESE) if link != "README.md"] == [
        link for link in links(ROOT / "README.md") if link != "README.zh-CN.md"
    ]


def test_both_readmes_show_the_same_figures() -> None:
    def figures(page: Path) -> list[str]:
        return sorted(re.findall(r"\d+\.\d+", page.read_text("utf-8")))

    assert figures(CHINESE) == figures(ROOT / "README.md")


def lines_of(page: Path) -> list[str]:
    """Return the example lines of the table of formats."""
    rows = [line for line in page.read_text("utf-8").splitlines() if line.startswith("|")]
    cells = [row.split("|")[2] for row in rows if row.count("|") == 3]
    return [code for cell in cells for code in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize("page", [ROOT / "README.md", CHINESE], ids=["English", "Chinese"])
def test_the_example_line_of_each_format_is_read(page: Path, tiny: Path, tmp_path: Path) -> None:
    import polytask as pt

    found = lines_of(page)
    answered, pre_tokenized, spanned = (line for line in found if line.startswith("{"))
    table, header = sorted((line for line in found if line.endswith((",5", ",stars"))), key=len, reverse=True)
    word = next(line for line in found if line.endswith(" I-PER"))
    first = json.loads(pre_tokenized)["tokens"][0]
    sentence = f"{first} B-PER\n{word}\n. O\n\n"
    tasks = {
        "table.jsonl": (
            f"{answered}\n{answered.replace('positive', 'negative')}\n",
            {"type": "classification", "label": "sentiment"},
        ),
        "table.csv": (f"{header}\n{table}\n{table[:-1]}4\n", {"type": "regression", "label": "stars"}),
        "tokens.jsonl": (pre_tokenized + "\n", {"type": "tagging"}),
        "words.conll": (sentence, {"type": "tagging"}),
        "spans.jsonl": (spanned + "\n", {"type": "tagging", "tags": "label"}),
    }
    config: dict[str, Any] = {"encoder": str(tiny), "tasks": {}}
    for name, (text, options) in tasks.items():
        (tmp_path / name).write_text(text, "utf-8")
        data = {split: str(tmp_path / name) for split in ("train", "dev")}
        config["tasks"][name.replace(".", "_")] = {**options, "data": data}
    shown = str(pt.check(config))
    assert "PER" in shown


def test_examples_are_valid_configurations() -> None:
    from polytask.config import load_config

    examples = sorted((ROOT / "examples").glob("*.yaml"))
    assert examples
    for example in examples:
        assert load_config(example).tasks
