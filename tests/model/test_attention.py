"""Attention by plain products is that of torch's fused kernel, in values and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from polytask.model import attention as module
from polytask.model.attention import attention, by_products

MASKS = ("none", "padding", "window", "added")
Three = tuple[Tensor, Tensor, Tensor]
NOT_CAUSAL = nn.Identity()
NOT_CAUSAL.is_causal = False  # type: ignore[assignment]


def states(rows: int, heads: int, tokens: int, features: int, seed: int, kind: torch.dtype) -> Three:
    """Make queries, keys and values as encoders do: views of rows x tokens x heads x features."""
    torch.manual_seed(seed)
    made = torch.randn(3, rows, tokens, heads, features)
    query, key, value = (one.transpose(1, 2).to(kind).requires_grad_() for one in made)
    return query, key, value


def mask_of(kind: str, rows: int, tokens: int) -> Tensor | None:
    real = torch.arange(tokens) < torch.arange(1, rows + 1).clamp(max=tokens)[:, None]
    padding = real[:, None, None, :].expand(rows, 1, tokens, tokens)
    if kind == "padding":
        return padding
    if kind == "window":  # as ModernBERT's local layers
        return padding & ((torch.arange(tokens)[:, None] - torch.arange(tokens)).abs() <= 2)
    return torch.randn(rows, 1, tokens, tokens) if kind == "added" else None


def run(function: Any, given: Sequence[Tensor], mask: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    leaves = [one.detach().requires_grad_() for one in given]
    out, _ = function(NOT_CAUSAL, *leaves, mask, dropout=0.0, scaling=0.3)
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
    gradients = torch.autograd.grad((out.float() * weights).sum(), leaves)
    return out.detach(), list(gradients)


def plain(
    _: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
) -> tuple[Tensor, None]:
    """By plain products in any precision, called as the others are."""
    assert dropout == 0.0
    return by_products(query, key, value, mask, scaling), None


def error(found: Tensor, expected: Tensor, kept: Tensor) -> float:
    return float((found.float() - expected)[kept].abs().max())


@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 40), st.sampled_from(MASKS), st.integers(0, 99))
def test_values_and_gradients_are_those_of_the_fused_kernel(
    rows: int, heads: int, tokens: int, kind: str, seed: int
) -> None:
    three = states(rows, heads, tokens, 8, seed, torch.float32)
    mask = mask_of(kind, rows, tokens)
    expected, found = run(sdpa_attention_forward, three, mask), run(plain, three, mask)
    # A token of padding far from all real ones attends to nothing: what it gets is for nobody, but must be a number.
    asks = torch.ones(rows, 1, tokens) > 0 if mask is None or mask.dtype != torch.bool else mask.any(-1)
    kept = asks.expand(rows, heads, tokens).transpose(1, 2)
    assert torch.isfinite(found[0]).all()
    assert error(found[0], expected[0], kept) < 1e-5
    if kept.all():
        for ours, theirs in zip(found[1], expected[1], strict=True):
            assert error(ours, theirs, torch.ones_like(ours) > 0) < 2e-5


@pytest.mark.parametrize("kind", MASKS)
def test_without_a_gradient_it_computes_the_same(kind: str) -> None:
    three = states(6, 2, 9, 8, 3, torch.float32)
    mask = mask_of(kind, 6, 9)
    trained, _ = plain(NOT_CAUSAL, *three, mask, scaling=0.3)
    with torch.no_grad():
        answered, _ = plain(NOT_CAUSAL, *three, mask, scaling=0.3)
    assert torch.equal(trained, answered)


@pytest.mark.parametrize("kind", MASKS)
def test_slices_of_a_batch_give_what_the_whole_gives(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    three = states(7, 2, 12, 8, 4, torch.float32)
    mask = mask_of(kind, 7, 12)
    whole, gradients = run(plain, three, mask)
    monkeypatch.setattr(module, "SCORES", 2 * (2 * 12 * 12 * 4))  # two rows at a time
    sliced, others = run(plain, three, mask)
    torch.testing.assert_close(sliced, whole, atol=1e-6, rtol=1e-6)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, one, atol=1e-6, rtol=1e-5)


def test_errors_in_bfloat16_are_less_than_twice_those_of_the_fused_kernel() -> None:
    three = states(8, 4, 50, 32, 5, torch.float32)
    rounded = [one.detach().bfloat16() for one in three]
    mask = mask_of("padding", 8, 50)
    expected = run(sdpa_attention_forward, [one.float() for one in rounded], mask)
    fused, ours = run(sdpa_attention_forward, rounded, mask), run(attention, rounded, mask)

    def distance(made: tuple[Tensor, list[Tensor]]) -> list[float]:
        pairs = zip([made[0], *made[1]], [expected[0], *expected[1]], strict=True)
        return [float((one.float() - other).norm() / other.norm()) for one, other in pairs]

    assert ours[0].dtype == torch.bfloat16
    for one, other in zip(distance(ours), distance(fused), strict=True):
        assert one < 2 * other


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_long_texts_dropout_and_float32_go_to_torch(kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORT", 10)
    calls: list[Any] = []
    fused = module.sdpa_attention_forward
    monkeypatch.setattr(
        module, "sdpa_attention_forward", lambda *given, **options: calls.append(given) or fused(*given, **options)
    )
    out, _ = attention(NOT_CAUSAL, *states(2, 2, 11, 8, 0, kind), mask_of("added", 2, 11).to(kind), scaling=0.3)  # type: ignore[union-attr]
    assert out.dtype == kind
    attention(NOT_CAUSAL, *states(2, 2, 5, 8, 0, kind), None, scaling=0.3, dropout=0.5)
    assert len(calls) == 2
    attention(NOT_CAUSAL, *states(2, 2, 5, 8, 0, kind), None, scaling=0.3)
    assert len(calls) == (2 if kind == torch.bfloat16 else 3)
