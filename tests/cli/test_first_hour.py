"""What a new user meets first: `init`, tables of the main metric with a line on how to read them, what to do next."""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import polytask
from polytask.cli.next_steps import next_steps
from polytask.tables import console, grid, prediction_text, show_before, show_scores
from polytask.terminal import PlainConsole
from samples import corpus_rows, write_jsonl

Call = Callable[..., tuple[int, str, str]]
SCORES = {
    "dev": {"topic": {"accuracy": 0.5, "macro_f1": 0.25, "ece": 0.1}, "rating": {"mae": 0.7, "pearson": 0.3}},
    "test": {"topic": {"accuracy": 0.75, "macro_f1": 0.125, "ece": 0.2}, "rating": {"mae": 0.9, "pearson": None}},
}  # fmt: skip
INTERVALS = {"test": {"topic": {"accuracy": (0.7, 0.8), "macro_f1": (0.1, 0.2)}, "rating": {"mae": (0.8, 1.0)}}}


def test_init_writes_what_check_and_train_take(call: Call, tmp_path: Path, tiny: Path) -> None:
    file, out = write_jsonl(tmp_path / "a.jsonl", corpus_rows(60)), tmp_path / "my config.yaml"
    out.write_text("mine")
    code, _, err = call("init", file, "--out", out)
    assert (code, out.read_text()) == (2, "mine")
    assert "the file already exists; name another one with --out, or add --force" in err
    code, shown, err = call("init", file, "--out", out, "--force", "--encoder", tiny)
    assert (code, shown) == (0, f"{out}\n")
    assert err.splitlines()[-2:] == [
        f"next: polytask check '{out}'", f"      polytask train '{out}' --out runs/first",
    ]  # fmt: skip
    assert "sentiment: classification" in err
    assert "tags: tagging" in err
    code, shown, err = call("train", out, "--out", tmp_path / "run", "--set", "train.max_steps=1")
    assert code == 0
    assert err.splitlines()[-3:] == next_steps(tmp_path / "run", polytask.load(tmp_path / "run").tasks.values())
    assert "macro_f1" not in shown.replace("macro_f1 is", "")
    assert "majority: score of always predicting the most frequent label" in shown
    code, _, err = call("init", tmp_path / "nowhere.csv", "--out", tmp_path / "x.yaml")
    assert code == 2
    assert "nowhere.csv: no such file" in err


def named(*columns: str) -> Any:
    return SimpleNamespace(input_columns=columns)


def test_the_next_steps_name_the_columns_where_a_text_alone_is_not_answered() -> None:
    told = next_steps(Path("a"), [named("first", "second"), named("text", "other", "choices")])[1]
    assert shlex.split(told, comments=True) == ["polytask", "predict", "a", "rows.jsonl"]
    assert told.endswith("# rows with first and second")


def test_the_next_steps_can_be_copied() -> None:
    lines = next_steps(Path("my runs/a"), [named("first", "second"), named("text")])
    assert len(lines) == 3
    for line, command in zip(lines, ("report", "predict", "serve"), strict=True):
        words = shlex.split(line.removeprefix("next:"), comments=True)
        assert words[-3:] == ["polytask", command, "my runs/a"]


def shown(*, every: bool) -> str:
    screen = console()
    screen.width = 120
    with screen.capture() as captured:
        show_scores(SCORES, {"test": SCORES["dev"]}, screen, INTERVALS, every=every)
    return captured.get()


def test_tables_show_the_main_metric_and_all_where_that_is_asked_for() -> None:
    main, whole = shown(every=False), shown(every=True)
    for text in (main, whole):
        assert text.count("accuracy") == 1
        assert "0.700 to 0.800" in text
        assert "majority: score of always predicting the most frequent label; 95 %: confidence interval of" in text
        assert "mae: mean absolute error, lower is better" in text
    assert "macro_f1" not in main
    assert "ece" not in main
    assert "0.1250" in whole
    assert "ece: mean gap between confidence and correctness, lower is better" in whole
    assert len(main.rstrip().splitlines()[-1].split("; ")) == 3


def test_what_is_not_shown_is_not_explained() -> None:
    screen = console()
    with screen.capture() as captured:
        show_scores({"score": {"topic": {"f1": 0.5}}}, {}, screen)
        show_before({"test": {"topic": {"f1": 0.5, "accuracy": 1.0}}}, {"test": {}}, screen)
    text = captured.get()
    assert "majority" not in text
    assert "accuracy" not in text


def test_a_piped_table_is_whole_where_colours_are_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TERM", "dumb"), ("FORCE_COLOR", "1"), ("COLUMNS", "40")):
        monkeypatch.setenv(name, value)
    sink = io.StringIO()
    monkeypatch.setattr("sys.stdout", sink)
    table = grid("task", "labels", title="Labels")
    table.add_row("t" * 150, "l" * 300)
    PlainConsole().print(table)
    assert "t" * 150 in sink.getvalue()
    assert "l" * 300 in sink.getvalue()


@pytest.mark.parametrize(
    ("prediction", "shown"),
    [
        ({"label": "film", "probabilities": {"film": 0.914, "food": 0.086}}, "film (0.91)"),
        ({"labels": ["calm", "glad"], "probabilities": {"calm": 0.8, "glad": 0.6}}, "calm, glad"),
        ({"labels": [], "probabilities": {"calm": 0.2}}, "none"),
        ({"value": 3.25}, "value 3.25"),
        ([{"label": "PER", "start": 0, "end": 7, "text": "Ang Lee", "score": 0.9}], "Ang Lee (PER)"),
        ([], "none"),
    ],
)
def test_a_prediction_is_shown_in_words(prediction: Any, shown: str) -> None:
    assert prediction_text(prediction) == shown
