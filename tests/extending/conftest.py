"""What tests of extensions share: tables, modules and variables that are as before once a test is over."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

import polytask
import polytask.custom
from polytask import extensions, registry
from polytask.registry import TABLES


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[None]:
    """Take added rows out of all tables and forget what was imported; the working folder is the test's own."""
    owners = {noun: dict(table.extensions) for noun, table in TABLES.items()}
    modules, done, path = set(sys.modules), set(extensions._done), list(sys.path)
    allowed = set(registry._ALLOWED)
    variables = {name: os.environ.pop(name, None) for name in (extensions.VARIABLE, extensions.FOLDERS)}
    monkeypatch.chdir(tmp_path)
    # Processes start in that folder, where a relative PYTHONPATH would lead nowhere.
    monkeypatch.setenv("PYTHONPATH", str(Path(polytask.__file__).parents[1]))
    yield
    for noun, table in TABLES.items():
        for name in set(table.extensions) - set(owners.get(noun, ())):
            table.remove(name)
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
    extensions._done.clear()
    extensions._done.update(done)
    registry._ALLOWED.clear()
    registry._ALLOWED.update(allowed)
    sys.path[:] = path
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
