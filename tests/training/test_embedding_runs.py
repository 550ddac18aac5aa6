"""Runs with an embedding task: what the rest of polytask makes of rows of several texts, and of vectors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from interruptions import weights_of, with_and_without_a_stop

import polytask as pt
from polytask.assemble import assemble
from polytask.config import validate
from polytask.data.stream import DrawnRow
from polytask.errors import ConfigError, ModelError
from polytask.serving.app import create_app
from polytask.serving.options import ServeOptions
from samples import write_jsonl
from vectors import Rows, config, pairs

TEXTS = ["A moving film by Ang Lee.", "The train was late.", "word " * 60]


def labelled(count: int, start: int = 0) -> Rows:
    """Return triplets that carry a label and a number as well; some are without another text, some without a label."""
    rows = pairs(count, start=start, negatives=True)
    for number, row in enumerate(rows):
        row |= {"label": "ab"[number % 2], "stars": float(number % 5)}
        if number % 7 == 3:
            row.pop("positive")
        if number % 5 == 2:
            row.pop("label")
    return rows


def values(encoder: Path, **options: Any) -> dict[str, Any]:
    """Return an embedding task beside two others on the same rows, one of which reads the vector."""
    rows, dev = labelled(40), labelled(20, 40)
    data = {"train": rows, "dev": dev, "test": dev}
    others = {
        "label": {
            "type": "classification", "data": data, "needs": "near", "reads": {"near": "probabilities"},
            "gate": {"epochs": 0.01},
        },
        "stars": {"type": "regression", "data": data, "label": "stars"},
    }  # fmt: skip
    return config(encoder, rows, dev, others=others, **options)


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an embedding task whose head has a layer, and one whose vector is the encoder's."""
    folder = tmp_path_factory.mktemp("vectors") / "run"
    given = values(tiny, train={"epochs": 3, "learning_rate": 2e-3})
    small = {**given["tasks"]["near"], "size": 6, "sizes": [3], "normalize": False, "pooling": "cls"}
    pt.train({**given, "tasks": {**given["tasks"], "small": small}}, folder)
    return folder


def test_a_row_serves_its_other_tasks_once_and_brings_its_texts_with_it(tiny: Path) -> None:
    assembly = assemble(validate(values(tiny)))
    (source,) = assembly.sources["train"]
    counts = {name: len(source.drawn[name]) for name in source.tasks}
    assert counts == {"near": 34, "label": 32, "stars": 40}
    assert assembly.facts()["near"]["rows"]["train"] == 34
    assert len(source) == 40 + 2 * 34
    assert len(source.carries["near"]) == 3 * 34
    batch = assembly.collator().from_sources([source], [DrawnRow(0, 0, ("near", "stars")), DrawnRow(0, 3, ("stars",))])
    assert batch.rows == 4
    assert len(batch.targets["near"]) == 3
    assert len(batch.targets["stars"]) == 2
    assert assembly.tasks["near"].loss_denominator(batch.targets["near"]) == 1


def test_each_epoch_draws_every_row_once_with_its_texts(tiny: Path) -> None:
    from polytask.data.stream import Streams

    (source,) = assemble(validate(values(tiny))).sources["train"]
    streams = Streams([source], seed=3, block=4)
    drawn = streams.draw_each({"near": 34})
    assert len({one.row for one in drawn}) == 34
    for one in drawn:
        texts = [source.raw[row]["text"] for row, task in source.companions(one.row, one.tasks) if task == "near"]
        assert len(texts) == 2


