"""What every test and every example in a docstring gets: a cache of its own, no network, and one thread."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# A class of Beam's is the base of its own: without Beam there is nothing to look for.
collect_ignore = [] if find_spec("apache_beam") else ["src/polytask/batch/engines/beam.py"]

# Read when the library is first imported: no test asks the network.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Generator[None, list[Any], list[Any]]:
    """Look for examples in the package only: modules beside the tests are imported by the tests that need them."""
    found = yield
    if Path(__file__).parent / "src" in file_path.parents:
        return found
    return [one for one in found if type(one).__name__ != "DoctestModule"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make all but every n-th case of a `sampled` test slow, along the diagonals of its parameters."""
    seen: dict[tuple[object, str], list[int]] = {}
    for item in items:
        sampled = item.get_closest_marker("sampled")
        if sampled is None or not isinstance(item, pytest.Function):
            continue
        place = 0
        for name, value in item.callspec.params.items():
            values = seen.setdefault((item.function, name), [])
            if id(value) not in values:
                values.append(id(value))
            place += values.index(id(value))
        if place % sampled.args[0]:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import without looking for garbage, and never look for it among the half million objects that this made."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny models are fastest on one thread, and two cores are shared with the tests' subprocesses."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def no_waiting_for_the_disk() -> None:
    """No test cuts the power: what is written may reach the disk later. A file that is not open is an error still."""
    os.fsync = lambda handle: os.fstat(handle) and None


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache. Each file has its own: one for all would be listed for ever longer."""
    os.environ["POLYTASK_CACHE"] = str(tmp_path_factory.mktemp("cache"))
