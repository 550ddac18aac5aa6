"""Heads: from token states to a task's outputs, by its head specification and the encoder's family."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from polytask.data.batch import TaskRows
from polytask.errors import ConfigError, nearest
from polytask.heads import HEADS, POOLINGS
from polytask.model.family import family_in
from polytask.terms import HeadSpec


class Head(nn.Module, ABC):
    """Computes a task's outputs from the states that it reads.

    A head has the dense layer, activation and norm that the family's own classification classes have before the output
    layer, if any.

    Args:
        config: the encoder's configuration.
    """

    def __init__(self, spec: HeadSpec, config: Any) -> None:  # noqa: ANN401
        from transformers.activations import ACT2FN

        super().__init__()
        form = family_in(config).head
        width, deviation = int(config.hidden_size), float(getattr(config, "initializer_range", 0.02))
        self.pooling = spec.pooling
        has_dense = form.has_dense(spec)
        self.dense = _linear(width, width, deviation) if has_dense else None
        self.activation = ACT2FN[form.activation]
        self.norm = form.norm(config) if has_dense and form.norm is not None else None
        self.dropout = nn.Dropout(spec.dropout)
        self.out: nn.Module = _linear(width + sum(reading.size for reading in spec.reads), spec.size, deviation)

    def forward(self, states: Tensor, mask: Tensor, rows: TaskRows, read: Tensor | None = None) -> Tensor:
        """Return outputs of shape (rows or words, size).

        Args:
            states: states of all rows, of shape (rows, tokens, width).
            mask: attention mask of all rows, of shape (rows, tokens).
            rows: the rows (and words) that the task reads.
            read: outputs of other tasks that the head reads, of shape (rows or words, total size), if any.
        """
        return self.answer(self.pool(states, mask, rows), read)

    def everywhere(self, states: Tensor, mask: Tensor, read: Tensor | None = None) -> Tensor:
        """Return the outputs for all rows, or for every token (a word's outputs are those of its first sub-word).

        Args:
            read: as for `forward`, for all rows or tokens.

        Returns:
            Outputs of shape (rows, size) or (rows, tokens, size).
        """
        return self.answer(self.pool_everywhere(states, mask), read)

    @abstractmethod
    def pool_everywhere(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool all rows or tokens, as `pool`: shape (rows, width) or (rows, tokens, width)."""

    @abstractmethod
    def pool(self, states: Tensor, mask: Tensor, rows: TaskRows) -> Tensor:
        """Return the head's input of shape (rows or words, width), which depends on no parameters of the head."""

    def for_loss(self, outputs: Tensor) -> Tensor:
        """Return the input of the task's loss: the outputs of shape (n, size), possibly followed by learned rows."""
        return outputs

    def learned(self) -> dict[str, Tensor]:
        """Return by name the learned parameters that decoding needs in addition to the outputs."""
        return {}

    def bind(self, words: nn.Module) -> None:
        """Give the head access to the encoder's word embeddings; most heads do not use them."""
        del words

    def squared_norm(self) -> Tensor:
        """Return the sum of the squared weights of the output layer."""
        return next(self.out.parameters()).square().sum()

    def answer(self, pooled: Tensor, read: Tensor | None = None) -> Tensor:
        """Return outputs of shape (rows or words, size) for what `pool` returned."""
        if self.dense is not None:
            pooled = self.activation(self.dense(pooled))
        if self.norm is not None:
            pooled = self.norm(pooled)
        return self.out(self.dropout(pooled if read is None else torch.cat([pooled, read], dim=-1)))


class RowHead(Head):
    """One output vector per text, from the pooled states of its tokens."""

    def pool(self, states: Tensor, mask: Tensor, rows: TaskRows) -> Tensor:
        return self.pool_everywhere(states[rows.rows], mask[rows.rows])

    def pool_everywhere(self, states: Tensor, mask: Tensor) -> Tensor:
        return POOLINGS[self.pooling](states, mask)


class WordHead(Head):
    """One output vector per word, from the state of its first sub-word.

    A chained head (a linear-chain CRF) also has transition scores of shape (size + 2, size): from each tag to the next,
    then those of each tag at the start of a row, and at the end.
    """

    def __init__(self, spec: HeadSpec, config: Any) -> None:  # noqa: ANN401
        super().__init__(spec, config)
        self.transitions = nn.Parameter(torch.zeros(spec.size + 2, spec.size)) if spec.chained else None

    def for_loss(self, outputs: Tensor) -> Tensor:
        # Appended to the outputs, so that their gradients are exchanged between processes like all others.
        return outputs if self.transitions is None else torch.cat([outputs, self.transitions])

    def learned(self) -> dict[str, Tensor]:
        return {} if self.transitions is None else {"transitions": self.transitions}

    def pool(self, states: Tensor, mask: Tensor, rows: TaskRows) -> Tensor:
        del mask
        assert rows.words is not None
        return states[rows.words[0], rows.words[1]]

    def pool_everywhere(self, states: Tensor, mask: Tensor) -> Tensor:
        del mask
        return states


class VectorHead(RowHead):
    """One vector per text: the pooled states, with a linear layer if the vector has another size."""

    def __init__(self, spec: HeadSpec, config: Any) -> None:  # noqa: ANN401
        nn.Module.__init__(self)
        width = int(config.hidden_size)
        features = width + sum(reading.size for reading in spec.reads)
        self.pooling = spec.pooling
        self.dense = self.norm = None
        self.dropout = nn.Dropout(spec.dropout)
        deviation = float(getattr(config, "initializer_range", 0.02))
        self.out = nn.Identity() if features == spec.size else _linear(features, spec.size, deviation)

    def squared_norm(self) -> Tensor:
        weights = [weight.square().sum() for weight in self.out.parameters() if weight.ndim > 1]
        return torch.stack(weights).sum() if weights else torch.zeros(())


class MatchingHead(VectorHead):
    """Normalised vectors whose inner product is their cosine times a learned scale between 1 and 100."""

    def __init__(self, spec: HeadSpec, config: Any) -> None:  # noqa: ANN401
        super().__init__(spec, config)
        self.log_scale = nn.Parameter(torch.tensor([math.log(20.0)]))

    def answer(self, pooled: Tensor, read: Tensor | None = None) -> Tensor:
        length = torch.exp(0.5 * self.log_scale.clamp(0.0, math.log(100.0)))
        return length * nn.functional.normalize(super().answer(pooled, read), dim=-1)


class PairHead(WordHead):
    """Representations of each word as start and as end of a span, and a biaffine table that scores pairs of them.

    Source: Yu, Bohnet and Poesio 2020, "Named Entity Recognition as Dependency Parsing", section 3. Each half of a
    word's outputs is one side; the table has shape (labels, half + 1, half + 1), since a 1 is appended to either side.
    """

    def __init__(self, spec: HeadSpec, config: Any) -> None:  # noqa: ANN401
        super().__init__(spec, config)
        side = spec.size // 2 + 1
        self.pairs = nn.Parameter(torch.empty(spec.pairs, side, side))
        nn.init.normal_(self.pairs, std=1 / side)
        # Spans are rare: the initial probability is 2 %.
        nn.init.constant_(self.pairs.data[:, -1, -1], -4.0)

    def answer(self, pooled: Tensor, read: Tensor | None = None) -> Tensor:
        return nn.functional.gelu(super().answer(pooled, read))

    def for_loss(self, outputs: Tensor) -> Tensor:
        width = outputs.shape[1]
        flat = nn.functional.pad(self.pairs.flatten(), (0, -self.pairs.numel() % width))
        return torch.cat([outputs, flat.view(-1, width)])

    def learned(self) -> dict[str, Tensor]:
        return {"pairs": self.pairs}


class OwnHead(Head):
    """A user's own module between the pooled states and the outputs.

    Args:
        module: maps pooled states of shape (rows or words, features) to outputs of shape (rows or words, size).
    """

    def __init__(self, spec: HeadSpec, config: Any, module: type[nn.Module], level: type[Head]) -> None:  # noqa: ANN401
        nn.Module.__init__(self)
        self.pooling = spec.pooling
        self.size = spec.size
        self.dropout = nn.Dropout(spec.dropout)
        features = int(config.hidden_size) + sum(reading.size for reading in spec.reads)
        place = f"head: {module.__qualname__}"
        try:
            self.module = module(features, spec.size)
        except TypeError as error:
            raise ConfigError(f"{place}: has to take the numbers of features and outputs ({error})") from error
        self._level = level
        with torch.no_grad():
            outputs = self.eval().answer(torch.zeros(2, features))
        self.train()
        if outputs.shape != (2, spec.size):
            raise ConfigError(f"{place}: returned {list(outputs.shape)} for 2 x {features}; expected 2 x {spec.size}")

    def pool(self, states: Tensor, mask: Tensor, rows: TaskRows) -> Tensor:
        return self._level.pool(self, states, mask, rows)

    def pool_everywhere(self, states: Tensor, mask: Tensor) -> Tensor:
        return self._level.pool_everywhere(self, states, mask)

    def squared_norm(self) -> Tensor:
        norms = [weight.square().sum() for weight in self.module.parameters() if weight.ndim > 1]
        return torch.stack(norms).sum() if norms else torch.zeros(())

    def answer(self, pooled: Tensor, read: Tensor | None = None) -> Tensor:
        return self.module(self.dropout(pooled if read is None else torch.cat([pooled, read], dim=-1)))


class MaskedHead(RowHead):
    """The mean negative log-likelihood of a text's masked tokens.

    The output layer is tied to the word embeddings without giving them a gradient: they are trained as inputs only.
    """

    def __init__(self, spec: HeadSpec, config: Any) -> None:  # noqa: ANN401
        from transformers.activations import ACT2FN

        nn.Module.__init__(self)
        width, deviation = int(config.hidden_size), float(getattr(config, "initializer_range", 0.02))
        features = int(getattr(config, "embedding_size", None) or width)
        self.pooling = spec.pooling
        self.transform = _linear(width, features, deviation)
        self.activation = ACT2FN[str(getattr(config, "hidden_act", None) or "gelu")]
        epsilon = getattr(config, "layer_norm_eps", getattr(config, "norm_eps", 1e-12))
        self.norm = nn.LayerNorm(features, eps=float(epsilon))
        self.bias = nn.Parameter(torch.zeros(int(config.vocab_size)))
        self._words: list[nn.Module] = []

    def bind(self, words: nn.Module) -> None:
        self._words = [words]  # in a list, so that they are not a submodule of the head

    def forward(self, states: Tensor, mask: Tensor, rows: TaskRows, read: Tensor | None = None) -> Tensor:
        del mask, read
        assert rows.hidden is not None
        row, token, labels = rows.hidden
        logits = self.answer(states[row, token])
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        index = torch.searchsorted(rows.rows, row.contiguous())
        sums = losses.new_zeros(len(rows.rows)).index_add(0, index, losses)
        counts = torch.bincount(index, minlength=len(rows.rows)).clamp(min=1)
        return (sums / counts).unsqueeze(1)

    def squared_norm(self) -> Tensor:
        return self.transform.weight.square().sum()

    def answer(self, pooled: Tensor, read: Tensor | None = None) -> Tensor:
        """Return the logits of tokens, of shape (states, vocabulary)."""
        del read
        (words,) = self._words
        weight = words.weight
        assert isinstance(weight, Tensor)
        return nn.functional.linear(self.norm(self.activation(self.transform(pooled))), weight.detach(), self.bias)


def _linear(width: int, size: int, deviation: float) -> nn.Linear:
    layer = nn.Linear(width, size)
    nn.init.normal_(layer.weight, std=deviation)
    nn.init.zeros_(layer.bias)
    return layer


HEADS.base = nn.Module
HEADS.update(
    {
        "row": RowHead, "masked": MaskedHead, "matching": MatchingHead, "vector": VectorHead, "word": WordHead,
        "pairs": PairHead,
    }
)  # fmt: skip


def build_head(spec: HeadSpec, config: Any) -> Head:  # noqa: ANN401
    """Build the head of a specification for an encoder's configuration.

    Raises ConfigError if the head is not registered, or its module does not fit.
    """
    name = spec.head or spec.level
    if name not in HEADS:
        raise ConfigError(f"found the head {name!r}; {nearest(name, HEADS)}")
    kind = HEADS[name]
    if issubclass(kind, Head):
        return kind(spec, config)
    return OwnHead(spec, config, kind, HEADS[spec.level])
