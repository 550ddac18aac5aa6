"""The quantiser, on a graph by hand: a look-up and two products that read the same states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from polytask.exports import quantise as quantising
from polytask.exports.quantise import quantise

TABLE, FIRST, SECOND, SMALL = (300, 32), (32, 160), (32, 130), (32, 4)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    weights = {
        name: random.normal(size=size).astype(np.float32) * random.uniform(0.1, 5, size[1:]).astype(np.float32)
        for name, size in {"table": TABLE, "first": FIRST, "second": SECOND, "small": SMALL}.items()
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["states"], name="look-up"),
        helper.make_node("MatMul", ["states", "first"], ["one"], name="one"),
        helper.make_node("MatMul", ["states", "second"], ["two"], name="two"),
        helper.make_node("MatMul", ["states", "small"], ["three"], name="three"),
    ]
    graph = helper.make_graph(
        nodes,
        "by hand",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows", "tokens"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", "tokens", None])
         for name in ("one", "two", "three")],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "full")
    return tmp_path / "full"


def answers(path: Path, ids: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["one", "two", "three"], {"ids": np.asarray(ids)})


def weights(path: Path) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


def test_outputs_stay_near_and_each_row_is_on_its_own(source: Path, tmp_path: Path) -> None:
    quantise(source, tmp_path / "small", [])
    ids = np.arange(24).reshape(4, 6)
    exact, found = answers(source, ids), answers(tmp_path / "small", ids)
    for one, other in zip(exact, found, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() < 0.02 * np.abs(one).max()
    alone = answers(tmp_path / "small", ids[2:3, :4])
    for one, other in zip(alone, found, strict=True):
        np.testing.assert_array_equal(one[0], other[2, :4])


def test_weights_are_whole_numbers_of_seven_bits_and_small_ones_stay(source: Path, tmp_path: Path) -> None:
    quantise(source, tmp_path / "small", [])
    onnx.checker.check_model(onnx.load(tmp_path / "small"), full_check=True)
    found = weights(tmp_path / "small")
    assert {name for name, value in found.items() if value.dtype == np.int8} == {
        "table.lines.q", "first.columns.q", "second.columns.q",
    }  # fmt: skip
    assert np.abs(found["first.columns.q"].astype(int)).max(0).tolist() == [quantising.MAX_WEIGHT] * FIRST[1]
    assert "small" in found
    assert not {"table", "first", "second"} & found.keys()
    kinds = [node.op_type for node in onnx.load(tmp_path / "small").graph.node]
    assert kinds.count("QuantizeLinear") == 1  # states that two products read are quantised once
    assert kinds.count("MatMulInteger") == 2


def test_nodes_that_are_to_be_precise_are_left(source: Path, tmp_path: Path) -> None:
    quantise(source, tmp_path / "small", ["one", "look-up"])
    found = weights(tmp_path / "small")
    assert {"first", "table"} <= found.keys()
    assert "second" not in found
    ids = np.arange(6).reshape(1, 6)
    np.testing.assert_allclose(answers(tmp_path / "small", ids)[0], answers(source, ids)[0], rtol=1e-6)


def test_states_of_zero_are_no_division_by_zero(source: Path, tmp_path: Path) -> None:
    model = onnx.load(source)
    table = next(one for one in model.graph.initializer if one.name == "table")
    table.CopyFrom(numpy_helper.from_array(np.zeros(TABLE, np.float32), "table"))
    onnx.save(model, source)
    quantise(source, tmp_path / "small", [])
    assert all((found == 0).all() for found in answers(tmp_path / "small", [[1, 2]]))


def test_large_weights_lie_beside_the_graph(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantising, "MOST_BYTES_INSIDE", 1000)
    quantise(source, tmp_path / "small", [])
    assert (tmp_path / "small.data").stat().st_size > 10_000
    assert len(answers(tmp_path / "small", [[1, 2]])) == 3
