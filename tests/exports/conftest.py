"""What tests of exports share."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from polytask.exports import graph
from polytask.model.multitask import MultiTaskModel


@pytest.fixture(scope="module")
def drawn_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Draw the graph of a model once, which takes seconds; another export of the same model is given a copy."""
    known: dict[str, tuple[Path, graph.GraphFiles]] = {}
    draw = graph.draw

    def drawn(model: MultiTaskModel, path: Path) -> graph.GraphFiles:
        told = hashlib.sha256(repr((model.plan, sorted(model.state_dict()))).encode())
        for tensor in model.state_dict().values():
            told.update(tensor.numpy().tobytes())
        if told.digest() not in known:
            copy = tmp_path_factory.mktemp("graph") / path.name
            known[told.digest()] = copy, draw(model, copy)
        copy, files = known[told.digest()]
        shutil.copy(copy, path)
        return files

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "draw", drawn)
        yield
