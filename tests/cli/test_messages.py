"""What a new user meets on the terminal: messages that name the mend, whole tables, text that stays text."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from polytask.cli import app
from polytask.tables import grid
from polytask.terminal import PlainConsole, visible
from samples import write_jsonl

Call = Callable[..., tuple[int, str, str]]
# Labels that would be markup, an emoji, or a command to the terminal.
LABELS = ("[/b]", "[red]x[/red]", ":smile:", "a\x1b[31m")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["check", "CONFIG", "--epochs", "3"], "--epochs: no such option; .* --set train.epochs=VALUE"),
        (
            ["train", "CONFIG", "--batch-size=8", "--out", "x"],
            "--batch-size: no such option; .* --set train.batch_size=",
        ),
        (["check", "CONFIG", "--max-tokens", "8"], "--set max_tokens=VALUE"),
        (["check", "CONFIG", "--set", "epochs=1"], "--set epochs: epochs: unknown key; .*did you mean 'train.epochs'?"),
        (["check", "CONFIG", "--zzz", "8"], "No such option: --zzz"),
        (["check", "CONFIG", "train.epochs=1", "x=[a, (b)]"], r"--set train.epochs=1 --set 'x=\[a, \(b\)\]'$"),
        (
            ["check", "CONFIG", "--set", "tasks.topics.weight=2"],
            "--set tasks.topics.weight: found the task 'topics'; .*topic",
        ),
        (
            ["check", "CONFIG", "--set", "sharing.shared_layers=1"],
            "--set sharing.shared_layers: sharing.strategy: missing",
        ),
        (["check", "CONFIG", "more"], "unexpected extra argument"),
        (["predict", "x", "--epochs", "8"], "No such option: --epochs"),
    ],
)
def test_an_option_that_is_a_key_names_its_path(call: Call, config: Path, arguments: list[str], told: str) -> None:
    import re

    code, out, err = call(*[str(config) if word == "CONFIG" else word for word in arguments])
    assert (code, out) == (2, "")
    assert re.search(told, err), err
    assert "--processes" not in err


def test_version(call: Call) -> None:
    from importlib.metadata import version

    assert call("--version") == (0, f"polytask {version('polytask')}\n", "")
    assert app.info.cls is not None


def test_a_missing_column_names_the_line_of_the_configuration(call: Call, config: Path, tmp_path: Path) -> None:
    lines = config.read_text().splitlines()
    asked = [at for at, line in enumerate(lines, start=1) if line.strip() == "label: topic"]
    config.write_text(config.read_text().replace("label: topic", "label: topics"))
    code, _, err = call("check", config)
    assert code == 2
    assert err.startswith(
        f"error: {config}:{asked[0]}: tasks.topic.label: all-train.jsonl: no column 'topics' (accepted"
    )
    config.write_text(config.read_text().replace("label: topics", "label: topic\n    text: txt"))
    code, _, err = call("check", config)
    assert code == 2
    assert f"{config}:{asked[0] + 1}: tasks.topic.text: {tmp_path}/all-train.jsonl:1: no column 'txt'" in err
    code, _, err = call("check", config, "--set", "tasks.topic.text=nowhere")
    assert "error: --set tasks.topic.text: tasks.topic.text: " in err


def test_a_folder_that_is_no_run_is_not_to_be_resumed(call: Call, config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    for resume in ([], ["--resume"]):
        code, _, err = call("train", config, "--out", folder, *resume)
        assert code == 2
        assert err == f"error: {folder}: the folder holds other files (thesis.txt) and no run; name a new folder\n"
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


@pytest.fixture
def odd(config: Path, tmp_path: Path) -> Path:
    """A configuration with tasks in other scripts, whose labels would drive a terminal."""
    values = yaml.safe_load(config.read_text())
    rows = [{"text": f"text {at}", "label": LABELS[at % 4], "tokens": ["a", "b"], "tags": ["B-[/b]", "O"]}
            for at in range(24)]  # fmt: skip
    data = {split: str(write_jsonl(tmp_path / f"{split}.jsonl", rows)) for split in ("train", "dev")}
    values["tasks"] = {
        "情感": {"type": "classification", "data": data},
        "имена_हिन्दी": {"type": "tagging", "data": data, "needs": "情感"},
    }
    values["train"] = {"max_steps": 2, "batch_size": 8, "precision": "fp32", "best_of_each_task": True}
    path = tmp_path / "odd.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True), "utf-8")
    return path


def test_names_in_any_script_and_labels_like_markup_go_all_the_way(call: Call, odd: Path, tmp_path: Path) -> None:
    code, out, err = call("check", odd)
    assert (code, err) == (0, "")
    for text in ("情感", "имена_हिन्दी", "[/b] 25.0 %", "[red]x[/red] 25.0 %", ":smile:", r"a\x1b[31m", "B-[/b] 50.0 %"):
        assert text in out, text
    assert "\x1b" not in out
    run = tmp_path / "run"
    assert call("train", odd, "--out", run)[0] == 0
    assert {path.name for path in (run / "best").iterdir()} == {"情感", "имена_हिन्दी"}
    assert {path.stem for path in (run / "predictions").iterdir()} == {"情感", "имена_हिन्दी"}
    code, out, _ = call("evaluate", run / "model", "--data", f"情感={tmp_path / 'dev.jsonl'}", "--json")
    assert (code, list(json.loads(out))) == (0, ["情感"])
    (tmp_path / "texts.txt").write_text("one text\n")
    code, out, _ = call("predict", run / "model", tmp_path / "texts.txt", "--tasks", "情感")
    assert json.loads(out)["predictions"]["情感"]["label"] in LABELS
    assert call("report", run)[0] == 0
    page = (run / "report.html").read_text("utf-8")
    assert "情感" in page
    assert "[red]x[/red]" in page
    code, out, err = call("export", run / "model", "--out", tmp_path / "alone", "--tasks", "情感")
    assert (code, err) == (0, "")
    # One file for all tasks that lacks the column of one of them.
    rows = [{"text": "t", "label": "[/b]"}]
    write_jsonl(tmp_path / "some.jsonl", rows)
    code, _, err = call("evaluate", run / "model", "--data", tmp_path / "some.jsonl")
    assert code == 2
    assert "tasks.имена_हिन्दी.tokens: some.jsonl: no column 'tokens' (accepted: label, text)" in err
    assert (
        "score the other tasks alone (--tasks 情感), or give 'имена_हिन्दी' a file of its own (--data имена_हिन्दी=FILE)"
        in err
    )


def test_no_cell_of_a_piped_table_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.StringIO()
    monkeypatch.setattr("sys.stdout", sink)
    table = grid("task", "labels", title="[b]Labels[/b]")
    table.add_row("t" * 150, "l" * 300)
    PlainConsole().print(table)
    text = sink.getvalue()
    assert "t" * 150 in text
    assert "l" * 300 in text
    assert "[b]Labels[/b]" in text
    assert "…" not in text


def test_a_narrow_terminal_folds_and_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = grid("task", "labels", title="it")
    table.add_row("task", "x" * 100)
    console = PlainConsole()
    console.width = 30
    with console.capture() as captured:
        console.print(table)
    assert captured.get().count("x") == 100


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\x1b[0m", r"a\x1b[0m"), ("a\nb\tc", "a\nb\tc"), ("情感", "情感"), ("\u202eabc", r"\u202eabc"),
     ("\x07", r"\x07"), ("e\u0301\u200d", "e\u0301\u200d"), ("[/b]", "[/b]")],
)  # fmt: skip
def test_what_would_drive_a_terminal_is_written_as_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_hub_repositories_have_names_that_the_hub_takes(tmp_path: Path) -> None:
    from polytask.errors import OutputError
    from polytask.exports.push import repositories

    folders: dict[str, Any] = {"情感": tmp_path / "情感", "b": tmp_path / "b"}
    with pytest.raises(OutputError, match="push: me/it-情感: the hub takes names of English letters and digits only"):
        repositories(folders, "me/it")
    assert repositories({"情感": tmp_path}, "me/it") == {"情感": "me/it"}
