"""What makes an encoder faster on a CPU: dropout in training, and parameters rounded once in answering.

Attention has a module of its own. Dropout, measured on two cores with AMX, 16 rows x 128 tokens, forward and backward
of one layer's part: 5.2 ms with torch's generator and 1.9 ms with 16 random bits an element.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from polytask.model.attention import ATTENTION


class Dropout(nn.Module):
    """Dropout that spends 16 random bits an element on a CPU; the probability is exact to 1 / 65536."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._threshold = round(p * 65536) - 32768

    def forward(self, states: Tensor) -> Tensor:
        """Drop elements in training."""
        if not self.training or self.p == 0.0:
            return states
        if states.device.type != "cpu":
            return nn.functional.dropout(states, self.p)
        count = states.numel()
        bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        kept = bits.view(torch.int16)[:count].view(states.shape) >= self._threshold
        return states * (kept.to(states.dtype) * (1.0 / (1.0 - self.p)))


def quicken(model: nn.Module) -> None:
    """Replace attention and dropout by their fast forms where the model's family allows it."""
    if getattr(model, "_supports_sdpa", False):
        model.set_attn_implementation(ATTENTION)  # type: ignore[operator]
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p))


class _Rounded(nn.Module):
    """A module that computes in bfloat16 where an encoder answers under autocast, with parameters rounded once.

    Autocast alone rounds weights in every pass and keeps norms and sums in float32: states are cast to and fro.
    The parameters stay as they are. Where a gradient is asked for, autocast does all, and what was made of them is let
    go: a fused optimizer changes parameters without counting it as a version.

    Attributes:
        keeps: whether what was rounded is kept; sharded weights are there for a moment only.
    """

    keeps = True

    def _rounds(self, device: torch.device) -> bool:
        kind = device.type
        if self.training or torch.is_grad_enabled():
            self.__dict__.pop("_kept", None)
            return False
        return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16

    def _rounded(self) -> tuple[Tensor | None, Tensor | None]:
        """Return weight and bias in bfloat16."""
        weight, bias = self._parameters["weight"], self._parameters["bias"]
        state = [None if one is None else (one._version, one.data_ptr()) for one in (weight, bias)]
        kept: tuple[list[Any], tuple[Tensor | None, Tensor | None]] | None = self.__dict__.get("_kept")
        if kept is None or kept[0] != state:
            made = [None if one is None else one.detach().to(torch.bfloat16) for one in (weight, bias)]
            kept = (state, (made[0], made[1]))
            if self.keeps:
                self.__dict__["_kept"] = kept
        return kept[1]


class RoundedLinear(_Rounded, nn.Linear):
    """A linear module in bfloat16."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in the class above
        """Return ... x size."""
        if not self._rounds(input.device):
            return super().forward(input)
        weight, bias = self._rounded()
        assert weight is not None
        return nn.functional.linear(input, weight, bias)


class RoundedNorm(_Rounded, nn.LayerNorm):
    """A norm in bfloat16 on a CPU; elsewhere autocast computes it in float32 whatever it is given."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return what has the form of the input."""
        if input.device.type != "cpu" or not self._rounds(input.device):
            return super().forward(input)
        return nn.functional.layer_norm(input.to(torch.bfloat16), self.normalized_shape, *self._rounded(), self.eps)


class RoundedEmbedding(_Rounded, nn.Embedding):
    """A table of which the rows that are looked up are rounded."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return ... x size."""
        found = super().forward(input)
        return found.to(torch.bfloat16) if found.device.type == "cpu" and self._rounds(found.device) else found


_ROUNDED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: RoundedLinear,
    nn.LayerNorm: RoundedNorm,
    nn.Embedding: RoundedEmbedding,
}


def keep_no_rounded(model: nn.Module) -> None:
    """Let a model whose weights are sharded round them in every pass."""
    for module in model.modules():
        if isinstance(module, _Rounded):
            module.keeps = False


def keep_rounded(model: nn.Module) -> None:
    """Let a model answer in bfloat16 throughout where autocast is on."""
    for module in model.modules():
        module.__class__ = _ROUNDED.get(type(module), type(module))
