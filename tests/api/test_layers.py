"""The import order: every module has a place in it, and the docs show the same one; nothing imports in a circle."""

from __future__ import annotations

import dataclasses
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

import polytask
from polytask.assembly import Assembly

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]


def order() -> list[list[str]]:
    """Return the layers of the contract, the highest first."""
    (layers,) = (contract for contract in CONTRACTS if contract["type"] == "layers")
    assert layers["exhaustive"] is True
    return [layer.split(" | ") for layer in layers["layers"]]


def test_every_module_has_a_place() -> None:
    modules = {module.name for module in pkgutil.iter_modules(polytask.__path__)} - {"__main__"}
    assert {name for layer in order() for name in layer} == modules


def test_the_docs_show_the_order_of_the_contract() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    (block,) = (block for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL) if block.startswith("errors"))
    shown = [name for line in block.splitlines() for name in line[:30].split()]
    place = {name: number for number, layer in enumerate(reversed(order())) for name in layer}
    assert sorted(shown) == sorted(place)
    assert [place[name] for name in shown] == sorted(place.values())


def test_types_are_no_way_around_the_contracts() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    assert not settings.get("exclude_type_checking_imports", False)
    assert {contract["type"] for contract in CONTRACTS} == {"layers", "acyclic_siblings", "forbidden"}
    assert any(contract["name"].startswith("Tasks and model meet only through") for contract in CONTRACTS)


def test_an_assembly_is_built_by_name() -> None:
    assert all(field.kw_only for field in dataclasses.fields(Assembly))
    with pytest.raises(TypeError, match="positional"):
        Assembly(*range(14))  # type: ignore[misc]
