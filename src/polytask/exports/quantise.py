"""int8 quantisation of an ONNX graph: matrices by column, embeddings by word, and states by token.

Source: Dettmers et al. 2022, "LLM.int8()", section 2.1 (vector-wise quantisation). onnxruntime's own `quantize_dynamic`
has one scale for the states of a whole batch, so that the prediction for a text depends on the other texts and on
the padding. With a scale per token it does not, and MiniLM's outputs are a third nearer to float32, at the same
speed (68 ms against 70, and 181 in float32; 32 rows x 40 tokens, one thread of an AMD EPYC with VNNI).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polytask.exports.graph import MOST_BYTES_INSIDE

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

# Weights take 7 of the 8 bits: processors without VNNI add two products in 16 bits, and 2 x 255 x 63 fits there.
MAX_WEIGHT = 63
# States become unsigned around this, as the processors' instructions want them.
CENTRE = 128
# Smaller tables and matrices are not quantised: they save nothing, and some of them are critical.
SMALLEST = 4096


def quantise(source: Path, target: Path, precise: Collection[str]) -> None:
    """Write a graph with int8 weights.

    Args:
        source: a graph written by `draw`.
        target: file to write.
        precise: names of nodes that stay in float32.
    """
    import onnx

    model = onnx.load(str(source))
    _Quantiser(model, precise).run()
    large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > MOST_BYTES_INSIDE
    onnx.save(model, str(target), save_as_external_data=large, location=f"{target.name}.data")


class _Quantiser:
    """Rewrites the nodes of one graph."""

    def __init__(self, model: ModelProto, precise: Collection[str]) -> None:
        self._model = model
        self._precise = precise
        self._weights = {one.name: one for one in model.graph.initializer}
        self._nodes: list[NodeProto] = []
        self._made: dict[str, TensorProto] = {}
        self._states: dict[str, str] = {}

    def run(self) -> None:
        """Rewrite the graph in place."""
        graph = self._model.graph
        for node in graph.node:
            if node.op_type == "MatMul" and self._takes(node, node.input[1]):
                self._product(node)
            elif node.op_type == "Gather" and self._takes(node, node.input[0]) and not _axis(node):
                self._look_up(node)
            else:
                self._nodes.append(node)
        used = {name for node in self._nodes for name in node.input}
        tensors = [tensor for name, tensor in (self._weights | self._made).items() if name in used]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(tensors)

    def _takes(self, node: NodeProto, name: str) -> bool:
        weight = self._weights.get(name)
        if weight is None or node.name in self._precise:
            return False
        return len(weight.dims) == 2 and weight.dims[0] * weight.dims[1] >= SMALLEST and weight.data_type == 1  # floats

    def _product(self, node: NodeProto) -> None:
        """Replace x W by an integer product: (x_q W_q) x (scale of the row) x (scale of the column)."""
        states, weight = node.input
        rows = self._quantised(states, int(self._weights[weight].dims[0]))
        values, scales = self._columns(weight)
        integers, real, scaled = f"{node.output[0]}.whole", f"{node.output[0]}.real", f"{node.output[0]}.own"
        self._add("MatMulInteger", [f"{rows}.q", values, self._constant("centre", np.uint8(CENTRE))], integers)
        self._add("Cast", [integers], real, to=1)
        self._add("Mul", [real, scales], scaled)
        self._add("Mul", [scaled, f"{rows}.column"], f"{scaled}.scaled")
        width = self._constant(f"{weight}.width", np.array([self._weights[weight].dims[1]], np.int64))
        self._add("Concat", [f"{rows}.shape", width], f"{scaled}.shape", axis=0)
        self._add("Reshape", [f"{scaled}.scaled", f"{scaled}.shape"], node.output[0])

    def _quantised(self, name: str, width: int) -> str:
        """Quantise states, each token by its largest feature, once for all readers; return the prefix of the names."""
        if name not in self._states:
            self._states[name] = stem = f"{name}.rows"
            flat = self._constant(f"{stem}.flat", np.array([-1, width], np.int64))
            last = self._constant("last", np.array([-1], np.int64))
            self._add("Reshape", [name, flat], stem)
            self._add("Abs", [stem], f"{stem}.size")
            self._add("ReduceMax", [f"{stem}.size", last], f"{stem}.most", keepdims=0)
            self._add("Mul", [f"{stem}.most", self._constant("step", np.float32(1 / 127))], f"{stem}.step")
            self._add("Max", [f"{stem}.step", self._constant("least", np.float32(1e-12))], f"{stem}.scale")
            self._add("Shape", [f"{stem}.scale"], f"{stem}.count")
            self._add("Expand", [self._constant("centre", np.uint8(CENTRE)), f"{stem}.count"], f"{stem}.centre")
            self._add("QuantizeLinear", [stem, f"{stem}.scale", f"{stem}.centre"], f"{stem}.q", axis=0)
            self._add("Unsqueeze", [f"{stem}.scale", last], f"{stem}.column")
            self._add("Shape", [name], f"{stem}.shape", start=0, end=-1)
        return self._states[name]

    def _look_up(self, node: NodeProto) -> None:
        """Replace a look-up in a float table by one in an integer table with a scale per line."""
        table, index = node.input
        values, scales = self._lines(table)
        out = node.output[0]
        self._add("Gather", [values, index], f"{out}.whole", axis=0)
        self._add("Cast", [f"{out}.whole"], f"{out}.real", to=1)
        self._add("Gather", [scales, index], f"{out}.scale", axis=0)
        self._add("Mul", [f"{out}.real", f"{out}.scale"], out)

    def _columns(self, weight: str) -> tuple[str, str]:
        """Return the names of a matrix's integer values and of the scales of its columns."""
        return self._whole(weight, "columns", axis=0, most=MAX_WEIGHT)

    def _lines(self, table: str) -> tuple[str, str]:
        return self._whole(table, "lines", axis=1, most=127)  # these are not multiplied

    def _whole(self, name: str, form: str, *, axis: int, most: int) -> tuple[str, str]:
        from onnx import numpy_helper

        stem = f"{name}.{form}"
        if f"{stem}.q" not in self._made:
            weights: NDArray[np.float32] = numpy_helper.to_array(self._weights[name])
            scale = np.maximum(np.abs(weights).max(axis, keepdims=True) / most, 1e-12).astype(np.float32)
            self._constant(f"{stem}.q", np.rint(weights / scale).astype(np.int8))
            self._constant(f"{stem}.scale", scale if axis else scale[0])
        return f"{stem}.q", f"{stem}.scale"

    def _constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        from onnx import numpy_helper

        if name not in self._made:
            self._made[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def _add(self, kind: str, inputs: list[str], output: str, **options: Any) -> None:  # noqa: ANN401
        from onnx import helper

        self._nodes.append(helper.make_node(kind, inputs, [output], name=f"{output}.{kind}", **options))


def _axis(node: NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
