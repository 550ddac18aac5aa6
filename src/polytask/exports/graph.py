"""The graph: a whole model as one function of tokens, traced by torch.export and written as ONNX."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polytask.model.multitask import MultiTaskModel
from polytask.predict.onnx_engine import INPUTS

# Protobuf is limited to 2 GiB; a graph with more weights than this keeps them in a separate file.
MOST_BYTES_INSIDE = 1_800_000_000


class Graph(nn.Module):
    """A model that computes every task for every row: all branches of the tree run once, on all rows."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.model = model

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs: rows x tokens each, int64."""
        return INPUTS if self.model.uses_type_ids else INPUTS[:2]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order of the outputs."""
        return self.model.plan.tasks

    def forward(self, ids: Tensor, mask: Tensor, type_ids: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the outputs of each task: rows x size at row level, rows x tokens x size at word level.

        Args:
            ids: token ids, rows x tokens.
            mask: rows x tokens, 1 for a token and 0 for padding.
            type_ids: token types, rows x tokens, if the encoder takes them.
        """
        states: dict[str, Tensor] = {}
        for encoder in self.model.trunks:
            encoded = encoder.whole(encoder.embed(ids), mask, type_ids)
            states |= {task: encoded.of(task)[0] for task in encoder.tasks}
        outputs: dict[str, Tensor] = {}
        for task in self.model.cascade.order:
            cascade_inputs = self.model.cascade.read_everywhere(task, outputs, ids.shape[1])
            outputs[task] = self.model.head(task).everywhere(states[task], mask, cascade_inputs)
        return tuple(outputs[task] for task in self.tasks)


def output_name(task: str) -> str:
    """Return the name of a task's output in the graph."""
    return f"logits.{task}"


@dataclass(frozen=True)
class GraphFiles:
    """A written graph.

    Attributes:
        inputs, outputs: names of the inputs, and of the output of each task.
        precise: names of small but critical nodes, which should not be quantised.
    """

    inputs: tuple[str, ...]
    outputs: dict[str, str]
    precise: tuple[str, ...]


def draw(model: MultiTaskModel, path: Path) -> GraphFiles:
    """Write a model as an ONNX graph with dynamic batch size and length.

    Args:
        model: a model on the CPU, in float32.
        path: file to write.
    """
    graph = Graph(model).eval()
    sample_inputs = _sample(len(graph.inputs))
    axes = {0: "rows", 1: "tokens"}
    with _plain_attention(model), _quiet(), torch.inference_mode():
        program = torch.onnx.export(
            graph,
            sample_inputs,
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=[output_name(task) for task in graph.tasks],
            dynamic_shapes=(axes,) * len(sample_inputs),
            verbose=False,
        )
    assert program is not None
    precise = _clean(program.model)
    bytes_of_weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    program.save(str(path), external_data=bytes_of_weights > MOST_BYTES_INSIDE)
    return GraphFiles(graph.inputs, {task: output_name(task) for task in graph.tasks}, precise)


def _clean(model: Any) -> tuple[str, ...]:  # noqa: ANN401
    """Remove the exporter's metadata (code lines, paths) from a graph; return the names of head and gate nodes."""
    precise: list[str] = []
    for node in model.graph.all_nodes():
        if any(part in node.metadata_props.get("namespace", "") for part in (".heads.", ".gates.")):
            precise.append(str(node.name))
        for item in (node, *node.outputs):
            item.metadata_props.clear()
    for item in (model, model.graph, *model.graph.inputs, *model.graph.initializers.values()):
        item.metadata_props.clear()
    return tuple(precise)


def _sample(count: int) -> tuple[Tensor, ...]:
    """Return small inputs for tracing: two rows, the second one padded."""
    ids = torch.full((2, 7), 5)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return (ids, mask, torch.zeros_like(ids))[:count]


@contextlib.contextmanager
def _plain_attention(model: MultiTaskModel) -> Generator[None]:
    """Use the attention function of transformers, which is traced as plain matrix products."""
    # Layers that were split between tasks have copies of the encoder's configuration.
    configs: list[Any] = [getattr(module, "config", None) for trunk in model.trunks for module in trunk.modules()]
    before = [(config, config._attn_implementation) for config in configs if hasattr(config, "_attn_implementation")]
    for config, _ in before:
        config._attn_implementation = "eager"
    try:
        yield
    finally:
        for config, name in before:
            config._attn_implementation = name


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Suppress the exporter's messages about its progress and about deprecated names."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
