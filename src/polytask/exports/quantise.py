"""int8 quantisation of an ONNX graph: weights of matrices and embeddings by column and word, states token by token.

Source: Dettmers et al. 2022, "LLM.int8()", section 2.1 (vector-wise quantisation). onnxruntime's own `quantize_dynamic`
has one scale for the states of a whole batch: what it answers for a text depends on the texts, and on the padding,
beside it. With a scale for each token nothing does, and MiniLM's outputs are a third nearer to float32, at the same
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
MOST = 63
# States become unsigned around this, as the processors' instructions want them.
CENTRE = 128
# Smaller tables and matrices are left as they are: they weigh nothing, and some of them decide much.
SMALLEST = 4096


def quantise(source: Path, target: Path, precise: Collection[str]) -> None:
    """Write a graph with int8 weights.

    Args:
        source: a graph as `draw` wrote it.
        precise: names of nodes that stay in float32.
    """
    import onnx

    model = onnx.load(str(source))
    _Quantiser(model, precise).run()
    large = sum(len(one.raw_data) for one in model.graph.initializer) > MOST_BYTES_INSIDE
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
        read = {name for node in self._nodes for name in node.input}
        kept = [one for name, one in (self._weights | self._made).items() if name in read]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(kept)

    def _takes(self, node: NodeProto, name: str) -> bool:
        found = self._weights.get(name)
        if found is None or node.name in self._precise:
            return False
        return len(found.dims) == 2 and found.dims[0] * found.dims[1] >= SMALLEST and found.data_type == 1  # floats

    def _product(self, node: NodeProto) -> None:
        """Replace x W by what comes of whole numbers: (x_q W_q) x (scale of the row) x (scale of the column)."""
        given, weight = node.input
        rows = self._quantised(given, int(self._weights[weight].dims[0]))
        values, scales = self._columns(weight)
        whole, real, own = f"{node.output[0]}.whole", f"{node.output[0]}.real", f"{node.output[0]}.own"
        self._add("MatMulInteger", [f"{rows}.q", values, self._constant("centre", np.uint8(CENTRE))], whole)
        self._add("Cast", [whole], real, to=1)
        self._add("Mul", [real, scales], own)
        self._add("Mul", [own, f"{rows}.column"], f"{own}.scaled")
        width = self._constant(f"{weight}.width", np.array([self._weights[weight].dims[1]], np.int64))
        self._add("Concat", [f"{rows}.shape", width], f"{own}.shape", axis=0)
        self._add("Reshape", [f"{own}.scaled", f"{own}.shape"], node.output[0])

    def _quantised(self, name: str, width: int) -> str:
        """Quantise states, each token by its greatest feature, once for all that read them; return the names' stem."""
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
        """Replace a look-up in a table of floats by one of whole numbers, each line with its own scale."""
        table, index = node.input
        values, scales = self._lines(table)
        out = node.output[0]
        self._add("Gather", [values, index], f"{out}.whole", axis=0)
        self._add("Cast", [f"{out}.whole"], f"{out}.real", to=1)
        self._add("Gather", [scales, index], f"{out}.scale", axis=0)
        self._add("Mul", [f"{out}.real", f"{out}.scale"], out)

    def _columns(self, weight: str) -> tuple[str, str]:
        """Return the names of a matrix's whole numbers and of the scales of its columns."""
        return self._whole(weight, "columns", axis=0, most=MOST)

    def _lines(self, table: str) -> tuple[str, str]:
        return self._whole(table, "lines", axis=1, most=127)  # no product is made of these

    def _whole(self, name: str, form: str, *, axis: int, most: int) -> tuple[str, str]:
        from onnx import numpy_helper

        stem = f"{name}.{form}"
        if f"{stem}.q" not in self._made:
            found: NDArray[np.float32] = numpy_helper.to_array(self._weights[name])
            scale = np.maximum(np.abs(found).max(axis, keepdims=True) / most, 1e-12).astype(np.float32)
            self._constant(f"{stem}.q", np.rint(found / scale).astype(np.int8))
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
    return next((one.i for one in node.attribute if one.name == "axis"), 0)
