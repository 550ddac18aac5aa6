"""Overrides on the command line are typed and checked as the file is, and name their own place."""

from __future__ import annotations

from pathlib import Path

import pytest

from polytask.config import Config, load_config
from polytask.errors import ConfigError

TEXT = """\
encoder: e
tasks:
  a: {type: classification, data: &rows {train: x.jsonl}, needs: [b]}
  b: {type: tagging, data: *rows}
train:
"""


def load(tmp_path: Path, *overrides: str) -> Config:
    (tmp_path / "run.yaml").write_text(TEXT)
    return load_config(tmp_path / "run.yaml", ["train={epochs: 2}", *overrides])


def test_overrides_are_typed(tmp_path: Path) -> None:
    config = load(
        tmp_path, "train.epochs=1", "train.learning_rate=1e-4", "train.report_to=[tensorboard]", "tasks.b.needs=[a]",
        "tasks.a.needs=b", "tasks.b.tags=4", "encoder=x=y", "train.head_learning_rate=auto", "sharing.strategy=global",
    )  # fmt: skip
    assert (config.train.epochs, config.train.learning_rate, config.train.report_to) == (1.0, 1e-4, ("tensorboard",))
    assert (config.tasks["a"].needs, config.tasks["b"].needs) == (("b",), ("a",))
    assert config.tasks["b"].tags == "4"  # type: ignore[attr-defined]
    assert config.encoder == "x=y"
    assert config.train.head_learning_rate == "auto"


def test_later_overrides_win(tmp_path: Path) -> None:
    assert load(tmp_path, "train.epochs=3", "train.epochs=4").train.epochs == 4


def test_new_sections_and_tasks_can_be_set(tmp_path: Path) -> None:
    config = load(tmp_path, "tasks.c={type: regression, data: {train: y.csv}}", "schedule.proportions=uniform")
    assert config.tasks["c"].data.train == str(tmp_path / "y.csv")
    assert config.schedule.proportions == "uniform"


def test_a_section_left_empty_in_the_file_can_be_filled(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(TEXT)
    assert load_config(tmp_path / "run.yaml", ["train.epochs=5"]).train.epochs == 5


def test_overriding_one_task_leaves_those_that_share_its_anchor_alone(tmp_path: Path) -> None:
    config = load(tmp_path, "tasks.a.data.train=other.jsonl")
    assert config.tasks["a"].data.train == str(tmp_path / "other.jsonl")
    assert config.tasks["b"].data.train == str(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=many", "--set train.epochs: train.epochs: found 'many'; expected a number"),
        ("train.epochs=", "--set train.epochs: train.epochs: found nothing; expected a number"),
        ("train={epochs: many}", "--set train: train.epochs: found 'many'; expected a number"),
        ("train={epochs: 1, epochs: 2}", "--set train:1: the key 'epochs' is already on line 1"),
        ("sharing.strategy=globl", "--set sharing.strategy: sharing.strategy: found 'globl'; accepted: "),
        ("encoder.x=1", "--set encoder.x=1: 'encoder' holds a single value, so nothing can be set below it"),
        ("tasks.a.needs.0=b", "--set tasks.a.needs.0=b: 'needs' holds a list, so nothing can be set below it"),
        ("tasks.a.data=x.jsonl", "--set tasks.a.data: tasks.a.data: found 'x.jsonl'; expected keys with values"),
        ("train.epochs=[", "--set train.epochs:1: not YAML: "),
        *[
            (text, f"--set {text}: expected a path and a value, such as train.epochs=3")
            for text in ("train", "=3", "train.=3", ".train=3", "train..epochs=3", "")
        ],
    ],
)
def test_wrong_overrides_name_themselves(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, override)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ("train.epoch=1", "epochs"),
        ("tasks.a.lable=x", "label"),
        ("trian.epochs=1", "train"),
        ("tasks.a.data.trian=x", "train"),
    ],
)
def test_new_keys_are_checked_as_those_of_the_file(tmp_path: Path, override: str, near: str) -> None:
    with pytest.raises(ConfigError, match=rf"unknown key; accepted: .*did you mean '{near}'\?$"):
        load(tmp_path, override)
