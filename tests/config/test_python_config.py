"""A configuration written in Python: mistakes are told as those of a file, and paths are those of the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from polytask.config import Config, validate
from polytask.errors import ConfigError
from polytask.tasks import TASKS

ROWS = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


def task(**more: Any) -> dict[str, Any]:
    return {"type": "classification", "data": {"train": ROWS, "dev": ROWS}, **more}


def test_it_is_the_configuration_that_a_mapping_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encoder").mkdir()
    values = {"encoder": "encoder", "tasks": {"a": task(data={"train": "rows.jsonl", "dev": 0.1})}}
    config = Config(**values)
    assert config == validate(values, base=Path())
    assert config.encoder == str(tmp_path / "encoder")
    assert Config(**{**values, "encoder": Path("encoder")}) == config
    assert config.tasks["a"].data.train == str(tmp_path / "rows.jsonl")
    again = Config.model_validate(config.to_json())
    assert type(again) is Config
    assert again == config
    assert config.model_copy(update={"max_tokens": 8}).max_tokens == 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": "e"}, "config: tasks: missing, and it has no default"),
        ({"encoder": "e", "tasks": {"a": task()}, "trian": {}}, "config: trian: unknown key; .*did you mean 'train'"),
        ({"encoder": "e", "tasks": {"a": task(lable="x")}}, "tasks.a.lable: unknown key; .*did you mean 'label'"),
        ({"encoder": "e", "tasks": {"a": task()}, "train": {"epochs": 0}}, "train.epochs: found 0; "),
        ({"encoder": "e", "tasks": {"a/b": task()}}, "tasks.*found 'a/b'; expected a name"),
        (
            {"encoder": "e", "tasks": {"a": task(data={"train": pd.Series(["a"]), "dev": ROWS})}},
            "tasks.a.data.train: found a value of type Series; expected a file",
        ),
        (
            {"encoder": "e", "tasks": {"a": task(data=pd.DataFrame(ROWS))}},
            "tasks.a.data: found a DataFrame; expected keys with values; name the files or rows by split: `data: ",
        ),
        (
            {"encoder": "e", "tasks": {"a": task(data={"train": [*ROWS, 5], "dev": ROWS})}},
            "tasks.a.data.train: .*row 3: found a value of type int; expected a mapping",
        ),
    ],
)
def test_mistakes_are_told_as_those_of_a_file(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config(**values)
    with pytest.raises(ConfigError, match=message):
        validate(values)


def test_options_may_be_built_already_and_mistakes_beside_them_are_told() -> None:
    options = TASKS["classification"].Options.model_validate(task(type="classification"))
    assert Config(encoder="e", tasks={"a": options}).tasks["a"] == options
    with pytest.raises(ConfigError, match="tasks.b.label: found 5"):
        Config(encoder="e", tasks={"a": options, "b": task(label=5)})
