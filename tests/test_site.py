"""The site is built without a warning, and its reference leaves nothing unsaid."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of some Chinese pages, without those made of the code: links to what is left out are not looked at."""
    pytest.importorskip("furo")
    folder = tmp_path_factory.mktemp("chinese")
    docs = folder / "docs"
    for part in ("_ext", "_static", "_templates", "locale"):
        shutil.copytree(ROOT / "docs" / part, docs / part)
    pages = sorted({"start", "sharing", "tasks/ordinal", *CHINESE_QUESTIONS.values()})
    for page in ("conf.py", *(f"{page}.md" for page in pages)):
        (docs / page).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "docs" / page, docs / page)
    contents = "\n".join(["# Contents\n\n```{toctree}", *pages, "new\n```\n"])
    (docs / "index.md").write_text(contents, "utf-8")
    (docs / "new.md").write_text("# A page of today\n", "utf-8")
    options = [
        "language=zh_CN",
        "extensions=myst_parser,languages",
        "suppress_warnings=myst.xref_missing,image.not_readable",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", *(f"-D{one}" for one in options),
         "docs", "html"], cwd=folder, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "html"


def test_pages_are_there_in_chinese(chinese: Path) -> None:
    pages = {name: (chinese / f"{name}.html").read_text("utf-8") for name in ("start", "tasks/ordinal", "new")}
    assert '<a href="../start.html" hreflang="en" lang="en">English</a>' in pages["start"]
    assert '<a href="../../tasks/ordinal.html" hreflang="en" lang="en">English</a>' in pages["tasks/ordinal"]
    assert '<section id="next-steps">' in pages["start"]  # links from elsewhere hold in both languages
    assert ["本页尚未翻译" in page for page in pages.values()] == [False, False, True]
    assert {"低秩", "秩增", "增量", "lora"} <= {*index_of(chinese)["terms"]}
    script = (chinese / "_static" / "language_data.js").read_text("utf-8")
    named = script.split("window.Stemmer = ")[1].split(";")[0]
    assert f"{named}=function" in script


def index_of(html: Path) -> dict[str, Any]:
    return json.loads((html / "searchindex.js").read_text("utf-8").removeprefix("Search.setIndex(").removesuffix(")"))


# What a reader asks in Chinese, and the page that has to be among the first two that are found.
CHINESE_QUESTIONS = {
    "怎么断点续训": "how-to/resume",
    "数据有缺失怎么办": "how-to/data-with-gaps",
    "哪个编码器适合中文": "how-to/chinese",
    "如何一次回答上亿条文本": "batch",
    "floor 是什么意思": "auto",
    "怎样用多个GPU训练": "how-to/several-gpus",
    "共享有用吗": "concepts/why",
    "什么是对照组": "comparison",
    "小任务怎么训练": "how-to/small-task",
    "实体和分类能一起训练吗": "how-to/entities-and-classes",
    "怎么导出模型": "how-to/export",
    "怎么从 Trainer 转过来": "how-to/from-trainer",
    "早停": "questions",
    "类别不平衡": "questions",
    "显存不够": "questions",
    "学习率怎么设": "questions",
    "混合精度": "questions",
    "验证集划分": "questions",
    "冻结编码器": "questions",
    "灾难性遗忘": "questions",
    "超参数搜索": "questions",
    "合并模型": "questions",
    "推理速度": "questions",
    "自定义损失函数": "questions",
    "零样本": "questions",
    "带噪声的标签": "questions",
    "训练要多久": "questions",
    "概率校准": "predicting",
    "多标签分类": "predicting",
    "怎么部署": "questions",
    "LoRA": "questions",
    "接口密钥": "how-to/serve",
    "离线": "questions",
    "多卡训练": "questions",
    "复现": "questions",
    "增量训练": "questions",
    "二分类阈值": "questions",
    "混淆矩阵": "questions",
}
# What a reader types in English, in words that need not all be on one page, and one of the first three that are found.
ENGLISH_QUESTIONS = {
    "early stopping": "questions",
    "class imbalance": "questions",
    "out of memory": "questions",
    "how do I freeze the encoder?": "questions",
    "validation split": "data",
    "calibrate probabilities": "predicting",
    "multi-label classification": "configuration",
    "nested entities": "tasks/spans",
    "label studio": "data",
    "pandas dataframe": "python",
    "docker": "questions",
    "quantization": "onnx",
    "api key": "serving",
    "knowledge distillation": "questions",
    "catastrophic forgetting": "questions",
    "hyperparameter search": "tuning",
    "tensorboard": "training",
    "sentence embeddings": "tasks/embedding",
    "streamlit demo": "questions",
    "error messages": "questions",
    "How can I resume a run?": "how-to/resume",
    "Which encoder should I use for Chinese?": "how-to/chinese",
    "What does floor mean?": "auto",
    "my training data has gaps": "how-to/data-with-gaps",
    "merge models": "questions",
    "huggingface hub upload": "exporting",
    "zero-shot labels": "questions",
    "negative transfer": "questions",
    "wandb": "questions",
    "decision threshold": "questions",
    "offline": "questions",
    "retrain with new data": "questions",
    "incremental training": "questions",
    "data augmentation": "questions",
    "roc auc": "questions",
    "dockerfile": "how-to/serve",
}
# The search of the site as a browser runs it, without a page around it.
SEARCH = """
const { readFileSync } = require("fs"), vm = require("vm"), [site, ...questions] = process.argv.slice(1);
const node = { firstChild: null, lastChild: null };
const document = { getElementById: () => node, addEventListener() {}, documentElement: { dataset: {} } };
const options = { DOCUMENTATION_OPTIONS: {}, SPHINX_HIGHLIGHT_ENABLED: false };
const context = { window: {}, document, ...options, _ready() {}, _: (text) => text };
vm.createContext(context);
for (const file of ["_static/language_data.js", "_static/searchtools.js", "searchindex.js"]) {
  vm.runInContext(readFileSync(`${site}/${file}`, "utf8"), context);
  if (file.includes("language")) vm.runInContext("var Stemmer = window.Stemmer;", context);
}
const search = (words) =>
  vm.runInContext(`Search._performSearch(...Search._parseQuery(${JSON.stringify(words)}))`, context).reverse();
console.log(JSON.stringify(questions.map((words) => search(words).map((found) => found[0]))));
"""


def search(html: Path, questions: Iterable[str]) -> dict[str, list[str]]:
    """Return the pages that the site's search finds for each question, the best first, each once."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("the search is a program of the browser, and no Node.js is here to run it")
    asked = list(questions)
    command = [node, "-e", SEARCH, str(html), *asked]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = dict(zip(asked, json.loads(done.stdout), strict=True))
    return {question: list(dict.fromkeys(pages)) for question, pages in found.items()}


def test_chinese_questions_find_their_pages(chinese: Path) -> None:
    found = search(chinese, CHINESE_QUESTIONS)
    assert {words: pages[:3] for words, pages in found.items() if CHINESE_QUESTIONS[words] not in pages[:2]} == {}


def test_english_questions_find_their_pages(site: Path) -> None:
    found = search(site / "html", ENGLISH_QUESTIONS)
    assert {words: pages[:4] for words, pages in found.items() if ENGLISH_QUESTIONS[words] not in pages[:3]} == {}


def test_words_that_no_page_has_find_nothing(site: Path) -> None:
    assert search(site / "html", ["xyzzy plugh"]) == {"xyzzy plugh": []}


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
