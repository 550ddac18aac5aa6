"""Scores on new files: any of a model's tasks, with intervals that belong to the scores."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from polytask import cli
from polytask.data.words import split_words
from polytask.errors import ConfigError, DataError
from polytask.tasks.bio import spans
from samples import corpus_rows, small_job, write_jsonl


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run lies, and the files of its rows."""
    return tmp_path_factory.mktemp("evaluating")


@pytest.fixture(scope="module")
def run(home: Path, tiny: Path) -> pt.Run:
    """A run whose topic reads what the model says about the sentiment."""
    values = small_job(home, tiny, rows=40, max_steps=3)
    values["tasks"]["topic"] |= {"needs": ["sentiment"], "reads": {"sentiment": "probabilities"}}
    return pt.train(values, home / "run")


def test_the_intervals_of_a_run_stand_in_its_folder_and_are_those_of_its_test_file(run: pt.Run, home: Path) -> None:
    kept = json.loads((home / "run" / "intervals.json").read_text("utf-8"))
    found = pt.evaluate(run.model, str(home / "all-test.jsonl"))
    scores, intervals = found.scores, found.intervals
    assert scores == run.scores["test"]
    assert {"test": intervals} == run.intervals
    assert kept == json.loads(json.dumps(run.intervals))
    for task, metrics in scores.items():
        assert set(intervals[task]) == set(metrics)
        assert intervals[task].pop("ece") is None
        for metric, found in intervals[task].items():
            value = metrics[metric]
            assert found is not None
            assert value is not None
            assert found[0] <= found[1]
    low, high = intervals["topic"]["accuracy"] or (1.0, 0.0)
    assert low <= (scores["topic"]["accuracy"] or 0.0) <= high


@pytest.mark.parametrize("task", ["sentiment", "topic", "entities"])
def test_a_task_is_scored_on_a_new_file_that_has_its_labels_only(run: pt.Run, tmp_path: Path, task: str) -> None:
    columns = {"entities": ("text", "tokens", "tags")}.get(task, ("text", task))
    kept = [row for row in corpus_rows(60)[40:] if row.keys() >= set(columns)]
    rows = [{key: row[key] for key in columns} for row in kept]
    path = str(write_jsonl(tmp_path / "new.jsonl", rows))
    for files in ({"all": path}, {task: path}):
        assert list(pt.evaluate(run.model, files, tasks=[task]).scores) == [task]
    assert list(pt.evaluate(run.model, {task: path}).scores) == [task]


