"""Nested spans in whole runs: read by character, trained, resumed, divided, taught, saved, answered, drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interruptions import weights_of, with_and_without_a_stop
from safetensors.torch import load_file
from test_distribution import gradients, in_pieces, require_same, without_dropout

import polytask as pt
from polytask.assemble import assemble
from polytask.config import validate
from polytask.errors import ConfigError, DataError, ModelError
from polytask.page import marks
from polytask.page.form import PredictionForm
from polytask.page.wording import answer
from polytask.tasks.nested import spans_of
from polytask.training.distribution import World
from samples import close

PLACES, KINDS = ("Oslo", "Lima", "Rome", "Paris"), ("University", "Bank", "Port")


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Sentences with an organisation that has a place in its name."""
    found: list[dict[str, Any]] = []
    for at in range(start, start + count):
        kind, place = KINDS[at % 3], PLACES[(at // 3) % 4]
        text = f"{'She' if at % 2 else 'He'} left the {kind} of {place} in {'May' if at % 5 else 'June'}"
        first, second = text.index(kind), text.index(place)
        end = second + len(place)
        spans = [[first, end, "ORG"], [second, end, "LOC"]]
        found.append({"text": text, "spans": spans if at % 7 else [], "late": str(at % 5 == 0)})
    return found


def values(tiny: Path, **train: Any) -> dict[str, Any]:
    data = {"train": rows(60), "dev": rows(15, 60), "test": rows(15, 75)}
    return {
        "encoder": str(tiny),
        "max_tokens": 32,
        "tasks": {
            "mentions": {"type": "spans", "data": data},
            "late": {"type": "classification", "data": data, "label": "late"},
        },
        "train": {"batch_size": 8, "epochs": 6, "precision": "fp32", "learning_rate": 3e-3, **train},
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    folder = tmp_path_factory.mktemp("spans")
    pt.train(values(tiny), folder / "run")
    return folder / "run"


def test_nested_spans_are_learned_and_answered_by_character(run: Path) -> None:
    scores = json.loads((run / "scores.json").read_text("utf-8"))["test"]["mentions"]
    assert list(scores) == ["span_f1", "span_precision", "span_recall"]
    assert scores["span_f1"] > 0.6
    text = "He left the Port of Rome in May"
    found = pt.load(run / "model").predict([text])[0]["mentions"]
    assert {(one["label"], one["text"]) for one in found} == {("ORG", "Port of Rome"), ("LOC", "Rome")}
    assert all(text[one["start"] : one["end"]] == one["text"] for one in found)
    line = json.loads((run / "predictions" / "mentions.jsonl").read_text("utf-8").splitlines()[1])
    assert len(spans_of(line["label"])) == 2


def test_the_report_draws_marks_inside_of_marks() -> None:
    text = "the Bank of Rome"
    words = [(0, 3), (4, 8), (9, 11), (12, 16)]
    row = PredictionForm(
        row=1, label=["", "3\tORG", "", "1\tLOC"], prediction=["", "2\tORG", "2\tX", ""], text=text, words=words
    )
    assert marks.fits(row)
    found = marks.marked(row)
    outer = found.truth[1]
    assert (outer.text, outer.label, outer.tone) == ("Bank of Rome", "ORG", "missed")
    assert [(piece.text, piece.label) for piece in outer.inner] == [("Bank of ", ""), ("Rome", "LOC")]
    assert [(piece.text, piece.label) for piece in found.answer] == [
        ("the ", ""), ("Bank of", "ORG"), (" Rome", ""), (" + ", ""), ("of Rome", "X"),
    ]  # fmt: skip
    assert answer(row.label) == "ORG 2\u20134, LOC 4"
    assert answer(["", ""]) == "none"
    assert answer(["1 star", "3 stars"]) == answer(["1 star"]) + ", " + answer(["3 stars"])


def test_a_saved_model_scores_as_it_did_and_writes_what_training_reads(run: Path, tmp_path: Path) -> None:
    model = pt.load(run / "model")
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(15, 75)), "utf-8")
    again = pt.evaluate(model, {"mentions": str(data)}).scores["mentions"]
    assert again == pytest.approx(json.loads((run / "scores.json").read_text("utf-8"))["test"]["mentions"])
    tables = [value for name, value in load_file(run / "model" / "model.safetensors").items() if name.endswith("pairs")]
    told = model.tasks["mentions"]._table  # type: ignore[attr-defined]
    assert np.array_equal(tables[0].numpy(), told)
    assert pt.report(run).is_file()
    assert "Port of" in (run / "report.html").read_text("utf-8") or scores_are_perfect(run)


def scores_are_perfect(run: Path) -> bool:
    return json.loads((run / "scores.json").read_text("utf-8"))["test"]["mentions"]["span_f1"] == 1.0


def test_interrupted_and_resumed_equals_uninterrupted(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = values(tiny, epochs=1)
    runs = with_and_without_a_stop(given, tmp_path, monkeypatch, after=3)
    whole, stopped = weights_of(runs)
    assert whole == stopped


@pytest.mark.usefixtures("quick_processes")
def test_two_processes_and_pieces_make_the_update_of_one(tiny: Path, tmp_path: Path) -> None:
    given = without_dropout(values(tiny))
    cases = {"sum": given, "gram": {**given, "balance": {"method": "nash_mtl"}}, "pieces": in_pieces(given, 2)}
    alone = gradients(cases, tmp_path / "one", 1)
    require_same(gradients(cases, tmp_path / "two", 2), alone)
    require_same({"sum": alone["sum"]}, {"sum": alone["pieces"]})


def test_a_student_learns_from_a_teacher_with_another_band(run: Path, tiny: Path) -> None:
    given = values(tiny, epochs=1, teachers=[str(run)])
    given["tasks"]["mentions"]["max_span"] = 5
    assembly = assemble(validate(given))
    (source,) = assembly.train_sources(World(0, 1))
    logits = np.array(source.teacher_logits["mentions"][1])
    assert logits.shape[1] == 5 * 2
    assert np.isfinite(logits).all()
    assert pt.train(given).scores["dev"]["mentions"]["span_f1"] is not None


def test_a_text_in_windows_has_the_spans_of_all_of_it(run: Path) -> None:
    model = pt.load(run / "model", precision="fp32")
    text = " . ".join(row["text"] for row in rows(8))
    short, whole = (model.predict([text], ["mentions"], long=long)[0]["mentions"] for long in ("truncate", "windows"))
    assert max(one["end"] for one in whole) > len(text) - 40 > max(one["end"] for one in short)


def test_other_tasks_read_it_and_it_reads_others(tiny: Path) -> None:
    given = values(tiny, max_steps=4)
    data = given["tasks"]["mentions"]["data"]
    given["tasks"]["late"]["gate"] = {"epochs": 0.01}
    given["tasks"]["mentions"] |= {"needs": ["late"], "reads": {"late": "probabilities"}, "gate": {"epochs": 0.01}}
    given["tasks"]["more"] = {
        "type": "spans", "data": data, "needs": ["mentions"], "reads": {"mentions": "probabilities"},
    }  # fmt: skip
    model = pt.train(given).model
    assert set(model.predict(["He left Rome"])[0]) == {"mentions", "late", "more"}


def test_an_extended_model_answers_as_before(run: Path, tiny: Path, tmp_path: Path) -> None:
    given = values(tiny, epochs=1)
    given["tasks"] = {"more": given["tasks"]["mentions"]}
    pt.extend(run, given, tmp_path / "extended")
    texts = [row["text"] for row in rows(4)]
    before, after = pt.load(run), pt.load(tmp_path / "extended")
    assert close(after.predict(texts, ["mentions"]), before.predict(texts, ["mentions"]))


def test_other_programs_have_no_such_head(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="mentions: its type is 'spans', which other programs do not have"):
        pt.export(run, tmp_path / "hf", to="hf")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"text": "a b c", "spans": [[[0, 1], [4, 5], "X"]]},
            "row 1: task 'mentions': found .* a span of several parts",
        ),
        ({"text": "a b c", "spans": [[0, 9, "X"]]}, "row 1: task 'mentions': the span X .* outside the text"),
        ({"tokens": ["a", "b"], "spans": ["B-X", "O"]}, "row 1: task 'mentions': .* use `type: tagging`"),
    ],
)
def test_what_is_no_span_is_refused_with_its_place(tiny: Path, row: dict[str, Any], message: str) -> None:
    given = values(tiny)
    given["tasks"] = {"mentions": {"type": "spans", "data": {"train": [row, *rows(9)], "dev": rows(9)}}}
    with pytest.raises(DataError, match=message):
        assemble(validate(given))


def test_check_tells_the_longest_span_and_what_is_lost(tiny: Path) -> None:
    given = values(tiny)
    given["tasks"]["mentions"]["max_span"] = 2
    found = [f"{note.place}: {note.message}" for note in assemble(validate(given)).notes]
    assert any(
        "up to 2 words (`max_span`); 51 spans are longer and cannot be found; overlap: nested" in one for one in found
    )


def test_a_column_that_is_not_there_is_named(tiny: Path) -> None:
    given = values(tiny)
    given["tasks"]["mentions"]["spans"] = "entities"
    with pytest.raises(ConfigError, match=r"if 'spans' holds character spans, give `spans: spans`"):
        assemble(validate(given))
