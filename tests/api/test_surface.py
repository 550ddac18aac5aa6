"""The public names: listed once, importable, and no name of a folder hides one of them."""

from __future__ import annotations

import ast
import doctest
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import polytask as pt
from polytask import errors, version

ROOT = Path(__file__).parents[2]


def test_every_name_can_be_used_and_is_listed_in_order() -> None:
    assert list(pt.__all__) == sorted(pt.__all__)
    assert dir(pt) == sorted([*pt.__all__, "__version__"])
    for name in pt.__all__:
        assert getattr(pt, name).__name__ == name
        assert getattr(pt, name).__doc__


def test_type_checkers_see_the_names_that_programs_get() -> None:
    tree = ast.parse((ROOT / "src" / "polytask" / "__init__.py").read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == pt._HOME_OF
    assert set(seen) == set(pt.__all__)


@pytest.mark.parametrize("name", ["Config", "train"])
def test_help_has_an_example_that_runs(name: str) -> None:
    # pytest runs it: --doctest-modules, over src as well.
    found = doctest.DocTestFinder().find(getattr(pt, name), module=False)
    assert any(test.examples for test in found)
    options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]
    assert "--doctest-modules" in options["addopts"]
    assert "src" in options["testpaths"]


def test_all_errors_are_public() -> None:
    family = {
        name for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.PolytaskError)
    }  # fmt: skip
    assert family <= set(pt.__all__)
    assert all(name in (errors.__doc__ or "") for name in family)


def test_no_module_hides_a_public_name() -> None:
    # `import polytask.serve` would put the module in the place of the function.
    assert not {module.name for module in pkgutil.iter_modules(pt.__path__)} & set(pt.__all__)


def test_importing_polytask_imports_nothing_large() -> None:
    program = "import polytask, sys; assert not {'torch', 'transformers', 'numpy', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = pt.trian


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "polytask.version.__version__"}
    assert pt.__version__ == version.__version__
    shown = subprocess.run([sys.executable, "-m", "polytask", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["polytask", version.__version__]
