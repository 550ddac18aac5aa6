"""The engine that runs a model in ONNX Runtime; needs onnxruntime and tokenizers, but not torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from polytask.artifact.description import WEIGHTS, Description, copy_model
from polytask.data.engine import RowOutputs
from polytask.data.groups import cut
from polytask.data.tokens import Tokenization, TokenRow
from polytask.errors import MissingExtra, ModelError
from polytask.predict.onnx_files import require_own_files
from polytask.predict.predictor import Model
from polytask.tasks import Task

# Cost of one more pass through the graph, in encoded tokens.
PASS_OVERHEAD = 64
# Names of a graph's inputs; only the first two if the encoder takes no token types.
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_Padded: TypeAlias = "dict[str, NDArray[np.int64]]"


@dataclass(frozen=True)
class GraphForm:
    """Inputs and outputs of a graph, stored in polytask.json under "graph".

    Attributes:
        inputs: names of the inputs, in order: token ids, mask, and token types if the encoder takes them.
        outputs: name of each task's output.
        weights: "fp32", or "int8" if the matrices are quantised.
        pad_id: id of the padding token.
        type_ids: whether the tokenizer marks which of two texts a token belongs to.
        truncation_side: side from which the tokenizer truncates a long text.
    """

    inputs: tuple[str, ...]
    outputs: Mapping[str, str]
    weights: str
    pad_id: int
    type_ids: bool
    truncation_side: str

    def to_json(self) -> dict[str, Any]:
        """Return the form as JSON."""
        return {**self.__dict__, "inputs": list(self.inputs), "outputs": dict(self.outputs)}

    @classmethod
    def of(cls, description: Description) -> GraphForm:
        """Read the form of a folder's graph. Raises ModelError if the folder does not describe it."""
        try:
            graph: dict[str, Any] = description.data["graph"]
            form = cls(
                inputs=tuple(graph["inputs"]),
                outputs=dict(graph["outputs"]),
                weights=str(graph["weights"]),
                pad_id=int(graph["pad_id"]),
                type_ids=bool(graph["type_ids"]),
                truncation_side=str(graph["truncation_side"]),
            )
            missing = description.tasks.keys() - form.outputs.keys()
            if form.inputs not in (INPUTS, INPUTS[:2]) or form.truncation_side not in ("left", "right"):
                raise ValueError(f"inputs {form.inputs}, truncation_side {form.truncation_side!r}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{description.folder}: the graph is not described ({error}); export it again") from None
        if missing:
            raise ModelError(f"{description.folder}: the graph has no output for {min(missing)!r}; export it again")
        return form


class OnnxEngine:
    """Runs a graph on the CPU: pads rows of similar length together, and computes all tasks in one pass.

    Args:
        session: an onnxruntime.InferenceSession.
        form: inputs and outputs of the graph.
        tasks: tasks by name, at least the requested ones.
    """

    def __init__(self, session: Any, form: GraphForm, tasks: Mapping[str, Task]) -> None:  # noqa: ANN401
        self._session = session
        self._form = form
        self._tasks = tasks

    @classmethod
    def open(cls, description: Description) -> OnnxEngine:
        """Open the graph of a model folder. Raises MissingExtra without onnxruntime, ModelError for a bad graph."""
        form = GraphForm.of(description)
        file = description.folder / WEIGHTS["onnx"]
        require_own_files(file, description.data["sha256"])
        session = open_session(file)
        names = [tensor.name for tensor in session.get_inputs()], [tensor.name for tensor in session.get_outputs()]
        if tuple(names[0]) != form.inputs or not set(form.outputs.values()) <= set(names[1]):
            raise ModelError(f"{file}: its inputs and outputs are not those that polytask.json names; copy it again")
        return cls(session, form, description.tasks)

    def run(self, rows: Sequence[TokenRow], tasks: Sequence[tuple[str, ...]]) -> list[RowOutputs]:
        """Return each row's raw outputs of the tasks that read it (see `Engine`)."""
        order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
        row_outputs: list[RowOutputs] = [{} for _ in rows]
        start = 0
        for end in cut([len(rows[index].ids) for index in order], PASS_OVERHEAD):
            chosen = order[start:end]
            requested = list(dict.fromkeys(task for index in chosen for task in tasks[index]))
            outputs = self._pass([rows[index] for index in chosen], requested)
            for place, index in enumerate(chosen):
                row_outputs[index] = {task: self._own(outputs[task][place], task, rows[index]) for task in tasks[index]}
            start = end
        return row_outputs

    def _pass(self, rows: Sequence[TokenRow], tasks: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the graph's outputs for rows that are padded together, by task."""
        if not tasks:
            return {}
        inputs = padded(rows, self._form)
        try:
            outputs = self._session.run([self._form.outputs[task] for task in tasks], inputs)
        except Exception as error:  # noqa: BLE001 - its exceptions have no common base of their own
            reason = str(error).strip().split("\n")[0][:300]
            tokens = max(len(row.ids) for row in rows)
            raise ModelError(f"the graph fails on a text of {tokens} tokens ({reason}); export it again") from None
        return dict(zip(tasks, outputs, strict=True))

    def _own(self, outputs: NDArray[np.float32], task: str, row: TokenRow) -> NDArray[np.float32]:
        """Return a row's outputs (size), or those of each word's first token (words x size) from tokens x size."""
        if self._tasks[task].level == "row":
            return outputs
        at = np.asarray(row.word_tokens, dtype=np.int64)
        return outputs[at[at >= 0]]

    def describe(self) -> dict[str, Any]:
        """Return the runtime, device and precision, for people."""
        return {"runtime": "onnx", "device": "cpu", "precision": self._form.weights}


def load_onnx(description: Description) -> Model:
    """Return the model of an ONNX folder, ready to predict. Raises MissingExtra or ModelError."""
    form = GraphForm.of(description)
    file = description.folder / "tokenizer.json"
    tokens = Tokenization.read(
        file, description.max_tokens, type_ids=form.type_ids, side=form.truncation_side, filler=form.pad_id
    )
    return Model(
        description.tasks, tokens, OnnxEngine.open(description), description.about, partial(copy_model, description)
    )


def padded(rows: Sequence[TokenRow], form: GraphForm) -> _Padded:
    """Return the inputs of a graph for some rows, each rows x tokens."""
    width = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), width), form.pad_id, dtype=np.int64)
    mask, type_ids = np.zeros_like(ids), np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = row.ids
        mask[index, : len(row.ids)] = 1
        if row.type_ids is not None:
            type_ids[index, : len(row.ids)] = row.type_ids
    return dict(zip(form.inputs, (ids, mask, type_ids), strict=False))


def open_session(path: Path) -> Any:  # noqa: ANN401
    """Open a graph. Raises MissingExtra without onnxruntime, ModelError if the file is not a graph."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", "onnx-runtime", "a model in ONNX form") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    options.log_severity_level = 3  # errors; warnings are about internal rewriting of the graph
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - its exceptions have no common base of their own
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"{path}: not a graph that onnxruntime can run ({reason}); export it again") from None


def _threads() -> int:
    """Return the number of threads for a pass: OMP_NUM_THREADS, or all processors that this process may use."""
    requested = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if requested.isdigit() and int(requested) > 0:
        return int(requested)
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
