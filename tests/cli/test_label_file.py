"""A file of labels is read as its writer meant it."""

from __future__ import annotations

from pathlib import Path

import pytest

from polytask.cli.label_file import read_labels
from polytask.errors import ConfigError


def test_labels_stay_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "labels.yaml"
    file.write_text("\ufeffno: a refusal\nyes: consent\n1: one\n体育: 关于体育的新闻\n", "utf-8")
    assert read_labels(file) == {"no": "a refusal", "yes": "consent", "1": "one", "体育": "关于体育的新闻"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: b\na: c\n", "labels.yaml:2: the key 'a' is already on line 1"),
        ("[" * 3000, "nested too deeply"),
        (" \n", "found None; expected labels with their texts"),
        ("- a\n", r"found \['a'\]; expected labels with their texts"),
    ],
)
def test_what_holds_no_labels_is_refused_with_its_place(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=told):
        read_labels(file)
