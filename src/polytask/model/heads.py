"""Heads: from token states to a task's outputs, as its head specification says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polytask.data.batch import TaskRows
from polytask.terms import HeadSpec


class RowHead(nn.Module):
    """One output vector a text.

    `mean` averages the states of all tokens and goes straight to the output layer; `cls` passes the first token's
    state through a dense layer and tanh first, as the encoders' own classification heads do.
    """

    def __init__(self, spec: HeadSpec, width: int, deviation: float) -> None:
        super().__init__()
        self.pooling = spec.pooling
        self.dense = _linear(width, width, deviation) if spec.pooling == "cls" else None
        self.dropout = nn.Dropout(spec.dropout)
        self.out = _output_layer(spec, width, deviation)

    def forward(self, states: Tensor, mask: Tensor, rows: TaskRows, read: Tensor | None = None) -> Tensor:
        """Return rows x size.

        Args:
            states: all rows x tokens x width.
            mask: all rows x tokens.
            read: rows x the sizes of what is read of other tasks, where anything is.
        """
        return self.answer(self.pool(states, mask, rows), read)

    def everywhere(self, states: Tensor, mask: Tensor, read: Tensor | None = None) -> Tensor:
        """Return all rows x size, as `forward` does where the task reads every row."""
        return self.answer(self._pool(states, mask), read)

    def pool(self, states: Tensor, mask: Tensor, rows: TaskRows) -> Tensor:
        """Return rows x width: all that the head takes from the encoder, and nothing that it learns."""
        return self._pool(states[rows.rows], mask[rows.rows])

    def _pool(self, states: Tensor, mask: Tensor) -> Tensor:
        if self.dense is not None:
            return states[:, 0]
        weight = mask.to(states.dtype).unsqueeze(-1)
        return (states * weight).sum(1) / weight.sum(1)

    def answer(self, pooled: Tensor, read: Tensor | None = None) -> Tensor:
        """Return rows x size for what `pool` returned."""
        if self.dense is not None:
            pooled = torch.tanh(self.dense(pooled))
        return self.out(self.dropout(_beside(pooled, read)))


class WordHead(nn.Module):
    """One output vector a word, read from the state of its first sub-word."""

    def __init__(self, spec: HeadSpec, width: int, deviation: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(spec.dropout)
        self.out = _output_layer(spec, width, deviation)

    def forward(self, states: Tensor, mask: Tensor, rows: TaskRows, read: Tensor | None = None) -> Tensor:
        """Return words x size.

        Args:
            states: all rows x tokens x width.
            read: words x the sizes of what is read of other tasks, where anything is.
        """
        return self.answer(self.pool(states, mask, rows), read)

    def everywhere(self, states: Tensor, mask: Tensor, read: Tensor | None = None) -> Tensor:
        """Return all rows x tokens x size: an output for every token, of which a word's is its first sub-word's."""
        del mask
        return self.answer(states, read)

    def pool(self, states: Tensor, mask: Tensor, rows: TaskRows) -> Tensor:
        """Return words x width: all that the head takes from the encoder, and nothing that it learns."""
        del mask
        assert rows.words is not None
        return states[rows.words[0], rows.words[1]]

    def answer(self, pooled: Tensor, read: Tensor | None = None) -> Tensor:
        """Return words x size for what `pool` returned."""
        return self.out(self.dropout(_beside(pooled, read)))


def _beside(states: Tensor, read: Tensor | None) -> Tensor:
    return states if read is None else torch.cat([states, read], dim=-1)


def _output_layer(spec: HeadSpec, width: int, deviation: float) -> nn.Linear:
    return _linear(width + sum(reading.size for reading in spec.reads), spec.size, deviation)


def _linear(width: int, size: int, deviation: float) -> nn.Linear:
    layer = nn.Linear(width, size)
    nn.init.normal_(layer.weight, std=deviation)
    nn.init.zeros_(layer.bias)
    return layer


HEADS = {"row": RowHead, "word": WordHead}


def build_head(spec: HeadSpec, width: int, deviation: float) -> RowHead | WordHead:
    """Build the head of a specification.

    Args:
        width: features of a token's state.
        deviation: standard deviation of the new weights.
    """
    return HEADS[spec.level](spec, width, deviation)
