"""A task type at word level that polytask has not: rows, losses, scores, folders and answers take it as it is."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import polytask as pt
from polytask.assemble import assemble
from polytask.config import validate
from polytask.data.collator import Collator
from polytask.errors import ConfigError, DataError
from polytask.tasks import TASKS

WORDS = {"rain": 0.5, "falls": 1.5, "in": -1.0, "Oslo": 3.0, "today": 2.0}


@pytest.fixture(autouse=True)
def registered() -> None:
    """Import the type anew: rows are taken out of the tables after each test."""
    sys.modules.pop("word_numbers", None)
    importlib.import_module("word_numbers")


def rows(count: int = 12) -> list[dict[str, Any]]:
    names = list(WORDS)
    chosen = [[names[(at + step) % 5] for step in range(2 + at % 4)] for at in range(count)]
    return [
        {
            "tokens": words,
            "numbers": [WORDS[word] for word in words],
            "tags": ["B-LOC" if word == "Oslo" else "O" for word in words],
        }
        for words in chosen
    ]


def values(tiny: Path, **train: Any) -> dict[str, Any]:
    data = {"train": rows(), "dev": rows(), "test": rows()}
    return {
        "encoder": str(tiny),
        "max_tokens": 32,
        "tasks": {"stress": {"type": "word_numbers", "data": data}, "places": {"type": "tagging", "data": data}},
        "train": {"batch_size": 8, "epochs": 2, "precision": "fp32", **train},
    }


def test_targets_keep_their_fractions_and_stand_beside_tags(tiny: Path) -> None:
    assembly = assemble(validate(values(tiny)))
    task, (source,) = assembly.tasks["stress"], assembly.sources["train"]
    assert source.tasks == ("stress", "places")
    collator: Collator = assembly.collator()
    from polytask.data.stream import DrawnRow

    batch = collator.from_sources([source], [DrawnRow(0, row, ("stress", "places")) for row in (0, 3)])
    assert batch.targets["stress"].dtype == torch.float32
    assert batch.targets["places"].dtype == torch.int64
    expected = [value for row in (0, 3) for value in rows()[row]["numbers"]]
    given = batch.targets["stress"].numpy() * task.deviation + task.mean  # type: ignore[attr-defined]
    np.testing.assert_allclose(given, expected, rtol=1e-5)
    everything = [value for row in rows() for value in row["numbers"]]
    assert task.mean == pytest.approx(np.mean(everything))  # type: ignore[attr-defined]
    assert assembly.facts()["stress"]["range"] == [-1.0, pytest.approx(np.mean(everything)), 3.0]


def test_it_trains_saves_loads_scores_and_answers(tiny: Path, tmp_path: Path) -> None:
    run = pt.train(values(tiny), tmp_path / "run")
    scores = run.scores["test"]["stress"]
    assert list(scores) == ["word_mae"]
    low, high = run.intervals["test"]["stress"]["word_mae"] or (0.0, 0.0)
    assert low <= (scores["word_mae"] or 0.0) <= high
    folder = tmp_path / "run" / "model"
    assert json.loads((folder / "polytask.json").read_text("utf-8"))["extensions"] == ["word_numbers"]
    model = pt.load(folder)
    (answer,) = model.predict(["rain falls in Oslo"])
    assert [word["text"] for word in answer["stress"]] == ["rain", "falls", "in", "Oslo"]
    assert [(word["start"], word["end"]) for word in answer["stress"]] == [(0, 4), (5, 10), (11, 13), (14, 18)]
    data = tmp_path / "more.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()), "utf-8")
    again = pt.evaluate(model, {"all": str(data)}).scores
    assert again["stress"]["word_mae"] == pytest.approx(scores["word_mae"])
    assert pt.report(tmp_path / "run").is_file()


def test_a_better_answer_scores_better(tiny: Path) -> None:
    before = pt.train(values(tiny, max_steps=1, learning_rate=1e-6)).scores["dev"]["stress"]["word_mae"]
    after = pt.train(values(tiny, epochs=40, learning_rate=3e-3)).scores["dev"]["stress"]["word_mae"]
    assert before is not None
    assert after is not None
    assert after < 0.5 * before


def test_mistakes_in_its_rows_name_the_row_and_the_column(tiny: Path) -> None:
    wrong = values(tiny)
    wrong["tasks"]["stress"]["data"] = {"train": [{"tokens": ["a", "b"], "numbers": [1.0]}], "dev": rows()}
    with pytest.raises(DataError, match=r"task 'stress': found \[1\.0\]; each token needs one number"):
        assemble(validate(wrong))
    wrong["tasks"]["stress"]["numbers"] = "stresses"
    wrong["tasks"]["stress"]["data"] = {"train": rows(), "dev": rows()}
    with pytest.raises(ConfigError, match=r"tasks\.stress\.numbers: .*no column 'stresses'"):
        assemble(validate(wrong))


def test_rows_are_read_again_when_the_code_of_the_type_changes(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = TASKS.code_of("word_numbers")
    assert before == TASKS.code_of("word_numbers") != ""
    assert TASKS.code_of("regression") == ""
    module = tmp_path / "word_numbers.py"
    text = Path(sys.modules["word_numbers"].__file__ or "").read_text("utf-8")
    module.write_text(text.replace("float(value) for value in cell", "2 * float(value) for value in cell"), "utf-8")
    first = assemble(validate(values(tiny))).tasks["stress"]
    TASKS.remove("word_numbers")
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("word_numbers")
    from polytask.tasks import METRICS

    METRICS["word"].remove("word_mae")
    importlib.import_module("word_numbers")
    assert TASKS.code_of("word_numbers") != before
    second = assemble(validate(values(tiny))).tasks["stress"]
    assert second.mean == pytest.approx(2 * first.mean)  # type: ignore[attr-defined]
