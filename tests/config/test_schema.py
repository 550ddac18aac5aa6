"""The JSON form and the JSON schema say the same as the checker."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from polytask.config import Config, load_config, validate
from polytask.config.document import parse
from polytask.errors import ConfigError

ROOT = Path(__file__).parents[2]
FILES = [*sorted((ROOT / "examples").glob("*.yaml")), Path(str(files("polytask.corpus") / "quickstart.yaml"))]
ROWS = {"train": [{"text": "a", "label": None}]}


def tasks(**options: Any) -> dict[str, Any]:
    return {"encoder": "e", "tasks": {"a": {"type": "classification", "data": ROWS, **options}}}


VALID: dict[str, dict[str, Any]] = {
    "rows": tasks(),
    "one need": tasks(needs="a"),
    "needs": tasks(needs=["a"]),
    "one reading": tasks(needs="a", reads="a"),
    "readings": tasks(needs="a", reads=["a"]),
    "form of readings": tasks(needs="a", reads={"a": "probabilities"}),
    "pair": tasks(text_pair=["a", "b"]),
    "balanced": tasks(class_weights="balanced"),
    "weights": tasks(class_weights={"x": 1, "y": 2.5}),
    "column numbers": tasks(type="tagging", tokens=1, tags=4),
    "multilabel": tasks(type="multilabel", threshold=0.3),
    "regression": tasks(type="regression", metric="mae", pooling="cls"),
    "held out": tasks(data={"train": ["a.csv", "b.csv"], "dev": 0.1, "format": "csv", "strict": True}),
    "hub": tasks(data={"hub": "some/set", "config": "en", "test": "validation"}),
    "training": {**tasks(), "train": {"attention_dropout": None, "patience": 2, "max_steps": 10, "precision": "bf16"}},
    "sections": {
        **tasks(),
        "sharing": {"strategy": "independent"},
        "schedule": {"strategy": "parallel", "proportions": "temperature", "temperature": 3},
        "balance": {"method": "sum"},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    found = Config.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


@pytest.mark.parametrize("name", VALID)
def test_schema_and_checker_accept_the_same(name: str, schema: jsonschema.Draft202012Validator) -> None:
    validate(VALID[name])
    schema.validate(VALID[name])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_bundled_configurations_are_valid(path: Path, schema: jsonschema.Draft202012Validator) -> None:
    schema.validate(parse(path.read_text("utf-8"), path.name)[0])
    config = load_config(path)
    schema.validate(config.to_json())
    assert len(config.tasks) >= 2


def test_there_are_bundled_configurations() -> None:
    assert len(FILES) >= 2


@pytest.mark.parametrize(
    "wrong",
    [
        {**tasks(), "bogus": 1},
        tasks(bogus=1),
        tasks(data={**ROWS, "bogus": 1}),
        {**tasks(), "train": {"bogus": 1}},
        {**tasks(), "sharing": {"bogus": 1}},
        {**tasks(), "schedule": {"bogus": 1}},
        {**tasks(), "balance": {"bogus": 1}},
        {**tasks(), "train": {"epochs": "many"}},
        tasks(type="bogus"),
        tasks(tokens=1),
        tasks(needs="a", reads=1),
        tasks(needs="a", reads={"a": "labels"}),
        {"encoder": "e", "tasks": {}},
        {"encoder": "e"},
    ],
)
def test_schema_and_checker_refuse_the_same(wrong: dict[str, Any], schema: jsonschema.Draft202012Validator) -> None:
    assert not schema.is_valid(wrong)
    with pytest.raises(ConfigError):
        validate(wrong)


@pytest.mark.parametrize("name", VALID)
def test_json_form_reads_back_as_an_equal_configuration(name: str) -> None:
    config = validate(VALID[name])
    assert validate(json.loads(json.dumps(config.to_json()))) == config
    assert Config.model_validate(config.to_json()) == config


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_json_form_of_a_file_does_not_depend_on_its_folder(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    (tmp_path / "copy.yaml").write_text(json.dumps(config.to_json()), "utf-8")
    assert load_config(tmp_path / "copy.yaml") == config
