"""Export to a model repository of NVIDIA Triton: the ONNX graph of a model and its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from polytask.exports.exporter import Exported
from polytask.exports.onnx import OnnxExport, require_onnx
from polytask.files import new_folder

if TYPE_CHECKING:
    from polytask.artifact.bundle import Bundle

# Names of ONNX element types (TensorProto.DataType) in Triton's configuration (model_config.proto, DataType).
_TYPES = {1: "TYPE_FP32", 6: "TYPE_INT32", 7: "TYPE_INT64", 9: "TYPE_BOOL", 10: "TYPE_FP16", 11: "TYPE_FP64"}


@dataclass(frozen=True)
class GraphTensor:
    """An input or output of a graph.

    Attributes:
        dims: sizes without the first dimension, the rows; -1 for any.
    """

    name: str
    type: str
    dims: tuple[int, ...]


class TritonExport(OnnxExport):
    """Writes a model repository for NVIDIA Triton with the ONNX graph as its only model."""

    name: str = Field(
        default="polytask", pattern=r"^[A-Za-z0-9_][\w.-]*$", description="triton: the model's name on the server"
    )
    max_batch_size: int = Field(default=64, ge=1, le=100_000, description="triton: maximum number of rows per batch")
    queue_delay_us: int = Field(
        default=1000,
        ge=0,
        le=10_000_000,
        description="triton: maximum microseconds that a request waits for others of its length",
    )

    def write(self, bundle: Bundle, out: Path) -> Exported:
        require_onnx()
        with new_folder(out) as temporary:
            folder = temporary / self.name
            version = folder / "1"
            folder.mkdir()
            parity = self.write_graph(bundle, folder)
            version.mkdir()
            for file in sorted(folder.glob("model.onnx*")):
                file.rename(version / file.name)
            inputs, outputs = graph_tensors(version / "model.onnx")
            (folder / "config.pbtxt").write_text(self.configuration(inputs, outputs), "utf-8")
        return Exported({"triton": out}, self.parity_notes(parity))

    def configuration(self, inputs: list[GraphTensor], outputs: list[GraphTensor]) -> str:
        """Return config.pbtxt: the text form of inference.ModelConfig in Triton's model_config.proto."""
        lines = [
            f"name: {_quoted(self.name)}",
            'backend: "onnxruntime"',
            f"max_batch_size: {self.max_batch_size}",
            *(_tensor("input", tensor) for tensor in inputs),
            *(_tensor("output", tensor) for tensor in outputs),
            f"dynamic_batching {{ max_queue_delay_microseconds: {self.queue_delay_us} }}",
        ]
        return "\n".join([*lines, ""])


def graph_tensors(path: Path) -> tuple[list[GraphTensor], list[GraphTensor]]:
    """Return the inputs and outputs of an ONNX graph, whose first dimension is any number of rows."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return [_read(value) for value in graph.input], [_read(value) for value in graph.output]


def _read(value: Any) -> GraphTensor:  # noqa: ANN401
    kind = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
    assert dims[:1] == [-1], f"{value.name}: the graph takes any number of rows"
    return GraphTensor(value.name, _TYPES[kind.elem_type], tuple(dims[1:]))


def _tensor(place: str, tensor: GraphTensor) -> str:
    dims = ", ".join(map(str, tensor.dims))
    return f"{place} {{ name: {_quoted(tensor.name)} data_type: {tensor.type} dims: [ {dims} ] }}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