def test_the_command_shows_intervals_and_adds_them_to_json_when_asked(
    run: pt.Run, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*arguments: str) -> str:
        command = ["polytask", "evaluate", str(home / "run" / "model"), "--data", str(home / "all-test.jsonl")]
        monkeypatch.setattr("sys.argv", [*command, *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert not left.value.code
        return capsys.readouterr().out

    assert "95 %" in call()
    scores = json.loads(call("--json"))
    assert scores == run.scores["test"]
    kept = json.loads((home / "run" / "intervals.json").read_text("utf-8"))["test"]
    assert json.loads(call("--json", "--intervals")) == {"scores": scores, "intervals": kept}


def test_new_files_may_be_written_in_another_way(
    run: pt.Run, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row for row in corpus_rows(60)[40:] if "sentiment" in row]
    plain = str(write_jsonl(tmp_path / "new.jsonl", [{key: row[key] for key in ("text", "sentiment")} for row in rows]))
    table = tmp_path / "new.csv"
    with table.open("w", encoding="utf-16", newline="") as file:
        csv.writer(file, delimiter=";").writerows([("text", "sentiment"), *((r["text"], r["sentiment"]) for r in rows)])
    files = {"separator": ";", "encoding": "utf-16"}
    expected = pt.evaluate(run.model, {"sentiment": plain}).scores
    assert pt.evaluate(run.model, {"sentiment": str(table)}, files=files).scores == expected
    written = [item for name, value in files.items() for item in ("--written", f"{name}={value}")]
    command = ["polytask", "evaluate", str(home / "run" / "model"), "--data", f"sentiment={table}", "--json"]
    monkeypatch.setattr("sys.argv", [*command, *written])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    assert json.loads(capsys.readouterr().out) == expected
    for bad, told in (
        ({"seperator": ";"}, "files: found 'seperator'"),
        ({"encoding": "utf-99"}, "files.encoding: found"),
    ):
        with pytest.raises(ConfigError, match=told):
            pt.evaluate(run.model, {"sentiment": str(table)}, files=bad)


def test_spans_score_as_the_words_and_tags_that_they_stand_for(run: pt.Run, tmp_path: Path) -> None:
    tagged = [row for row in corpus_rows(60)[40:] if {"tokens", "tags"} <= row.keys()]
    spelled = [row for row in tagged if [row["text"][a:b] for a, b in split_words(row["text"])] == row["tokens"]]
    with_spans = [{"text": row["text"], "tags": characters_of(row)} for row in spelled]
    tokens = [{key: row[key] for key in ("text", "tokens", "tags")} for row in spelled]
    one, other = (
        pt.evaluate(run.model, {"entities": str(write_jsonl(tmp_path / f"{name}.jsonl", found))}).scores
        for name, found in (("tokens", tokens), ("spans", with_spans))
    )
    assert spelled
    assert one == other


def characters_of(row: dict[str, Any]) -> list[list[Any]]:
    """Return a row's entities as spans by character."""
    words = split_words(row["text"])
    return [[words[span.first][0], words[span.end - 1][1], span.label] for span in spans(row["tags"])]


_LABELS = ("negative", "positive")


def _labelled(tmp_path: Path, change: Callable[[int, str], Any]) -> str:
    """Write a file of 40 rows whose sentiment is changed: by the number of the row and its label."""
    rows = [{"text": f"Text number {number}", "sentiment": change(number, _LABELS[number % 2])} for number in range(40)]
    return str(write_jsonl(tmp_path / "new.jsonl", rows))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda number, label: label.title(), ["Negative (20, the first at", "write it as in training: 'negative'"]),
        (lambda number, label: _LABELS.index(label), ["count as errors: 0 (20", "1 (20"]),
        (lambda number, label: "NA" if number % 2 else label, ["NA (20, the first at", "leave its cells empty"]),
        (lambda number, label: "negatve" if number == 6 else label, ["negatve (1, the first at", "jsonl:7)"]),
        (lambda number, label: None if number % 4 else label, ["30 of 40 rows carry no label and are masked"]),
        (lambda number, label: label if number < 4 else None, ["only 4 rows carry a label"]),
        (lambda number, label: "positive", ["every row has the label 'positive'"]),
    ],
)
def test_labels_that_score_wrongly_are_noted_as_check_notes_them(
    run: pt.Run, tiny: Path, tmp_path: Path, change: Callable[[int, str], Any], told: list[str]
) -> None:
    path = _labelled(tmp_path, change)
    found = pt.evaluate(run.model, {"sentiment": path})
    messages = [f"{note.place}: {note.message}" for note in found.notes]
    assert all(any(part in message for message in messages) for part in told), messages
    assert all(message.startswith("test of sentiment: ") for message in messages)
    assert found.summary().endswith(f"; {len(messages)} note{'s' if len(messages) > 1 else ''}")
    ordinary = [{"text": f"Row {number}", "sentiment": _LABELS[number % 2]} for number in range(40)]
    data = {"train": ordinary, "dev": ordinary, "test": path}
    task = {"type": "classification", "data": data, "label": "sentiment"}
    checked = pt.check({"encoder": str(tiny), "max_tokens": 48, "tasks": {"sentiment": task}})
    assert set(messages) <= {f"{note.place}: {note.message}" for note in checked.notes}


def test_ordinary_rows_are_scored_without_a_note_and_counted(run: pt.Run, tmp_path: Path) -> None:
    found = pt.evaluate(run.model, {"sentiment": _labelled(tmp_path, lambda number, label: label)})
    assert found.notes == ()
    assert found.rows == {"sentiment": 40}
    assert {row["rows"] for row in found.records()} == {40}
    assert "note" not in found.summary()


@pytest.mark.parametrize("empty", [None, "", " "])
def test_rows_without_any_label_are_refused(run: pt.Run, tmp_path: Path, empty: str | None) -> None:
    path = _labelled(tmp_path, lambda number, label: empty)
    with pytest.raises(
        DataError, match="no row has a label, so there is nothing to score: sentiment reads 'sentiment'"
    ):
        pt.evaluate(run.model, {"sentiment": path})
    with pytest.raises(ConfigError, match="data: found no rows for topic"):
        pt.evaluate(run.model, {"sentiment": path}, tasks=["topic"])


def test_a_task_without_labels_beside_others_is_left_out_with_a_note(run: pt.Run, tmp_path: Path) -> None:
    rows = [{"text": f"Text number {number}", "sentiment": _LABELS[number % 2], "topic": None} for number in range(40)]
    path = str(write_jsonl(tmp_path / "new.jsonl", rows))
    found = pt.evaluate(run.model, path, tasks=["sentiment", "topic"])
    assert list(found.scores) == list(found.rows) == ["sentiment"]
    assert [note.place for note in found.notes] == ["test of topic"]
    assert "no row of new.jsonl has a label in 'topic', so the task is not scored" in found.notes[0].message


