"""Evidence from a comparison: the transfer between tasks, and their single-task models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polytask.artifact.folder import load_bundle
from polytask.assembly import Assembly
from polytask.data.batch import Batch, BatchRow
from polytask.data.collator import Collator
from polytask.data.encode import Source
from polytask.errors import ModelError, UserError
from polytask.files import parse_json
from polytask.model.loading import pad_id
from polytask.model.multitask import MultiTaskModel
from polytask.probe.measuring import layer_states
from polytask.regular import read_text
from polytask.relatedness.evidence import Floats

# Dev texts of each task on which the single-task models are compared.
TEXTS = 64


@dataclass(frozen=True)
class ComparisonEvidence:
    """A comparison of the same tasks.

    Attributes:
        transfer: matrix of shape (T, T), nan where unknown; None if the comparison has no such matrix.
        singles: run folders of the single-task models, of the first seed that has any.
    """

    folder: Path
    transfer: Floats | None
    singles: tuple[Path, ...]


def read_comparison(folder: Path, tasks: Sequence[str]) -> ComparisonEvidence:
    """Read a comparison's folder. Raises UserError if it is none, or has other tasks."""
    path = folder / "comparison.json"
    try:
        data = parse_json(read_text(path))
        listed = list(data["tasks"])
        runs = data["arms"].get("single", {}).get("runs", {})
        transfer = data.get("transfer")
        matrix = None if transfer is None else _in_order(transfer, tasks)
    except OSError:
        raise UserError(f"--comparison {folder}: no comparison.json; name the folder of `compare --out`") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the record of a comparison ({error}); run `polytask compare` again") from None
    if set(listed) != set(tasks):
        raise UserError(
            f"--comparison {folder}: it is about {', '.join(listed)}, and the configuration has {', '.join(tasks)}; "
            "name a comparison of the same tasks"
        )
    singles = next((tuple(folder / run for run in listed) for listed in runs.values() if listed), ())
    return ComparisonEvidence(folder, matrix, singles)


def _in_order(record: Mapping[str, Any], tasks: Sequence[str]) -> Floats | None:
    """Return the transfer in the order of the tasks."""
    if set(record["tasks"]) != set(tasks):
        return None
    places = [record["tasks"].index(task) for task in tasks]
    values = [[np.nan if value is None else float(value) for value in row] for row in record["matrix"]]
    matrix = np.array(values)[np.ix_(places, places)]
    np.fill_diagonal(matrix, 0.0)
    return matrix


def single_states(compared: ComparisonEvidence, assembly: Assembly) -> tuple[dict[str, Floats] | None, str]:
    """Return the states of each task's own model for the same dev texts, or None and the reason."""
    found: dict[str, Floats] = {}
    items = _texts(assembly.sources["dev"])
    for run in compared.singles:
        try:
            bundle = load_bundle(run / "model")
        except ModelError as error:
            return None, str(error)
        # Not by fingerprint, which changes when a tokenizer is used: the limit on tokens is part of its state.
        if bundle.tokenizer.get_vocab() != assembly.tokenizer.get_vocab():
            return None, f"{run} splits texts into other tokens than {assembly.config.encoder}"
        collator = Collator(bundle.tasks, pad_id(bundle.tokenizer), bundle.model.uses_type_ids, 128)
        for task in bundle.tasks:
            if task in assembly.tasks and len(bundle.tasks) == 1:
                found[task] = _states(bundle.model, collator, task, items)
    missing = [task for task in assembly.tasks if task not in found]
    if missing:
        return None, f"{compared.folder} keeps no single-task model of {', '.join(missing)}"
    layers = {len(states) for states in found.values()}
    return (found, "") if len(layers) == 1 else (None, "the single-task models differ in their number of layers")


def _states(model: MultiTaskModel, collator: Collator, task: str, items: Sequence[BatchRow]) -> Floats:
    # A model's task must read every text for the encoder to pass it; no head runs.
    batch: Batch = collator.batch([BatchRow(row.ids, row.type_ids, row.word_tokens, (task,), {}) for row in items])
    return layer_states(model, batch)


def _texts(sources: Sequence[Source]) -> list[BatchRow]:
    """Take the first dev texts of every source."""
    nothing = np.zeros(0, dtype=np.int64)
    return [
        BatchRow(source.ids[row], None if source.type_ids is None else source.type_ids[row], nothing, (), {})
        for source in sources
        for row in range(min(TEXTS * len(source.tasks), len(source)))
    ]
