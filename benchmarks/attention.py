"""Attention of one layer on a CPU: plain products beside torch's fused kernel, about 2,000 tokens of texts of a length.

    python -m benchmarks.attention

12 heads of 32 features, a mask that hides three tokens of each text; both in turn, medians. With the backward pass the
fused kernel runs in float32 also on bfloat16 states, as polytask called it before: its own backward is slow there.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from polytask.model.attention import by_products

ROUNDS = 21
LAYER = nn.Identity()
LAYER.is_causal = False  # type: ignore[assignment]


def fused(states: list[Tensor], mask: Tensor) -> Tensor:
    wide = [one.float() if torch.is_grad_enabled() else one for one in states]
    return sdpa_attention_forward(LAYER, wide[0], wide[1], wide[2], mask)[0].to(states[0].dtype)


def products(states: list[Tensor], mask: Tensor) -> Tensor:
    return by_products(states[0], states[1], states[2], mask, states[0].shape[-1] ** -0.5)


def seconds(way: Callable[[list[Tensor], Tensor], Tensor], states: list[Tensor], mask: Tensor, back: bool) -> float:
    began = time.perf_counter()
    with torch.set_grad_enabled(back):
        out = way(states, mask)
        if back:
            torch.autograd.grad(out, states, torch.ones_like(out))
    return time.perf_counter() - began


def main() -> None:
    print("| tokens of a text | precision | backward | fused ms | products ms | ratio |\n|---|---|---|---|---|---|")
    for tokens in (24, 60, 128, 256):
        rows = 2048 // tokens
        mask = torch.ones(rows, 1, 1, tokens, dtype=torch.bool)
        mask[..., -3:] = False
        mask = mask.expand(rows, 1, tokens, tokens)
        for kind in (torch.bfloat16, torch.float32):
            made = [torch.randn(rows, tokens, 12, 32).to(kind) for _ in range(3)]
            states = [one.transpose(1, 2).requires_grad_() for one in made]
            for back in (False, True):
                pairs = [[seconds(way, states, mask, back) for way in (fused, products)] for _ in range(ROUNDS + 3)][3:]
                first, second = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
                name = str(kind).removeprefix("torch.")
                cells = (
                    tokens,
                    name,
                    "yes" if back else "no",
                    f"{first:.1f}",
                    f"{second:.1f}",
                    f"{second / first:.2f}",
                )
                print("|", *(f"{cell} |" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