def test_spans_in_another_spelling_and_with_inclusive_ends_are_noted(run: pt.Run, tmp_path: Path) -> None:
    kinds = sorted({tag[2:] for tag in run.model.tasks["entities"].labels if tag != "O"})

    def spans_file(label: Callable[[str], str], short: int) -> str:
        rows = [
            {"text": f"Then Name{number} went home", "tags": [[5, 9 + len(str(number)) - short, label(kinds[0])]]}
            for number in range(30)
        ]
        return str(write_jsonl(tmp_path / "spans.jsonl", rows))

    assert pt.evaluate(run.model, {"entities": spans_file(str, 0)}).notes == ()
    (note,) = pt.evaluate(run.model, {"entities": spans_file(str.lower, 0)}).notes
    assert f"write it as in training: 'B-{kinds[0]}'" in note.message
    (note,) = pt.evaluate(run.model, {"entities": spans_file(str, 1)}).notes
    assert "30 spans end one character before the end of a word" in note.message


def test_texts_that_the_encoder_does_not_see_are_noted(run: pt.Run, tmp_path: Path) -> None:
    rows = [
        {"text": "\u0e01\u0e32\u0e23 " * (60 if number < 3 else 2) + str(number), "sentiment": _LABELS[number % 2]}
        for number in range(20)
    ]
    path = str(write_jsonl(tmp_path / "thai.jsonl", rows))
    messages = [note.message for note in pt.evaluate(run.model, {"sentiment": path}).notes]
    assert any("3 of 20 texts (15 %) are longer than 48 tokens" in message for message in messages)
    whole = [note.message for note in pt.evaluate(run.model, {"sentiment": path}, long="windows").notes]
    assert not any("longer than" in message for message in whole)


