"""What the functions return: one line, a table, a DataFrame; and every entry takes a run's folder or a model's."""

from __future__ import annotations

import hashlib
import inspect
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest

import polytask as pt
from polytask.comparison.compare import Comparison
from polytask.config import validate
from polytask.relatedness.evidence import MeasureResult
from polytask.relatedness.record import Cost, Relatedness
from polytask.result import Result, html_table
from polytask.sharing.plan import global_plan
from samples import corpus_rows

Job = Callable[..., dict[str, Any]]
TEXTS = ["A moving film by Ang Lee.", "The phone broke in Rome after two days."]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> pt.Run:
    """A run of two tasks on rows of a DataFrame."""
    rows = pd.DataFrame(corpus_rows(40))
    data = {"train": rows[:20], "dev": rows[20:], "test": rows[20:]}
    tasks = {name: {"type": "classification", "data": data, "label": name} for name in ("sentiment", "topic")}
    values = {"encoder": str(tiny), "tasks": tasks, "train": {"max_steps": 2, "batch_size": 8, "precision": "fp32"}}
    return pt.train(values, tmp_path_factory.mktemp("results") / "run")


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def test_a_run_is_one_line_and_a_table(trained: pt.Run) -> None:
    score = trained.scores["test"]["sentiment"]["accuracy"]
    assert repr(trained) == (
        f"<Run: {trained.folder}, test: sentiment accuracy {score:.4f}, "
        f"topic accuracy {trained.scores['test']['topic']['accuracy']:.4f}>"
    )
    frame = trained.to_pandas()
    assert list(frame.columns) == ["split", "task", "metric", "score", "low", "high", "majority"]
    row = frame[(frame.split == "test") & (frame.task == "sentiment") & (frame.metric == "accuracy")].iloc[0]
    assert (row.score, row.majority) == (score, trained.baselines["test"]["sentiment"]["accuracy"])
    assert (row.low, row.high) == trained.intervals["test"]["sentiment"]["accuracy"]
    assert len(frame) == sum(len(found) for by_task in trained.scores.values() for found in by_task.values())
    assert trained._repr_html_().count("<tr>") == len(frame) + 1


def test_a_model_is_one_line_and_a_table(trained: pt.Run) -> None:
    model = trained.model
    assert repr(model).startswith("<Model: sentiment, topic; torch on ")
    frame = model.to_pandas().set_index("task")
    assert frame.loc["topic", "test"] == trained.scores["test"]["topic"]["accuracy"]
    assert frame.loc["topic", "labels"] == len(model.tasks["topic"].labels)
    assert "<td>topic</td>" in model._repr_html_()


def test_a_saved_model_is_the_one_that_was_saved(trained: pt.Run, tmp_path: Path) -> None:
    assert trained.folder is not None
    for index, model in enumerate((trained.model, pt.load(trained.folder))):
        folder = model.save(tmp_path / f"deep/{index}")
        assert digests(folder) == digests(trained.folder / "model")
        assert pt.load(folder).predict(TEXTS) == trained.model.predict(TEXTS)
        with pytest.raises(pt.OutputError, match="the folder exists"):
            model.save(folder)
    model = trained.model
    by_hand = pt.Model(model.tasks, model.tokens, model.engine, model.about)
    with pytest.raises(pt.OutputError, match="built by hand"):
        by_hand.save(tmp_path / "hand")


