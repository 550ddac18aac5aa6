"""A graph asks for no file that its folder does not list; it is read without the package onnx."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.errors import ModelError
from polytask.predict.onnx_files import require_own_files

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")


def outside(location: str, *, value_first: bool = False) -> Any:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="offset", value="0")
    entry = tensor.external_data.add(key="location", value=location)
    if value_first:
        entry.CopyFrom(onnx.StringStringEntryProto.FromString(b"\x12" + bytes([len(location)]) + location.encode() + b"\x0a\x08location"))  # fmt: skip  # noqa: E501
    return tensor


def graph(tensor: Any, place: str) -> Any:
    helper = onnx.helper
    value = helper.make_tensor_value_info("x", 1, [4])
    nodes, weights, functions = [helper.make_node("Identity", ["x"], ["y"])], [], []
    if place == "initializer":
        weights = [tensor]
    elif place == "constant":
        nodes.append(helper.make_node("Constant", [], ["z"], value=tensor))
    elif place == "branch":
        inner = helper.make_graph([helper.make_node("Constant", [], ["z"], value=tensor)], "inner", [], [])
        nodes.append(helper.make_node("If", ["x"], ["q"], then_branch=inner, else_branch=inner))
    else:
        made = helper.make_node("Constant", [], ["z"], value=tensor)
        functions = [helper.make_function("d", "f", [], ["z"], [made], [helper.make_opsetid("", 17)])]
    whole = helper.make_graph(nodes, "g", [value], [helper.make_tensor_value_info("y", 1, [4])], weights)
    return helper.make_model(whole, functions=functions)


@pytest.mark.parametrize("place", ["initializer", "constant", "branch", "function"])
@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "README.md", ".hidden", ""])
def test_weights_in_a_file_that_is_not_listed_are_refused(place: str, location: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(outside(location), place).SerializeToString())
    with pytest.raises(ModelError, match="its weights lie in .* which polytask.json does not list"):
        require_own_files(path, {"model.onnx", "model.onnx.data"})
    path.write_bytes(graph(outside("model.onnx.data"), place).SerializeToString())
    require_own_files(path, {"model.onnx", "model.onnx.data"})


@given(st.binary(max_size=200))
def test_bytes_that_are_no_graph_are_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with contextlib.suppress(ModelError):  # and nothing else
        require_own_files(path, set())
