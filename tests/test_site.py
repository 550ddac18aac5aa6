"""The site is built without a warning, and its reference leaves nothing unsaid."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site; its sources are a copy, so that nothing is written into the checkout."""
    pytest.importorskip("furo")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("_build", "reference"))
    shutil.copytree(ROOT / "examples", folder / "examples")  # pages link to the notebooks
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", "html"], cwd=folder,
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_every_option_has_a_meaning(site: Path) -> None:
    pages = sorted((site / "docs" / "reference").glob("options*.md"))
    assert len(pages) == 7
    options = [line for page in pages for line in page.read_text("utf-8").splitlines() if line.startswith("| `")]
    assert len(options) > 80
    assert [line for line in options if not line.split(" | ")[-1].strip(" |")] == []


def test_every_command_and_every_name_is_described(site: Path) -> None:
    import typer

    import polytask
    from polytask.cli import app

    commands = (site / "docs" / "reference" / "commands.md").read_text("utf-8")
    shown = {name for name, one in typer.main.get_command(app).commands.items() if not one.hidden}  # type: ignore[attr-defined]
    assert {line[len("## polytask ") :] for line in commands.splitlines() if line.startswith("## ")} == shown
    page = (site / "html" / "reference" / "python.html").read_text("utf-8")
    assert [name for name in polytask.__all__ if f'<span class="pre">{name}</span>' not in page] == []


def test_every_page_is_there_for_programs(site: Path) -> None:
    listed = (site / "html" / "llms.txt").read_text("utf-8")
    pages = sorted(page.relative_to(site / "html") for page in (site / "html").rglob("*.md"))
    assert len(pages) > 25
    assert [str(page) for page in pages if f"({page.as_posix()})" not in listed] == []
    assert (site / "html" / "data.md").read_bytes() == (ROOT / "docs" / "data.md").read_bytes()


def test_pages_are_there_in_chinese(tmp_path: Path) -> None:
    """A few pages, without those made of the code: links to what is left out are not looked at here."""
    pytest.importorskip("furo")
    docs = tmp_path / "docs"
    for part in ("_ext", "_static", "_templates", "locale"):
        shutil.copytree(ROOT / "docs" / part, docs / part)
    for page in ("conf.py", "start.md", "sharing.md", "tasks/ordinal.md"):
        (docs / page).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "docs" / page, docs / page)
    (docs / "index.md").write_text("# Contents\n\n```{toctree}\nstart\nsharing\ntasks/ordinal\nnew\n```\n", "utf-8")
    (docs / "new.md").write_text("# A page of today\n", "utf-8")
    options = ["language=zh_CN", "extensions=myst_parser,languages", "suppress_warnings=myst.xref_missing"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", *(f"-D{one}" for one in options),
         "docs", "html"], cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    html = tmp_path / "html"
    pages = {name: (html / f"{name}.html").read_text("utf-8") for name in ("start", "tasks/ordinal", "new")}
    assert '<a href="../start.html" hreflang="en" lang="en">English</a>' in pages["start"]
    assert '<a href="../../tasks/ordinal.html" hreflang="en" lang="en">English</a>' in pages["tasks/ordinal"]
    assert '<section id="and-then">' in pages["start"]  # links from elsewhere hold in both languages
    assert ["本页尚未翻译" in page for page in pages.values()] == [False, False, True]
    index = json.loads((html / "searchindex.js").read_text("utf-8").removeprefix("Search.setIndex(").removesuffix(")"))
    assert {"低秩", "秩增", "增量", "lora"} <= {*index["terms"]}
    script = (html / "_static" / "language_data.js").read_text("utf-8")
    named = script.split("window.Stemmer = ")[1].split(";")[0]
    assert f"{named}=function" in script


# What a reader asks; the words that he types; the page and heading that answer.
QUESTIONS = {
    "How do I begin with a CSV file?": ("csv served model", "start#from-a-csv-file-to-a-served-model"),
    "My rows have gaps": ("data gaps", "how-to/data-with-gaps#train-on-your-own-data-with-gaps"),
    "Which formats are read?": ("data", "data#an-example-of-each"),
    "How do I resume?": ("resume", "how-to/resume#resume-an-interrupted-run"),
    "What does floor mean?": ("floor", "auto#what-a-floor-can-promise"),
    "What is a verdict?": ("verdicts", "comparison#the-verdicts"),
    "Which encoder for Chinese?": ("chinese encoder", "how-to/chinese#train-on-chinese-texts-which-encoder"),
    "A small task beside a large one": ("small task", "how-to/small-task#train-a-small-task-beside-a-large-one"),
    "Entities and classes together": ("entities classification", "how-to/entities-and-classes"),
    "One task needs another": ("tasks need", "how-to/tasks-that-need-each-other#train-tasks-that-need-each-other"),
    "When is one model a task better?": ("separate models", "how-to/separate-models#when-separate-models-win"),
    "How do I use several GPUs?": ("gpus", "how-to/several-gpus#train-on-several-gpus"),
    "How do I serve it?": ("serve", "how-to/serve#serve-a-model-over-http"),
    "How do I export to ONNX?": ("onnx", "onnx"),
    "How do I export it?": ("export", "how-to/export#export-a-model"),
    "How do I add a task?": ("add task", "how-to/add-a-task#add-a-task-later"),
    "A balancer of my own": ("method own", "how-to/own-method"),
    "I know Trainer": ("trainer", "how-to/from-trainer#coming-from-transformers-trainer"),
    "I know MaChAmp": ("machamp", "how-to/from-machamp#coming-from-machamp"),
    "I know LibMTL": ("libmtl", "how-to/from-libmtl#coming-from-libmtl"),
    "What is replay?": ("sequential", "scheduling#sequential"),
    "Which learning rate is the default?": ("default recipe", "recipe#the-default-recipe"),
    "Texts are longer than the model reads": ("long texts", "predicting#long-texts"),
    "Does sharing help at all?": ("sharing help", "concepts/why#does-sharing-help"),
    "What does an option mean?": ("options", "reference/options#all-options"),
}


def test_questions_are_answered_where_their_words_lead(site: Path) -> None:
    index = (site / "html" / "searchindex.js").read_text("utf-8")
    found = json.loads(index[index.index("(") + 1 : index.rindex(")")])
    titles: dict[str, list[str]] = {name: [] for name in found["docnames"]}
    for title, places in found["alltitles"].items():
        for place, _ in places:
            titles[found["docnames"][place]].append(title.lower())
    assert len(QUESTIONS) >= 20
    for question, (words, answer) in QUESTIONS.items():
        page, _, heading = answer.partition("#")
        shown = " ".join(titles[page])
        assert [word for word in words.split() if word not in shown] == [], question
        html = (site / "html" / f"{page}.html").read_text("utf-8")
        assert not heading or f'id="{heading}"' in html, f"{question}: {answer}"


def test_every_page_of_the_docs_is_in_the_contents() -> None:
    contents = (ROOT / "docs" / "index.md").read_text("utf-8")
    pages = [page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    written = [page for page in pages if not page.startswith(("reference/", "_build/", "locale/")) and page != "index"]
    assert [page for page in written if f"\n{page}\n" not in contents] == []
