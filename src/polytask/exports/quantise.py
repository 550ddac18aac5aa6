"""Dynamic int8 quantisation of an ONNX graph: weights of matrices and embeddings, not what flows between them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from polytask.exports.graph import MOST_BYTES_INSIDE


def quantise(source: Path, target: Path, precise: Sequence[str]) -> None:
    """Write a graph with int8 weights, one scale for each column of a matrix.

    Args:
        source: as `draw` wrote it. It is changed: the shapes of what lies between its nodes are taken out, since
            those of the exporter are not the quantiser's.
        precise: names of nodes that stay in float32.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    large = source.stat().st_size > MOST_BYTES_INSIDE or source.with_name(f"{source.name}.data").exists()
    model = onnx.load(str(source))
    del model.graph.value_info[:]
    onnx.save(model, str(source), save_as_external_data=large, location=f"{source.name}.data")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises a step that the exporter has done already
    try:
        quantize_dynamic(
            str(source),
            str(target),
            nodes_to_exclude=list(precise),
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=large,
            extra_options={"MatMulConstBOnly": True},  # the products inside attention stay in float32
        )
    finally:
        logging.disable(before)
