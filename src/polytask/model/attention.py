"""Attention in bfloat16 on a CPU by plain matrix products, faster than torch's fused kernel for short texts.

`benchmarks/attention.py` compares both: 0.5 to 0.8 of the time up to 256 tokens. In float32 the fused kernel is as fast
or faster, and is used. It never materialises the scores of all heads; here they are kept for a few texts at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from polytask.model.packing import PackedRows

ATTENTION = "polytask_sdpa"
# Maximum length in tokens for which plain products are faster.
SHORT = 256
# Bytes of scores kept at a time: more do not fit the cache, and their memory is returned to the system every time.
SCORES = 2 << 20
# Options that `sdpa_attention_forward` supports and plain products do not.
_OTHER = ("dropout", "position_bias", "cache", "softcap")


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """Compute scaled dot-product attention.

    Args:
        query, key, value: states of shape (rows, heads, tokens, features).
        attention_mask: shape (rows, 1, 1 or tokens, tokens): true where a token is attended to, or a bias of scores.
        options: `packed` says which tokens are rows if each token is given as a row of its own.

    Returns:
        States of shape (rows, tokens, heads, features).
    """
    packed: PackedRows | None = options.pop("packed", None)
    if packed is not None:
        parts = zip(
            packed.split(query), packed.split(key), packed.split(value), packed.masks(attention_mask), strict=True
        )
        return packed.join([attention(module, *part, **options)[0] for part in parts]), None
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and _is_plain(module, query, key, value, options):
        scale = options.get("scaling")
        with torch.autocast("cpu", enabled=False):
            return by_products(
                query, key, value, attention_mask, query.shape[-1] ** -0.5 if scale is None else scale
            ), None
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and torch.is_grad_enabled():
        # torch 2.13 has no fast backward for its bfloat16 kernel: 38 ms instead of 11 for 16 rows x 128 tokens.
        if attention_mask is not None and attention_mask.is_floating_point():
            attention_mask = attention_mask.float()
        with torch.autocast("cpu", enabled=False):
            wide = (query.float(), key.float(), value.float())
            out, _ = sdpa_attention_forward(module, *wide, attention_mask, **options)
        return out.to(torch.bfloat16), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)  # type: ignore[return-value]


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def _is_plain(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> bool:
    """Whether texts are short and no options other than a mask are used."""
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    same = query.shape == key.shape == value.shape and query.dtype == key.dtype == value.dtype
    return same and query.shape[-2] <= SHORT and not causal and not any(options.get(name) for name in _OTHER)


def _bias(mask: Tensor | None, query: Tensor) -> Tensor | None:
    """Return the mask as a float32 bias of the scores, of shape (rows, 1, 1 or tokens, tokens)."""
    if mask is None:
        return None
    if mask.shape[-2] > 1 and mask.stride(-2) == 0:
        mask = mask[..., :1, :]  # the same for every query
    if mask.dtype == torch.bool:
        # Not minus infinity: a row of padding that attends to nothing would become NaN.
        mask = torch.zeros(mask.shape, dtype=torch.float32).masked_fill_(~mask, torch.finfo(torch.float32).min)
    return mask.float().expand(len(query), *mask.shape[1:])


def by_products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Return states of shape (rows, tokens, heads, features), as `attention`. Any precision, no autocast."""
    bias = _bias(mask, query)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value)):
        return Products.apply(query, key, value, bias, scale)
    return attend(query, key, value, bias, scale)


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float, kept: list[Tensor] | None = None
) -> Tensor:
    """Return states of shape (rows, tokens, heads, features), as `attention`.

    Args:
        kept: list to which the probabilities are appended, some rows at a time, in the precision of the states.
    """
    out = query.new_empty(_by_token(query))
    for rows in _slices(query):
        row_bias = None if bias is None else bias[rows]
        probabilities = _probabilities(query[rows], key[rows], row_bias, scale).to(value.dtype)
        out[rows] = _heads(torch.bmm(probabilities, _flat(value[rows])), query)
        if kept is not None:
            kept.append(probabilities)
    return out


class Products(torch.autograd.Function):
    """`attend` and its gradient; the probabilities are saved in the precision of the states."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        scale: float,
    ) -> Tensor:
        kept: list[Tensor] = []
        out = attend(query, key, value, bias, scale, kept)
        ctx.save_for_backward(query, key, value, out, *kept)
        ctx.scale = scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # noqa: ANN401  # pyright: ignore[reportIncompatibleMethodOverride]
        query, key, value, out, *kept = ctx.saved_tensors
        results = [query.new_empty(_by_token(query)) for _ in range(3)]
        with torch.autocast("cpu", enabled=False):
            # The softmax: ds = p * (dp - <dout, out>); Dao et al. 2022 (FlashAttention), appendix B.2.
            shift = -(grads[0] * out).float().sum(-1).transpose(1, 2)
            for rows, p in zip(_slices(query), kept, strict=True):
                grad = _flat(grads[0][rows].transpose(1, 2))
                q, k, v = _flat(query[rows]), _flat(key[rows]), _flat(value[rows], torch.float32)
                ds = torch.baddbmm(shift[rows].reshape(-1, shift.shape[-1], 1), grad.float(), v.mT)
                ds = ds.mul_(p).to(p.dtype)
                for target, gradient in zip(
                    results, (ds @ k * ctx.scale, ds.mT @ q * ctx.scale, p.mT @ grad), strict=True
                ):
                    target[rows] = _heads(gradient, query)
        dq, dk, dv = (result.transpose(1, 2) for result in results)
        return dq, dk, dv, None, None


def _probabilities(query: Tensor, key: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Return the attention probabilities in float32, of shape (rows * heads, tokens, tokens)."""
    rows, heads, tokens, _ = query.shape
    # Scores are computed in float32 even for bfloat16 states: written once, and exact except for their inputs.
    q, k = _flat(query, torch.float32), _flat(key, torch.float32).mT
    if bias is None:
        scores = torch.bmm(q * scale, k)
    else:
        scores = torch.baddbmm(bias.expand(rows, heads, -1, tokens).flatten(0, 1), q, k, alpha=scale)
    return torch.softmax(scores, -1)


def _slices(query: Tensor) -> Iterator[slice]:
    """Yield slices of rows whose scores are kept together."""
    rows, heads, tokens, _ = query.shape
    step = max(1, SCORES // (heads * tokens * tokens * 4))
    return (slice(start, start + step) for start in range(0, rows, step))


def _flat(states: Tensor, kind: torch.dtype | None = None) -> Tensor:
    """Reshape (rows, heads, tokens, features) to (rows * heads, tokens, features), in one copy."""
    return states.to(kind or states.dtype, memory_format=torch.contiguous_format).flatten(0, 1)


def _heads(states: Tensor, query: Tensor) -> Tensor:
    """Reshape (rows * heads, tokens, features) to (rows, tokens, heads, features)."""
    return states.unflatten(0, (-1, query.shape[1])).transpose(1, 2)


def _by_token(query: Tensor) -> tuple[int, int, int, int]:
    rows, heads, tokens, features = query.shape
    return rows, tokens, heads, features
