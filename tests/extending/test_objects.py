"""Classes and functions stand where names do: they are written by their import path, and found by it again."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import polytask as pt
from polytask import extensions, registry
from polytask.balance import BALANCERS
from polytask.config import load_config, validate
from polytask.custom import BalanceOptions
from polytask.errors import ConfigError, ModelError, UserError

Job = Callable[..., dict[str, Any]]
SOURCE = """
from os import system

import numpy as np
import torch
from polytask.custom import BalanceOptions, RowHead, Weighting

class FirmOptions(BalanceOptions):
    shape, scale = "losses", "mean"
    power: float = 1.0

    def build(self, tasks):
        return Firm(self.power)


class Firm(Weighting):
    def __init__(self, power):
        self.power = power

    def weigh(self, statistic):
        powers = statistic.losses**self.power
        return powers / powers.sum()


class GreatestHead(RowHead):
    def pool_everywhere(self, states, mask):
        return states.masked_fill(mask.unsqueeze(-1) == 0, -1e4).amax(1)


def last(states, mask):
    return states[torch.arange(len(states)), mask.sum(1) - 1]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of a user's own, imported as a program imports it."""
    (tmp_path / "own_objects.py").write_text(SOURCE, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module("own_objects")


def forget() -> None:
    """Be as another process, which has imported nothing of the user's."""
    for table in registry.TABLES.values():
        for name in [name for name in table if ":" in name]:
            table.remove(name)
    del sys.modules["own_objects"]
    extensions._done.discard("own_objects")
    registry._ALLOWED.discard("own_objects")
    os.environ.pop(extensions.VARIABLE, None)


def with_objects(job: Job, own: ModuleType) -> dict[str, Any]:
    values = job(rows=24, max_steps=2)
    values["tasks"]["topic"]["head"] = own.GreatestHead
    values["tasks"]["sentiment"]["pooling"] = own.last
    return values


def test_a_run_with_objects_is_written_and_read_by_their_import_paths(
    job: Job, own: ModuleType, tmp_path: Path
) -> None:
    run = pt.train(with_objects(job, own), tmp_path / "run", balance=own.FirmOptions(power=2.0))
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text("utf-8"))
    assert written["balance"] == {"method": "own_objects:FirmOptions", "power": 2.0}
    assert written["tasks"]["topic"]["head"] == "own_objects:GreatestHead"
    assert written["tasks"]["sentiment"]["pooling"] == "own_objects:last"
    assert written["extensions"] == ["own_objects"]
    described = json.loads((tmp_path / "run" / "model" / "polytask.json").read_text("utf-8"))
    assert described["extensions"] == ["own_objects"]
    expected = run.model.predict(["A fine film."])
    forget()
    with pytest.raises(ModelError, match="needs the extension own_objects, and a folder imports no code by itself"):
        pt.load(tmp_path / "run" / "model")
    with pytest.raises(ConfigError, match="needs the extension own_objects, and a folder imports no code by itself"):
        load_config(tmp_path / "run" / "config.yaml", trusted=False)
    assert pt.load(tmp_path / "run" / "model", extensions=["own_objects"]).predict(["A fine film."]) == expected
    again = load_config(tmp_path / "run" / "config.yaml")
    assert type(again.balance) is sys.modules["own_objects"].FirmOptions
    assert again.to_json() == {**written, "balance": {"method": "own_objects:FirmOptions", "power": 2.0}}


def test_a_registered_class_keeps_its_name_and_the_same_object_is_one_row(job: Job, own: ModuleType) -> None:
    values = job(rows=12)
    for _ in range(2):
        assert validate({**values, "balance": own.FirmOptions()}).balance.method == "own_objects:FirmOptions"
    assert [name for name in BALANCERS if ":" in name] == ["own_objects:FirmOptions"]
    BALANCERS.remove("own_objects:FirmOptions")
    BALANCERS.register("firm", own.FirmOptions)
    config = validate({**values, "balance": own.FirmOptions()})
    assert (config.balance.method, config.extensions) == ("firm", ())


def test_what_cannot_be_imported_again_is_refused(job: Job) -> None:
    class Local(BalanceOptions):
        shape = "losses"

        def build(self, tasks: tuple[str, ...]) -> Any:
            raise AssertionError

    told = r"balance: found .*Local, which is in no table of balancers and cannot be imported by that name.*@TABLE.reg"
    with pytest.raises(ConfigError, match=told):
        validate({**job(rows=12), "balance": Local()})
    values = job(rows=12)
    values["tasks"]["topic"]["pooling"] = lambda states, mask: states[:, 0]
    with pytest.raises(ConfigError, match=r"tasks.topic.pooling: found .*<lambda>, which is in no table of poolings"):
        validate(values)


@pytest.mark.parametrize(
    ("pooling", "told"),
    [
        ("os:system", r"found 'os:system', but the module os was not requested; .*`extensions: \[os\]`"),
        ("own_objects:last", "the module own_objects was not requested"),
        ("nowhere.at_all:x", "the module nowhere.at_all was not requested"),
        (":", "was not requested"),
    ],
)
def test_a_path_into_a_module_that_nobody_asked_for_is_refused(
    job: Job, own: ModuleType, pooling: str, told: str
) -> None:
    values = job(rows=12)
    values["tasks"]["topic"]["pooling"] = pooling
    with pytest.raises(UserError, match=told):
        validate(values)


@pytest.mark.parametrize("rest", ["system", "Firm.weigh.more", "", "missing"])
def test_a_path_to_what_the_module_does_not_define_is_refused(job: Job, own: ModuleType, rest: str) -> None:
    values = {**job(rows=12), "extensions": ["own_objects"]}
    values["tasks"]["topic"]["pooling"] = f"own_objects:{rest}"
    with pytest.raises(ConfigError, match="but the module own_objects defines no"):
        validate(values)


def test_a_class_of_another_kind_is_refused(job: Job, own: ModuleType) -> None:
    values = {**job(rows=12), "extensions": ["own_objects"], "balance": {"method": "own_objects:GreatestHead"}}
    with pytest.raises(ConfigError, match="own_objects.GreatestHead is not a subclass of BalanceOptions"):
        validate(values)
