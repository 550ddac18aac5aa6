"""`polytask export --to onnx`: the folder answers and scores as the model in torch does, with no torch to be had."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

import polytask as pt
from polytask.cli import app
from polytask.data.cache import file_digest
from polytask.data.words import split_words
from polytask.errors import ConfigError, DataError, MissingExtra, ModelError, OutputError
from polytask.exports import onnx as exporting
from polytask.exports import parity
from polytask.files import write_json
from polytask.predict import onnx_engine
from samples import close, corpus_rows, write_jsonl

TEXTS = [
    "Ingrid's café in Lyon was not bad at all.",
    "never again",
    "A very long sentence about trains, ferries and hotels, which goes on and on so that it is padded differently.",
    "日本の映画 is great 🙂",
    "\x00\x01",
    "",
    "word " * 200,
    "bad \ud800 character",
]
RECORDS: list[Any] = [
    *TEXTS,
    {"text": "Lee's film", "tokens": ["Lee", "'s", "film"]},
    {"tokens": ["Lee", "'s"]},
    {"one": "The food was cold.", "two": "A cold dish", "text": "Both of them"},
    ("A film", "about a film"),
]
pytestmark = pytest.mark.usefixtures("drawn_once")
# A program that cannot import what an ONNX folder promises to do without.
WITHOUT = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {without!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Nothing())
from polytask.cli import main
sys.argv = ["polytask", *sys.argv[1:]]
main()
"""
HEAVY = ["torch", "transformers", "safetensors", "datasets", "pyarrow", "scipy", "sklearn", "onnx", "onnxscript"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def run(home: Path, tiny: Path) -> Path:
    """A run with tasks of rows and words, a pair, a chain, spans, a cascade, and two branches."""
    rows: list[dict[str, Any]] = [
        row | {"topics": [row["topic"]] if index % 3 else [], "length": len(row["text"]) / 100,
               "spans": [[0, (row["text"] + " ").index(" "), "FIRST"], [0, len(row["text"]) // 2, "HALF"]],
               "one": row["text"], "two": row["text"][:20], "match": index % 2}
        for index, row in enumerate(corpus_rows(60))
        if {"sentiment", "topic", "tags"} <= row.keys()
    ]  # fmt: skip
    write_jsonl(home / "train.jsonl", rows[::2])
    write_jsonl(home / "dev.jsonl", rows[1::2])
    files = {"train": str(home / "train.jsonl"), "dev": str(home / "dev.jsonl")}
    values = {
        "encoder": str(tiny),
        "max_tokens": 48,
        "tasks": {
            "sentiment": {"type": "classification", "data": files, "label": "sentiment", "pooling": "cls"},
            "topics": {"type": "multilabel", "data": files, "label": "topics"},
            "length": {"type": "regression", "data": files, "label": "length"},
            "match": {"type": "classification", "data": files, "label": "match", "text_pair": ["one", "two"]},
            "entities": {
                "type": "tagging", "data": files, "needs": ["sentiment"], "reads": {"sentiment": "probabilities"},
            },
            "chained": {"type": "tagging", "data": files, "crf": True},
            "mentions": {"type": "spans", "data": files, "max_span": 12},
        },
        "sharing": {"strategy": "partial", "shared_layers": 1},
        "train": {"max_steps": 40, "batch_size": 16, "learning_rate": 5e-3, "precision": "fp32"},
    }  # fmt: skip
    pt.train(values, home / "run")
    return home / "run"


@pytest.fixture(scope="module")
def exported(run: Path, home: Path, drawn_once: None) -> Path:
    given = ["--to", "onnx", "--data", str(home / "dev.jsonl"), "--out", str(home / "exported")]
    done = CliRunner().invoke(app, ["export", str(run), *given])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(home / "exported")
    assert "sentiment: outputs differ by at most" in done.stderr
    return home / "exported"


@pytest.fixture(scope="module")
def quantised(run: Path, home: Path, drawn_once: None) -> Path:
    found = pt.export(run, home / "int8", to="onnx", quantize="int8", max_loss=100)
    assert found.notes[0] == f"compared on the dev rows of {run}, which also chose its model; --data names other rows"
    assert all(re.search(r" on 2\d rows", note) for note in found.notes[1:]), found.notes
    return home / "int8"


def test_answers_are_those_of_the_model_in_torch(run: Path, exported: Path) -> None:
    torch_model, model = pt.load(run / "model"), pt.load(exported)
    assert model.engine.describe() == {"runtime": "onnx", "device": "cpu", "precision": "fp32"}
    answers = [answer.to_json() for answer in model.answers(RECORDS)]
    assert close(answers, [answer.to_json() for answer in torch_model.answers(RECORDS)])
    assert [answer.get("truncated", False) for answer in answers] == [text == TEXTS[6] for text in TEXTS] + [False] * 4
    assert {task for answer in answers for task in answer["predictions"]} == set(model.tasks)
    assert close(model.predict(RECORDS[::-1])[::-1], model.predict(RECORDS))
    assert close(model.predict(TEXTS, ["length", "entities"]), torch_model.predict(TEXTS, ["length", "entities"]))


@pytest.mark.parametrize("kind", ["exported", "quantised"])
def test_padding_and_neighbours_never_change_an_output(kind: str, request: pytest.FixtureRequest) -> None:
    model = pt.load(request.getfixturevalue(kind))
    texts = TEXTS[:-1]  # half a surrogate pair is replaced before the tokenizer sees it
    rows = model.tokens.rows(texts, None, [split_words(text) for text in texts])
    names = tuple(task for task in model.tasks if task != "match")
    together = model.engine.run(rows, [names] * len(rows))
    for row, outputs in zip(rows, together, strict=True):
        (alone,) = model.engine.run([row], [names])
        for task in names:
            assert alone[task].shape == outputs[task].shape
            assert abs(alone[task] - outputs[task]).max(initial=0.0) < 1e-5, task


def test_scores_are_those_of_the_model_in_torch(run: Path, exported: Path, home: Path) -> None:
    files = {"all": str(home / "dev.jsonl")}
    expected = pt.evaluate(run / "model", files).scores
    assert close(pt.evaluate(exported, files).scores, expected)
    report = json.loads((exported / "parity.json").read_text("utf-8"))
    assert list(report["tasks"]) == list(expected)
    for task, found in report["tasks"].items():
        assert found["difference"] < 1e-5
        assert found["rows"] > 20
        assert close(found["before"], expected[task])
        assert close(found["after"], expected[task])
        assert found["lost"] == pytest.approx(0, abs=1e-3)
        assert found["agreement"] in (1.0, None if task == "length" else 1.0)
    assert report["bytes_of_files"]["model.onnx"] == (exported / "model.onnx").stat().st_size
    assert {"torch", "onnx", "onnxruntime"} <= report["versions"].keys()
    card = (exported / "README.md").read_text("utf-8")
    assert "topics: outputs differ by at most" in card


@pytest.mark.slow
def test_without_data_the_corpus_is_compared(run: Path, tmp_path: Path) -> None:
    found = pt.export(run, tmp_path / "out", to="onnx", tasks=["topics", "match"])
    assert list(pt.load(tmp_path / "out").predict(["A film"])[0]) == ["topics"]
    tasks = json.loads((tmp_path / "out" / "parity.json").read_text("utf-8"))["tasks"]
    assert {name: told["rows"] for name, told in tasks.items()} == {"topics": 256, "match": 256}
    assert all(told["difference"] < 1e-5 and told["lost"] is None for told in tasks.values())
    assert found.notes[0].startswith("topics: outputs differ by at most")


def answered(program: str, folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, "predict", str(folder)],
        input=text, capture_output=True, text=True, check=False, encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_the_folder_is_answered_from_without_torch(exported: Path, quantised: Path) -> None:
    lines = [text for text in TEXTS if text.isprintable() and text.strip()]
    for folder in (exported, quantised):
        done = answered(WITHOUT.format(without=HEAVY), folder, "\n".join(lines))
        assert done.returncode == 0, done.stderr
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["text"] for line in found] == lines
        assert close([line["predictions"] for line in found], pt.load(folder).predict(lines))


def test_the_folder_is_served_without_torch(exported: Path, quantised: Path) -> None:
    texts = TEXTS[:4]
    for folder in (exported, quantised):
        command = [sys.executable, "-W", "error", "-c", WITHOUT.format(without=HEAVY), "serve", str(folder)]
        server = subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True, encoding="utf-8")
        assert server.stderr is not None
        with server:
            lines = [json.loads(server.stderr.readline())]
            while lines[-1].get("event") != "listening":
                lines.append(json.loads(server.stderr.readline()))
            answer = httpx.post(lines[-1]["url"] + "/predict", json={"texts": texts}, timeout=60)
            server.terminate()
        assert answer.status_code == 200
        found = answer.json()["predictions"]
        assert close(found, pt.load(folder).predict(texts))


def test_long_texts_are_read_in_windows_as_in_torch(run: Path, exported: Path) -> None:
    long = " ".join(text for text in TEXTS[:4] for _ in range(6))
    texts = [long, TEXTS[1], TEXTS[6]]
    tasks = ["sentiment", "topics", "length", "entities"]
    expected, found = (list(pt.load(one).answers(texts, tasks, long="windows")) for one in (run / "model", exported))
    assert [answer.windows for answer in found] == [answer.windows for answer in expected]
    assert found[0].windows > 2
    assert close([answer.to_json() for answer in found], [answer.to_json() for answer in expected])


def test_a_missing_runtime_names_its_install_command(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = answered(WITHOUT.format(without=["onnxruntime"]), exported, "a text")
    assert done.returncode == 2
    assert "pip install 'polytask[onnx-runtime]'" in done.stderr
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"needs the package 'onnxruntime'.*pip install 'polytask\[onnx-runtime\]'"):
        pt.load(exported)


def test_a_missing_exporter_names_its_install_command(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'polytask\[export\]'"):
        pt.export(run, tmp_path / "out", to="onnx")


def test_int8_is_small_and_close(exported: Path, quantised: Path) -> None:
    full, small = ((folder / "model.onnx").stat().st_size for folder in (exported, quantised))
    assert small < 0.5 * full  # the tiny encoder is nearly all scales
    model = pt.load(quantised)
    assert model.engine.describe()["precision"] == "int8"
    told = json.loads((quantised / "parity.json").read_text("utf-8"))
    assert told["quantize"] == "int8"
    assert told["max_loss"] == 100
    for found in told["tasks"].values():
        assert 0 < found["difference"] < 0.1


def test_int8_needs_labelled_rows_of_every_task(run: Path, home: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "away")
    with pytest.raises(
        ConfigError, match=r"found 'int8'; the loss is measured.*add data: --data FILE, or export the f"
    ):
        pt.export(tmp_path / "away", tmp_path / "out", to="onnx", quantize="int8")
    shutil.rmtree(tmp_path / "away")
    with pytest.raises(
        ConfigError, match=r"no labelled rows to score topics, length, match, entities, chained, mentions on"
    ):
        pt.export(run, tmp_path / "out", to="onnx", quantize="int8", data={"sentiment": str(home / "dev.jsonl")})
    assert list(tmp_path.iterdir()) == []


def test_every_file_that_the_command_names_is_read(run: Path, home: Path, tmp_path: Path) -> None:
    given = ["--to", "onnx", "--data", str(tmp_path / "missing.jsonl"), "--data", str(home / "dev.jsonl")]
    done = CliRunner().invoke(app, ["export", str(run), *given, "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, DataError)
    assert "missing.jsonl: no such file" in str(done.exception)


def test_int8_is_refused_when_a_task_loses_more_than_is_allowed(
    run: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = {
        "sentiment": 1.5,
        "topics": float("nan"),
        "length": -3.0,
        "match": 1.0,
        "entities": 0.0,
        "chained": 0.0,
        "mentions": 0.0,
    }
    monkeypatch.setattr(parity, "lost_points", lambda task, before, after: lost[task.name])
    given = ["--to", "onnx", "--quantize", "int8", "--data", str(home / "dev.jsonl"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["export", str(run), *given])
    assert isinstance(done.exception, ModelError)
    assert "int8 is rejected: sentiment loses 1.50, topics loses nan points, but --max-loss allows 1" in str(
        done.exception
    )
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_computes_something_else_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match=r"the graph's outputs for sentiment, .* differ from torch's by"):
        pt.export(run, tmp_path / "out", to="onnx")
    assert list(tmp_path.iterdir()) == []


def test_lost_points_are_hundredths_of_the_main_metric() -> None:
    class One:
        metric = "accuracy"

    class Error(One):
        metric = "mae"

    lost: Any = parity.lost_points
    assert lost(One(), {"accuracy": 0.9, "f1": 1.0}, {"accuracy": 0.88, "f1": 0.0}) == pytest.approx(2.0)
    assert lost(Error(), {"mae": 0.5}, {"mae": 0.52}) == pytest.approx(2.0)
    assert lost(One(), {"accuracy": None}, {"accuracy": 1.0}) is None
    assert lost(One(), {"accuracy": 0.1}, {"accuracy": None}) == float("inf")


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "false hash"])
def test_a_damaged_folder_is_a_clear_error(exported: Path, tmp_path: Path, name: str, damage: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    file = folder / name
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:1000])
    if damage == "false hash":
        told = json.loads((folder / "polytask.json").read_text("utf-8"))
        told["sha256"][name] = file_digest(file)
        write_json(folder / "polytask.json", told)
    expected = {"cut": "\\(sha256\\)", "gone": "missing", "false hash": "not a (graph|tokenizer)"}[damage]
    with pytest.raises(ModelError, match=expected):
        pt.load(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"runtime": "onyx"}, "found the runtime 'onyx'; accepted: onnx, torch"),
        ({"graph": {}}, "the graph is not described"),
        ({"form": 99}, "written in form 99"),
    ],
)
def test_a_folder_of_another_form_is_a_clear_error(
    exported: Path, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    description = json.loads((folder / "polytask.json").read_text("utf-8"))
    write_json(folder / "polytask.json", description | change)
    with pytest.raises(ModelError, match=told):
        pt.load(folder)


def test_what_only_torch_has_is_refused(exported: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="only torch has one"):
        _ = pt.load(exported).network
    with pytest.raises(ConfigError, match="device: found 'cuda'; .* is an ONNX model, which runs on the CPU"):
        pt.load(exported, device="cuda")
    with pytest.raises(ConfigError, match="precision: found 'bf16'"):
        pt.load(exported, precision="bf16")
    with pytest.raises(ModelError, match="found a model for onnx, and this needs one for torch"):
        pt.export(exported, tmp_path / "again", to="onnx")
    with pytest.raises(OutputError, match="the folder exists"):
        pt.export(run, exported, to="onnx")
    with pytest.raises(ConfigError, match="quantize: found 'int4'"):
        pt.export(run, tmp_path / "out", to="onnx", data={"all": "x"}, quantize="int4")


def test_a_group_of_very_different_lengths_is_cut(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pt.load(exported)
    sizes: list[tuple[int, int]] = []
    real = onnx_engine.padded

    def watched(rows: Any, form: Any) -> Any:
        given = real(rows, form)
        sizes.append(given["input_ids"].shape)
        return given

    monkeypatch.setattr(onnx_engine, "padded", watched)
    model.predict(["a"] * 40 + ["word " * 100] * 2, ["topics"])
    assert sorted(sizes) == [(2, 48), (40, 3)]


def test_threads_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: Any = onnx_engine._threads
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "nonsense")
    assert threads() >= 1