def test_a_model_in_onnx_form_is_saved_as_it_is(trained: pt.Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra export")
    assert trained.folder is not None
    exported = pt.export(trained.folder, tmp_path / "onnx", to="onnx").folders["onnx"]
    model = pt.load(exported)
    saved = model.save(tmp_path / "saved")
    assert digests(saved) == digests(exported)
    assert pt.load(saved).predict(TEXTS) == model.predict(TEXTS)
    (exported / "model.onnx").write_bytes(b"other")
    with pytest.raises(pt.ModelError, match=r"\(sha256\)"):
        model.save(tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("kind", ["run", "model"])
def test_every_entry_takes_the_folder_of_a_run_or_of_a_model(kind: str, trained: pt.Run, tmp_path: Path) -> None:
    assert trained.folder is not None
    folder = trained.folder if kind == "run" else trained.folder / "model"
    rows = corpus_rows(40)[20:]
    assert pt.load(folder).predict(TEXTS) == trained.model.predict(TEXTS)
    assert pt.evaluate(folder, rows).scores == trained.scores["test"]
    assert (pt.export(folder, tmp_path / "exported", tasks=["topic"]).folders["model"] / "polytask.json").is_file()
    before = digests(trained.folder / "model")
    assert pt.report(folder) == trained.folder / "report.html"
    assert digests(trained.folder / "model") == before
    task = {"type": "classification", "data": {"train": rows, "dev": rows}, "label": "topic"}
    values = {"encoder": str(folder), "tasks": {"new": task}, "train": {"max_steps": 1, "batch_size": 4}}
    assert list(pt.extend(folder, values).model.tasks) == ["sentiment", "topic", "new"]


def test_new_rows_are_scored_from_files_and_from_objects(trained: pt.Run) -> None:
    rows = corpus_rows(40)[20:]
    expected = trained.scores["test"]
    for data in (pd.DataFrame(rows), iter(rows), {"all": rows}, {"sentiment": rows, "topic": pd.DataFrame(rows)}):
        found = pt.evaluate(trained.model, data)
        assert found.scores == expected
        assert found.intervals == trained.intervals["test"]
    frame = found.to_pandas()
    assert list(frame.columns) == ["task", "metric", "rows", "score", "low", "high"]
    assert repr(found).startswith("<Evaluation: sentiment accuracy ")
    with pytest.raises(pt.ConfigError, match="data.all: found a value of type Series; expected a file"):
        pt.evaluate(trained.model, pd.Series(["a"]))
    with pytest.raises(pt.ConfigError, match="tasks: found 'text'; accepted"):
        pt.evaluate(trained.model, {"text": ["a"], "topic": ["b"]})


def test_tables_are_answered_row_by_row(trained: pt.Run) -> None:
    rows = [{"text": text, "id": np.int64(1), "scan": b"x"} for text in TEXTS]
    expected = trained.model.predict(TEXTS)
    tables = [
        rows, iter(rows), np.array(TEXTS), pd.Series(TEXTS), pd.DataFrame({"text": TEXTS}),
        datasets.Dataset.from_dict({"text": TEXTS}), [{"text": np.str_(text)} for text in TEXTS],
    ]  # fmt: skip
    for table in tables:
        assert trained.model.predict(table) == expected


def test_null_in_a_list_or_a_column_is_an_empty_text(trained: pt.Run) -> None:
    texts = [TEXTS[0], None, math.nan]
    expected = trained.model.predict([TEXTS[0], "", ""])
    for records in (texts, pd.Series(texts), pd.DataFrame({"text": texts}), [{"text": text} for text in texts]):
        assert trained.model.predict(records) == expected


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([TEXTS[0], 1.5], r"record 2: found 1.5; expected a text, a tuple of two texts, or a row"),
        ([True], r"record 1: found True"),
        ([TEXTS], r"record 1: found a list of 2; expected a text"),
        ({"text": TEXTS}, r"found one mapping; write model.predict\(\[row\]\)"),
        ([{"body": "a"}], r"record 1: holds no text"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "two columns named 'text'"),
    ],
)
def test_what_is_no_record_is_refused_with_its_place(records: Any, message: str, trained: pt.Run) -> None:
    with pytest.raises(pt.DataError, match=message):
        trained.model.predict(records)


def test_check_tells_what_the_command_prints(job: Job) -> None:
    found = pt.check(job(), overrides=["train.max_steps=2", "max_tokens=8"])
    assert found.config.train.max_steps == 2
    assert any("truncated" in note.message for note in found.notes)
    assert {choice.option for choice in found.choices} >= {"train.head_learning_rate"}
    assert repr(found).startswith("<Check: sentiment, topic, entities; ")
    assert repr(found).endswith(" notes>") or repr(found).endswith(" note>")
    frame = found.to_pandas().set_index("task")
    assert frame.loc["entities", "type"] == "tagging"
    assert frame.loc["topic", "train"] > 0
    text = str(found)
    assert "What the tasks share:" in text
    assert "\x1b" not in text
    assert all(note.message in text for note in found.notes)