def test_the_folder_says_ranks_beside_the_texts(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "predictions" / "near.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == 17
    assert all(line["label"] == 1.0 and line["prediction"] >= 1.0 and " | " in line["text"] for line in lines)
    scores = json.loads((run / "scores.json").read_text())["test"]["near"]
    shares = [sum(line["prediction"] <= places for line in lines) / 17 for places in (1, 10)]
    assert [scores["recall@1"], scores["recall@10"]] == pytest.approx(shares)
    low, high = json.loads((run / "intervals.json").read_text())["test"]["near"]["recall@1"]
    assert low <= scores["recall@1"] <= high
    assert json.loads((run / "baselines.json").read_text())["test"]["near"]["recall@1"] == 0.0
    assert pt.report(run).is_file()
    data = write_jsonl(run.parent / "again.jsonl", labelled(20, 40))
    assert pt.evaluate(run, str(data)).scores["near"] == pytest.approx(scores)


def test_a_text_is_answered_with_a_vector(run: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    model = pt.load(run)
    answers = model.predict(TEXTS)
    assert [len(answer["near"]["vector"]) for answer in answers] == [32] * 3
    assert [len(answer["small"]["vector"]) for answer in answers] == [6] * 3
    for answer in answers:
        assert np.linalg.norm(answer["near"]["vector"]) == pytest.approx(1.0, abs=1e-5)
    file = write_jsonl(tmp_path / "texts.jsonl", [{"text": text, "id": n} for n, text in enumerate(TEXTS)])
    code, out, _ = call("predict", run, file, "--tasks", "near")
    assert code == 0
    shown = [json.loads(line)["predictions"]["near"] for line in out.splitlines()]
    assert [one["vector"] for one in shown] == [pytest.approx(answer["near"]["vector"], abs=1e-5) for answer in answers]
    (whole,) = model.predict(["word " * 60], long="windows")
    assert np.linalg.norm(whole["near"]["vector"]) == pytest.approx(1.0, abs=1e-5)


def test_the_server_answers_it(run: Path) -> None:
    with TestClient(create_app(pt.load(run), ServeOptions())) as client:
        found: httpx.Response = client.post("/predict", json={"texts": TEXTS[:1]})
        assert found.status_code == 200
        assert len(found.json()["predictions"][0]["near"]["vector"]) == 32
        (described,) = [one for one in client.get("/tasks").json()["tasks"] if one["name"] == "near"]
        assert (described["type"], described["labels"], described["range"]) == ("embedding", [], None)


def test_sentence_transformers_equals_it(run: Path, tmp_path: Path) -> None:
    made = pt.export(run, tmp_path / "st", to="sentence-transformers", tasks=["near", "small"])
    plain = pt.export(run, tmp_path / "hf", to="hf", tasks=["near"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the package warns of when it is imported
        package = pytest.importorskip("sentence_transformers")
    answers = pt.load(run).predict(TEXTS)
    for name, folder in (*made.folders.items(), ("near", plain.folders["near"])):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = package.SentenceTransformer(str(folder), device="cpu").encode(TEXTS, show_progress_bar=False)
        for vector, answer in zip(found, answers, strict=True):
            assert vector.tolist() == pytest.approx(answer[name]["vector"], abs=2e-5)
    assert "the vector" in (made.folders["near"] / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_onnx_and_int8_answer_alike(run: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "dev.jsonl", labelled(20, 40))
    answers = pt.load(run).predict(TEXTS)
    forms: dict[str, dict[str, Any]] = {"full": {}, "int8": {"quantize": "int8", "max_loss": 100}}
    for name, more in forms.items():
        made = pt.export(run, tmp_path / name, to="onnx", data={"all": str(data)}, **more)
        found = pt.load(next(iter(made.folders.values()))).predict(TEXTS)
        for one, other in zip(found, answers, strict=True):
            close = float(np.dot(one["near"]["vector"], other["near"]["vector"]))
            assert close > (0.9999 if name == "full" else 0.98)


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = values(tiny, train={"epochs": 1, "gradient_accumulation_steps": 2})
    runs = with_and_without_a_stop(given, tmp_path, monkeypatch, after=2)
    whole, stopped = weights_of(runs)
    assert whole == stopped


def test_a_model_is_taught_and_extended_by_another(run: Path, tiny: Path, tmp_path: Path) -> None:
    rows, dev = labelled(16), labelled(12, 40)
    student = config(tiny, rows, dev, train={"epochs": 1, "teachers": [str(run)]})
    assert "near" in pt.train(student).scores["dev"]
    wrong = config(tiny, rows, dev, size=5, train={"epochs": 1, "teachers": [str(run)]})
    with pytest.raises(ConfigError, match="their vectors have 5 and 32 numbers|their vectors have 32 and 5 numbers"):
        pt.train(wrong)
    more = config(tiny, rows, dev, train={"epochs": 1})
    more["tasks"] = {"new": {**more["tasks"]["near"], "size": 4}}
    more.pop("max_tokens")
    grown = pt.extend(run, {**more, "encoder": str(tiny)}, tmp_path / "grown")
    answer = grown.model.predict(TEXTS[:1])[0]
    assert (len(answer["new"]["vector"]), len(answer["near"]["vector"])) == (4, 32)


def test_schedules_balancers_and_policies_take_it(tiny: Path) -> None:
    for more in (
        {"schedule": {"strategy": "sequential"}},
        {"schedule": {"strategy": "dynamic", "policy": "bandit"}, "balance": {"method": "equal_norms"}},
        {"balance": {"method": "uncertainty"}},
        {"sharing": {"strategy": "adaptive"}, "balance": {"method": "cagrad"}},
    ):
        given = {**values(tiny, train={"epochs": 1, "max_steps": 4}), **more}
        assert "near" in pt.train(given).scores["dev"]


def test_other_forms_refuse_it_with_the_form_that_takes_it(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="label: its head reads the predictions of near"):
        pt.export(run, tmp_path / "st", to="sentence-transformers", tasks=["label", "near"])


def test_tasks_are_measured_and_compared_with_it(tiny: Path, tmp_path: Path) -> None:
    given = values(tiny, train={"epochs": 1, "max_steps": 3})
    given["tasks"].pop("label")
    pt.compare(given, tmp_path / "compared", arms=["single", "global"], seeds=2)
    told = json.loads((tmp_path / "compared" / "comparison.json").read_text("utf-8"))
    assert told["tasks"]["near"]["metric"] == "recall@1"
    pt.relate({**given, "train": {**given["train"], "epochs": 12, "max_steps": None}}, tmp_path / "related")
