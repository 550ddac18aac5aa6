"""The engine that runs a model in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from polytask.data.batch import Batch, BatchRow
from polytask.data.collator import Collator
from polytask.data.engine import RowOutputs
from polytask.data.tokens import TokenRow
from polytask.errors import ModelError
from polytask.model.device import autocast, fast_bf16, name_of
from polytask.model.multitask import MultiTaskModel
from polytask.terms import HeadSpec, Precision


class TorchEngine:
    """Runs a network: each row passes the encoder once, however many tasks read it.

    Args:
        heads: head specifications, at least of the network's tasks.
        collator: builds batches of rows for these tasks.
    """

    def __init__(
        self,
        network: MultiTaskModel,
        heads: Mapping[str, HeadSpec],
        collator: Collator,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.network = network
        self.device = device
        self._precision: Precision = precision
        self._by_word = {name for name, head in heads.items() if head.level == "word"}
        self._sizes = {name: head.size for name, head in heads.items()}
        self._vocabulary = len(next(iter(network.word_embeddings().values())))
        self._collator = collator

    def run(self, rows: Sequence[TokenRow], tasks: Sequence[tuple[str, ...]]) -> list[RowOutputs]:
        """Return each row's raw outputs of the tasks that read it (see `Engine`)."""
        pieces = [
            (index, part)
            for index, (row, names) in enumerate(zip(rows, tasks, strict=True))
            for part in self._collator.masked_copies(BatchRow(row.ids, row.type_ids, row.word_tokens, names, {}), {})
        ]
        items = [item for _, item in pieces]
        batch = self._collator.batch(items)
        self._require_known_tokens(batch)
        if self.network.training:  # `eval` visits every module: 0.2 ms, while one text takes 5
            self.network.eval()
        # Weights gathered in inference mode could not be modified when the model trains again.
        sharded = self.network.sharded
        no_gradient = torch.no_grad() if sharded else torch.inference_mode()
        with no_gradient, autocast(self.device, self._precision, cache_enabled=not sharded):
            outputs = {task: tensor.cpu().numpy() for task, tensor in self.network(batch.to(self.device)).items()}
        by_row: list[RowOutputs] = [{} for _ in rows]
        position = dict.fromkeys(outputs, 0)
        for number in batch.order:
            index, item = pieces[number]
            for task in item.tasks:
                if task in self._by_word:
                    count = int(np.count_nonzero(np.asarray(rows[index].word_tokens, dtype=np.int64) >= 0))
                    start = position.get(task, 0)
                    nothing = np.empty((0, self._sizes[task]), np.float32)
                    by_row[index][task] = outputs[task][start : start + count] if count else nothing
                    position[task] = start + count
                else:
                    by_row[index][task] = outputs[task][position[task]]
                    position[task] += 1
        return by_row

    def _require_known_tokens(self, batch: Batch) -> None:
        """Raise ModelError if the tokenizer belongs to another encoder and returns ids without an embedding."""
        largest = max((int(chunk.ids.max()) for chunk in batch.chunks), default=0)
        if largest >= self._vocabulary:
            raise ModelError(
                f"the tokenizer returned the token id {largest}, but there are {self._vocabulary} embeddings: they "
                "belong to different encoders; copy the model's folder again"
            )

    def describe(self) -> dict[str, Any]:
        """Return runtime, device and precision, for people."""
        fast = self._precision == "auto" and fast_bf16(self.device)
        precision = "bf16" if fast or self._precision == "bf16" else "fp32"
        return {"runtime": "torch", "device": name_of(self.device), "precision": precision}