def test_check_finds_what_is_wrong(job: Job) -> None:
    with pytest.raises(pt.ConfigError, match="did you mean 'train'"):
        pt.check({**job(), "trian": {}})
    for wrong in (["a.yaml"], None, 5):
        with pytest.raises(pt.ConfigError, match="config: found a value of type .*expected a YAML file, a mapping"):
            pt.check(wrong)  # type: ignore[arg-type]


def test_overrides_count_for_every_form_of_a_configuration(job: Job) -> None:
    from polytask.api import as_config

    values = job()
    for given in (values, validate(values), pt.Config(**values)):
        assert as_config(given, ["train.epochs=7"]).train.epochs == 7
        assert "sharing" not in as_config(given, ["train.epochs=7"]).model_fields_set
    assert values["train"]["epochs"] == 2
    with pytest.raises(pt.ConfigError, match=r"--set train.epochs: .*found 0"):
        as_config(values, ["train.epochs=0"])


def comparison(folder: Path) -> Comparison:
    arm = {"mean": 0.5, "std": None, "delta": 0.01, "low": -0.01, "high": 0.03, "relative": 0.02, "values": [0.5]}
    task = {"metric": "f1", "arms": {"single": arm, "global": {**arm, "mean": None}}, "verdict": "same"}
    return Comparison(folder, {"a<b": task}, {"single": {}, "global": {}}, "global", "since", 1, 1, {})


def relatedness() -> Relatedness:
    matrix, error = np.array([[1.0, 0.5], [np.nan, 1.0]]), np.array([[0.0, 0.1], [0.1, 0.0]])
    measures = {"gradient_cosine": MeasureResult(matrix, error), "cka": MeasureResult(matrix)}
    plan = global_plan(["a", "b"], 2)
    return Relatedness(("a", "b"), measures, [["a"], ["b"]], "gradient_cosine", matrix, plan, Cost(1, 4, 0.1), {}, [])


def test_a_comparison_is_one_line_and_a_table(tmp_path: Path) -> None:
    found = comparison(tmp_path)
    assert repr(found) == "<Comparison: a<b under single, global; recommended: global>"
    frame = found.to_pandas()
    assert list(frame.columns) == ["task", "metric", "arm", "mean", "std", "delta", "low", "high", "relative"]
    assert list(frame["arm"]) == ["single", "global"]
    assert "<td>a&lt;b</td>" in found._repr_html_()
    assert "<b>" not in found._repr_html_()


def test_relatedness_is_one_line_and_a_table() -> None:
    found = relatedness()
    assert repr(found) == "<Relatedness: groups [a] [b]>"
    frame = found.to_pandas().set_index(["measure", "task", "other"])
    assert frame.loc[("gradient_cosine", "a", "b"), "value"] == 0.5
    assert frame.loc[("gradient_cosine", "a", "b"), "error"] == pytest.approx(0.1)
    assert frame.loc[("cka", "b", "a")].isna().all()
    assert len(frame) == 4


def test_every_result_is_short_whatever_it_holds(trained: pt.Run, tmp_path: Path) -> None:
    results = [trained, trained.model, comparison(tmp_path), relatedness()]
    for result in results:
        assert isinstance(result, Result)
        assert "\n" not in repr(result)
        assert result._repr_html_().startswith("<table><caption>")
    names = {f"t{number}": {"metric": "f1", "arms": {}} for number in range(500)}
    assert len(repr(Comparison(tmp_path, names, {}, "x", "", 0, 0, {}))) < 200
    records = [{"row": number} for number in range(1000)]
    assert html_table(records, "").count("<tr>") == 202
    assert "800 more rows" in html_table(records, "")
    for public in (pt.Run, pt.Model, pt.Comparison, pt.Relatedness, pt.Check, pt.Evaluation):
        assert issubclass(public, Result)
        assert not inspect.isabstract(public)


def test_a_missing_pandas_is_told_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(pt.MissingExtra, match=r"to_pandas needs the package 'pandas'.*pip install 'polytask\[train\]'"):
        relatedness().to_pandas()
