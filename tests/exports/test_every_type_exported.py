"""What every task type answers: a graph, in int8 too, does as the trained model, alone and beside other rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from every_type import job_of_every_type, rows
from polytask.predict.sink import flat
from polytask.serving.tensors import outputs_of
from samples import close


@pytest.mark.usefixtures("drawn_once")
def test_exported_models_answer_as_the_trained_one(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pt.train(job_of_every_type(tmp_path, tiny), run)
    texts: list[Any] = [
        *rows()[:6], "", "\u200b", "漢字 and 😀😀", " ".join(row["text"] for row in rows()[:4]), ". , ;"
    ]  # fmt: skip
    model = pt.load(run)
    assert set(model.tasks) == {"stars", "kind", "marks", "size", "chain", "best", "mentions", "topic", "drink", "near"}
    pt.export(run, tmp_path / "onnx", to="onnx")
    graph = pt.load(tmp_path / "onnx")
    for long in ("truncate", "windows"):
        answers = model.predict(texts, long=long)  # type: ignore[arg-type]
        assert close(graph.predict(texts, long=long), answers)  # type: ignore[arg-type]
        assert close([model.predict([text], long=long)[0] for text in texts], answers)  # type: ignore[arg-type]
    answers = model.predict(rows()[:6])
    given = {name: [row.get(name) for row in rows()[:6]] for name in ("text", "menu")}
    columns = pt.BatchPredictor(run, errors="column").answers(given)
    served = outputs_of(model.tasks)
    for at, answer in enumerate(answers):
        cells = flat({"text": "", "predictions": answer})
        told = {name: values[at] for name, values in columns.items() if name.startswith("predictions.")}
        assert {name: value for name, value in told.items() if value is not None} == {
            name: pytest.approx(value, abs=2e-6) if isinstance(value, float) else value
            for name, value in cells.items() if name.startswith("predictions.")
        }  # fmt: skip
        assert {output.task for output in served.values()} - {None} >= set(answer)
    scores, dev = json.loads((run / "scores.json").read_text("utf-8")), str(tmp_path / "dev.jsonl")
    assert all(close(found, scores["dev"][name]) for name, found in pt.evaluate(model, dev).scores.items())
    assert close(dict(pt.evaluate(graph, dev).scores), dict(pt.evaluate(model, dev).scores))
    pt.export(run, tmp_path / "int8", to="onnx", quantize="int8", max_loss=100)
    small = pt.load(tmp_path / "int8").predict(texts)
    assert [answer.keys() for answer in small] == [answer.keys() for answer in model.predict(texts)]
    assert all(0 <= answer["size"]["value"] <= 4 for answer in small if "size" in answer)
