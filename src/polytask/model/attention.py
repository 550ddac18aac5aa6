"""Attention in bfloat16 on a CPU by plain matrix products, faster than torch's fused kernel where texts are short.

`benchmarks/attention.py` sets both side by side: 0.5 to 0.8 of the time up to 256 tokens. In float32 the fused kernel
is as fast or faster, and stays. It never holds the scores of all heads; here they are held for a few texts at a time.
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

ATTENTION = "polytask_sdpa"
# Tokens of a text up to which plain products are faster.
SHORT = 256
# Bytes of scores that are held at a time: more of them leave the cache, and are given back to the system every time.
SCORES = 2 << 20
# What `sdpa_attention_forward` understands and plain products do not.
_OTHER = ("dropout", "position_bias", "cache", "softcap")


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """Scaled dot-product attention.

    Args:
        query, key, value: rows x heads x tokens x features.
        attention_mask: rows x 1 x (1 or tokens) x tokens: true where a token is attended to, or what scores are added.

    Returns:
        rows x tokens x heads x features.
    """
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and _is_plain(module, query, key, value, options):
        scale = options.get("scaling")
        with torch.autocast("cpu", enabled=False):
            return by_products(
                query, key, value, attention_mask, query.shape[-1] ** -0.5 if scale is None else scale
            ), None
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and torch.is_grad_enabled():
        # torch 2.13 has no fast backward of its bfloat16 kernel: 38 ms instead of 11 for 16 rows x 128 tokens.
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
    """Whether texts are short, and nothing else is asked for than a mask."""
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    same = query.shape == key.shape == value.shape and query.dtype == key.dtype == value.dtype
    return same and query.shape[-2] <= SHORT and not causal and not any(options.get(name) for name in _OTHER)


def _added(mask: Tensor | None, query: Tensor) -> Tensor | None:
    """Return what a mask adds to the scores: rows x 1 x (1 or tokens) x tokens, float32."""
    if mask is None:
        return None
    if mask.shape[-2] > 1 and mask.stride(-2) == 0:
        mask = mask[..., :1, :]  # the same for every query
    if mask.dtype == torch.bool:
        # Not minus infinity: a row of padding that attends to nothing would be no number.
        mask = torch.zeros(mask.shape, dtype=torch.float32).masked_fill_(~mask, torch.finfo(torch.float32).min)
    return mask.float().expand(len(query), *mask.shape[1:])


def by_products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Return rows x tokens x heads x features; see `attention`. Any precision, no autocast."""
    added = _added(mask, query)
    if torch.is_grad_enabled() and any(one.requires_grad for one in (query, key, value)):
        return Products.apply(query, key, value, added, scale)
    return attend(query, key, value, added, scale)


def attend(
    query: Tensor, key: Tensor, value: Tensor, added: Tensor | None, scale: float, kept: list[Tensor] | None = None
) -> Tensor:
    """Return rows x tokens x heads x features; see `attention`.

    Args:
        kept: takes in the probabilities, some rows at a time, in the precision of the states.
    """
    out = query.new_empty(_by_token(query))
    for few in _slices(query):
        found = _probabilities(query[few], key[few], None if added is None else added[few], scale).to(value.dtype)
        out[few] = _heads(torch.bmm(found, _flat(value[few])), query)
        if kept is not None:
            kept.append(found)
    return out


class Products(torch.autograd.Function):
    """`attend`, and its gradient; the probabilities are kept in the precision of the states."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        query: Tensor,
        key: Tensor,
        value: Tensor,
        added: Tensor | None,
        scale: float,
    ) -> Tensor:
        kept: list[Tensor] = []
        out = attend(query, key, value, added, scale, kept)
        ctx.save_for_backward(query, key, value, out, *kept)
        ctx.scale = scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # noqa: ANN401  # pyright: ignore[reportIncompatibleMethodOverride]
        query, key, value, out, *kept = ctx.saved_tensors
        made = [query.new_empty(_by_token(query)) for _ in range(3)]
        with torch.autocast("cpu", enabled=False):
            # The softmax: ds = p * (dp - <dout, out>); Dao et al. 2022 (FlashAttention), appendix B.2.
            shift = -(grads[0] * out).float().sum(-1).transpose(1, 2)
            for few, p in zip(_slices(query), kept, strict=True):
                grad = _flat(grads[0][few].transpose(1, 2))
                q, k, v = _flat(query[few]), _flat(key[few]), _flat(value[few], torch.float32)
                ds = torch.baddbmm(shift[few].reshape(-1, shift.shape[-1], 1), grad.float(), v.mT)
                ds = ds.mul_(p).to(p.dtype)
                for target, gradient in zip(
                    made, (ds @ k * ctx.scale, ds.mT @ q * ctx.scale, p.mT @ grad), strict=True
                ):
                    target[few] = _heads(gradient, query)
        dq, dk, dv = (one.transpose(1, 2) for one in made)
        return dq, dk, dv, None, None


def _probabilities(query: Tensor, key: Tensor, added: Tensor | None, scale: float) -> Tensor:
    """Return what each token attends to, float32: (rows and heads) x tokens x tokens."""
    rows, heads, tokens, _ = query.shape
    # Scores are made in float32 also of bfloat16 states: written once, and exact but for their inputs.
    q, k = _flat(query, torch.float32), _flat(key, torch.float32).mT
    if added is None:
        scores = torch.bmm(q * scale, k)
    else:
        scores = torch.baddbmm(added.expand(rows, heads, -1, tokens).flatten(0, 1), q, k, alpha=scale)
    return torch.softmax(scores, -1)


def _slices(query: Tensor) -> Iterator[slice]:
    """Yield the rows whose scores are held together."""
    rows, heads, tokens, _ = query.shape
    step = max(1, SCORES // (heads * tokens * tokens * 4))
    return (slice(start, start + step) for start in range(0, rows, step))


def _flat(states: Tensor, kind: torch.dtype | None = None) -> Tensor:
    """Turn rows x heads x tokens x features into (rows and heads) x tokens x features, in one copy."""
    return states.to(kind or states.dtype, memory_format=torch.contiguous_format).flatten(0, 1)


def _heads(states: Tensor, query: Tensor) -> Tensor:
    """Turn (rows and heads) x tokens x features into rows x tokens x heads x features."""
    return states.unflatten(0, (-1, query.shape[1])).transpose(1, 2)


def _by_token(query: Tensor) -> tuple[int, int, int, int]:
    rows, heads, tokens, features = query.shape
    return rows, tokens, heads, features
