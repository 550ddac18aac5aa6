"""Mistakes of new users in a configuration: the message shows the line and says what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from polytask.config import Config, load_config
from polytask.config.explain import path_like, paths_of
from polytask.errors import ConfigError
from polytask.options import is_name
from polytask.tasks import TASKS

GOOD = """\
encoder: e
tasks:
  a:
    type: classification
    data: {train: a.jsonl, dev: 0.1}
train:
  epochs: 1
"""


def load(folder: Path, text: str, *overrides: str) -> Config:
    (folder / "run.yaml").write_text(text, "utf-8")
    return load_config(folder / "run.yaml", overrides)


def complaint(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    return re.sub(r"\S*/run\.yaml", "run.yaml", str(caught.value))


@pytest.mark.parametrize(
    ("old", "new", "line", "shown"),
    [
        ("  epochs: 1", "\tepochs: 1", 7, "\tepochs: 1"),
        ("  epochs: 1", "  \tepochs: 1", 7, "  \tepochs: 1"),
        ("    type: classification", "\t\ttype: classification", 4, "\t\ttype: classification"),
    ],
)
def test_a_tab_is_named_and_its_line_shown(tmp_path: Path, old: str, new: str, line: int, shown: str) -> None:
    told = complaint(tmp_path, GOOD.replace(old, new))
    assert told == f"run.yaml:{line}: not YAML: found a tab in the indentation; indent with spaces: {shown!r}"


@pytest.mark.parametrize(
    ("old", "new", "line", "shown"),
    [
        ("  epochs: 1", "  epochs: 1\n   batch_size: 8", 8, "   batch_size: 8"),
        ("  epochs: 1", "  epochs: 1\n batch_size: 8", 8, " batch_size: 8"),
        ("    type:", "   type:", 5, "    data: {train: a.jsonl, dev: 0.1}"),
        ("type: classification", "type: classification: x", 4, "    type: classification: x"),
    ],
)
def test_indentation_that_does_not_fit_is_named_and_its_line_shown(
    tmp_path: Path, old: str, new: str, line: int, shown: str
) -> None:
    told = complaint(tmp_path, GOOD.replace(old, new))
    assert told.startswith(f"run.yaml:{line}: not YAML: the line does not fit the indentation of the lines above, or ")
    assert "indent with spaces, keys of one level by the same number" in told
    assert told.endswith(f": {shown!r}")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  a:\n", "a:\n", "run.yaml:3: a: unknown key; .*; to put 'a' below 'tasks', which is empty, indent it"),
        (
            "  epochs",
            "epochs",
            "run.yaml:7: epochs: unknown key; .*; to put 'epochs' below 'train', which is empty",
        ),
        (
            "    type",
            "  type",
            "run.yaml:4: tasks.type: found 'classification'; .*; to put 'type' below 'a', which is",
        ),
    ],
)
def test_a_key_that_belongs_below_the_one_before_it_is_told_so(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = GOOD.replace(old, new).replace("    data", new.replace("type", "data") if "type" in new else "    data")
    assert re.search(told, complaint(tmp_path, text))


@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("epochs=1", "train.epochs"),
        ("batch_size=8", "train.batch_size"),
        ("label=x", "tasks.NAME.label"),
        ("tasks.a.epochs=1", "train.epochs"),
        ("train.label=x", "tasks.NAME.label"),
        ("train.max_tokens=9", "max_tokens"),
    ],
)
def test_a_key_that_stands_elsewhere_names_its_path(tmp_path: Path, override: str, path: str) -> None:
    told = complaint(tmp_path, GOOD, override)
    assert told.startswith(f"--set {override.partition('=')[0]}: ")
    assert told.endswith(f"; did you mean {path!r}?")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ner", "tagging"), ("NER", "tagging"), ("token_classification", "tagging"), ("Sequence Labeling", "tagging"),
        ("text-classification", "classification"), ("multi_label", "multilabel"), ("similarity", "regression"),
        ("taging", "tagging"),
    ],
)  # fmt: skip
def test_a_type_by_another_name_is_suggested(tmp_path: Path, name: str, meant: str) -> None:
    told = complaint(tmp_path, GOOD.replace("classification", name))
    assert told == (f"run.yaml:4: tasks.a.type: found {name!r}; accepted: {', '.join(TASKS)}; did you mean {meant!r}?")


def test_no_name_means_two_types() -> None:
    names = [name for task in TASKS.values() for name in (task.type_name, *task.also_called)]
    assert len(names) == len(set(names))
    assert all(task.also_called for task in TASKS.values())


@pytest.mark.parametrize("name", ["情感", "सकारात्मक", "العنوان", "тон-2", "é", "a" * 120, "感_1"])
def test_names_in_any_script_are_accepted(tmp_path: Path, name: str) -> None:
    assert is_name(name)
    assert list(load(tmp_path, GOOD.replace("  a:", f"  {name}:")).tasks) == [name]


@pytest.mark.parametrize(
    "name", ["a b", "a/b", "..", "a.b", "1a", "-a", "", "a" * 121, "情" * 41, "e\u0301", "a\u200b", "a@1"]
)
def test_names_that_could_be_no_file_or_another_one_are_refused(tmp_path: Path, name: str) -> None:
    assert not is_name(name)
    assert "expected a name: a letter (of any script)" in complaint(tmp_path, GOOD.replace("  a:", f"  {name!r}:"))


def test_where_values_stand_is_no_part_of_what_a_configuration_says(tmp_path: Path) -> None:
    one, other = load(tmp_path, GOOD), load(tmp_path, "# a comment\n" + GOOD)
    assert one == other
    assert one.to_json() == other.to_json()
    for config, line in ((one, 4), (other, 5), (one.model_copy(), 4)):
        with pytest.raises(ConfigError, match=rf"run.yaml:{line}: wrong"), config.at_its_line():
            raise ConfigError("wrong", option=("tasks", "a", "type"))
    with pytest.raises(ConfigError, match=r"run.yaml:3: wrong"), one.at_its_line():
        raise ConfigError("wrong", option=("tasks", "a", "text"))
    with pytest.raises(ConfigError, match=r"^wrong"), one.at_its_line():
        raise ConfigError("wrong")


def test_every_path_of_the_configuration_can_be_found() -> None:
    assert paths_of("learning_rate") == ["train.learning_rate", "tasks.NAME.learning_rate"]
    assert paths_of("dev") == ["tasks.NAME.data.dev"]
    assert path_like("learning_rat") == "train.learning_rate"
    assert path_like("zzz") is None


COLON = "found a full-width colon (\uff1a) after the key; write `: `, a plain colon and a space"
SPACE = "a space is missing after the colon; write `key: value`"


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (GOOD.replace(":", "\uff1a"), 1, COLON),
        (GOOD.replace("data: ", "data\uff1a"), 5, COLON),
        (GOOD.replace("train:\n", "train\uff1a\n"), 6, COLON),
        (GOOD.replace("  epochs: 1", "  epochs\uff1a1"), 6, COLON),
        (GOOD.replace("encoder: e", "encoder:e"), 1, SPACE),
        (GOOD.replace("epochs: 1", "epochs:1"), 6, None),
    ],
)
def test_a_colon_that_yaml_does_not_see_is_named_with_its_line(
    text: str, line: int, told: str | None, tmp_path: Path
) -> None:
    found = complaint(tmp_path, text)
    assert found.startswith(f"run.yaml:{line}: ")
    assert (told or SPACE) in found


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "data: {train: a.jsonl, dev: 0.1}",
            "data: a.jsonl",
            "name the files by split: `data: {train: FILE, dev: 0.1}`",
        ),
        (
            "dev: 0.1",
            "dev: 10%",
            "found dev: '10%'; to hold out a fraction of the training rows, write a number: dev: 0.1",
        ),
        ("dev: 0.1", 'dev: "0,2"', "write a number: dev: 0.2"),
        ("  a:\n    type", "  - name: a\n    type", "write each task below its name"),
        (
            "    data:",
            "    label: [x, y]\n    data:",
            "a task learns one column, so give each column a task of its own",
        ),
        ("    data:", "    text: [x, y]\n    data:", "for a pair of texts give `text_pair: [FIRST, SECOND]`"),
    ],
)
def test_a_value_in_another_shape_is_told_how_to_write_it(old: str, new: str, told: str, tmp_path: Path) -> None:
    assert told in complaint(tmp_path, GOOD.replace(old, new))


def test_a_file_of_dev_rows_may_be_named_by_a_number_in_a_folder(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD.replace("dev: 0.1", "dev: rows/0.1"))
    assert config.tasks["a"].data.dev == str(tmp_path / "rows" / "0.1")


def test_a_configuration_in_another_encoding_is_to_be_saved_as_utf_8(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(GOOD.replace("  a:", "  情感:"), "gb18030")
    with pytest.raises(ConfigError, match="run.yaml: not UTF-8; save the configuration as UTF-8"):
        load_config(tmp_path / "run.yaml")