def test_the_command_prints_notes_on_stderr_and_the_number_of_rows(
    run: pt.Run, home: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    path = _labelled(tmp_path, lambda number, label: label.upper())
    model = str(home / "run" / "model")
    code, out, err = call("evaluate", model, "--data", f"sentiment={path}")
    assert code == 0
    assert "rows" in out
    assert "40" in out
    assert "Note: test of sentiment: labels that training never has count as errors: NEGATIVE (20" in err
    code, out, err = call("evaluate", model, "--data", f"sentiment={path}", "--json")
    assert (code, json.loads(out)["sentiment"]["accuracy"]) == (0, 0.0)
    assert "NEGATIVE" in err
    empty = _labelled(tmp_path, lambda number, label: "")
    code, out, err = call("evaluate", model, "--data", f"sentiment={empty}")
    assert (code, out) == (2, "")
    assert "nothing to score" in err


def test_spans_are_read_in_the_unit_of_the_training_rows_or_in_the_one_that_is_given(
    tiny: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def spans_file(name: str, width: int) -> str:
        rows = [
            {"id": number, "text": f"\U0001f600 Ann{number} sings in \U0001f600 Rome", "spans": [
                [1 + width, 4 + width + len(str(number)), "PER"],
                [15 + 2 * width + len(str(number)), 19 + 2 * width + len(str(number)), "LOC"],
            ]}
            for number in range(40)
        ]  # fmt: skip
        return write_jsonl(tmp_path / name, rows).name

    wide, plain = spans_file("wide.jsonl", 2), spans_file("plain.jsonl", 1)
    assert call("init", wide, "--written", "offsets=utf-32")[0] == 2
    code, _, err = call("init", wide, "--encoder", tiny, "--out", "a.yaml")
    assert (code, "--written offsets=utf-16" in err) == (2, True)
    code, _, err = call("init", wide, "--encoder", tiny, "--written", "offsets=utf-16", "--written", "strict=true")
    assert (code, "offsets" in err) == (0, False)
    written = Path("config.yaml").read_text("utf-8")
    assert "offsets: utf-16" in written
    assert "strict: true" in written
    run = pt.train("config.yaml", "run", overrides=["train.max_steps=2", "train.precision=fp32"])
    (name,) = run.model.tasks
    scores = {}
    for file, given in (
        (wide, []),
        (wide, ["--written", "offsets=utf-16"]),
        (plain, ["--written", "offsets=characters"]),
    ):
        code, out, err = call("evaluate", "run", "--data", file, "--json", *given)
        assert (code, "spans" in err) == (0, False)
        scores[file, *given] = json.loads(out)
    assert len({json.dumps(found) for found in scores.values()}) == 1
    assert pt.evaluate(run.model, wide).scores == pt.evaluate("run", wide, files={"offsets": "utf-16"}).scores
    code, _, err = call("evaluate", "run", "--data", wide, "--written", "offsets=characters")
    assert (code, "span" in err) == (2, True)
    with pytest.raises(ConfigError, match="files: found 'offset'; .*did you mean 'offsets'"):
        pt.evaluate(run.model, wide, files={"offset": "utf-16"})
    assert json.loads(Path("run/model/polytask.json").read_text())["tasks"][name]["options"]["data"] == {
        "offsets": "utf-16"
    }
    code, _, err = call("predict", "run", wide, "--written", "offsets=utf-16")
    assert (code, "found 'offsets'" in err) == (2, True)  # predicted rows have no spans


def test_several_files_of_a_task_are_scored_as_one(
    run: pt.Run, home: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    model = home / "run" / "model"
    rows = corpus_rows(60)
    one, other = (str(write_jsonl(tmp_path / f"{n}.jsonl", part)) for n, part in enumerate((rows[:30], rows[30:])))
    expected = pt.evaluate(run.model, [one, other]).scores
    assert expected != pt.evaluate(run.model, other).scores
    assert json.loads(call("evaluate", model, "--data", one, "--data", other, "--json")[1]) == expected
    named = [item for file in (one, other) for item in ("--data", f"topic={file}")]
    assert json.loads(call("evaluate", model, *named, "--json")[1]) == {"topic": expected["topic"]}


def test_a_file_whose_path_contains_an_equals_sign_is_a_file_and_not_a_task(
    run: pt.Run, home: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = home / "run" / "model"
    names = ["data/date=2024/all.jsonl", "date=2024.jsonl", "topic=2024.jsonl", "2024.jsonl"]
    Path("data/date=2024").mkdir(parents=True)
    for name, count in zip(names, (30, 32, 34, 36), strict=True):
        write_jsonl(Path(name), corpus_rows(60)[:count])
    for name in names[:2]:
        scores = json.loads(call("evaluate", model, "--data", name, "--json")[1])
        assert scores == pt.evaluate(run.model, name).scores
    scores = json.loads(call("evaluate", model, "--data", names[2], "--json")[1])
    assert scores == pt.evaluate(run.model, {"topic": "2024.jsonl"}).scores
    code, _, err = call("evaluate", model, "--data", "date=missing.jsonl")
    assert (code, "tasks: found 'date'" in err) == (2, True)


def test_the_advice_for_a_file_that_lacks_columns_names_the_tasks_that_can_be_scored(
    run: pt.Run, tmp_path: Path
) -> None:
    rows = [row for row in corpus_rows(60) if {"sentiment", "topic", "tags"} <= row.keys()]

    def score(*columns: str, **others: str) -> pt.Evaluation:
        path = write_jsonl(tmp_path / "new.jsonl", [{key: row[key] for key in columns} for row in rows])
        return pt.evaluate(run.model, {"all": str(path), **others})

    with pytest.raises(ConfigError) as caught:
        score("text", "topic")
    assert str(caught.value).endswith(
        "; score the other tasks alone (--tasks topic), or give each of 'sentiment', 'entities' a file of its own "
        "(--data sentiment=FILE --data entities=FILE)"
    )
    assert list(pt.evaluate(run.model, str(tmp_path / "new.jsonl"), tasks=["topic"]).scores) == ["topic"]
    with pytest.raises(ConfigError) as caught:
        score("text", "tokens", "tags", sentiment=str(write_jsonl(tmp_path / "own.jsonl", rows)))
    assert str(caught.value).endswith(
        "; score the other tasks alone (--tasks sentiment,entities), or give 'topic' a file of its own "
        "(--data topic=FILE)"
    )
    with pytest.raises(ConfigError, match=r"no column '\w+' \(accepted: text\)$"):
        score("text")


def test_tasks_may_be_listed_or_given_one_by_one(
    run: pt.Run, home: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    command = ["evaluate", home / "run" / "model", "--data", home / "all-test.jsonl", "--json"]
    lists = (["--tasks", "topic,sentiment"], ["--tasks", "topic", "--tasks", "sentiment"])
    listed, repeated = (json.loads(call(*command, *tasks)[1]) for tasks in lists)
    assert listed == repeated
    assert list(repeated) == ["topic", "sentiment"]
