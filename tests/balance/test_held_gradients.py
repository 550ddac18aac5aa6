"""The tasks' gradients take half of the memory where that changes no bit of the update, or they may be rounded."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from methods import Method
from tiny_steps import SHARINGS, WEIGHTS, Job, batches_of, build, taken
from torch import Tensor, nn

from polytask.assembly import Assembly
from polytask.balance import gram as gram_module
from polytask.balance.gram import GradientMeter
from polytask.config import validate
from polytask.errors import ConfigError
from polytask.model.device import autocast
from polytask.training.distribution import World
from polytask.training.gradient import Differentiator, StepGradient

COMPARING = [Method("aligned_mtl"), Method("upgrad"), Method("equal_norms"), Method("graddrop"), Method("trimmed_mean")]


@pytest.fixture(autouse=True)
def of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the gradients of a tiny model too."""
    monkeypatch.setattr(gram_module, "_SMALL", 1)


def step(
    assembly: Assembly, method: Method, precision: str, pieces: int = 1, **options: Any
) -> tuple[StepGradient, dict[str, Tensor]]:
    """Return an update's statistic and gradient."""
    balancer = Method(method.name, {**method.values, **options}).build(WEIGHTS)
    context = partial(autocast, torch.device("cpu"), precision)  # type: ignore[arg-type]
    made = Differentiator(assembly.model, assembly.tasks, balancer, World(0, 1), context)
    found = made.by_task(batches_of(assembly, pieces))
    return found, taken(assembly)


class Held:
    """Counts the numbers that are held in each format."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts = {torch.float32: 0, torch.bfloat16: 0}
        self._held = gram_module._held
        monkeypatch.setattr(gram_module, "_held", self)

    def __call__(self, gradient: Tensor, *, rounded: bool) -> Tensor:
        held = self._held(gradient, rounded=rounded)
        self.counts[held.dtype] += held.numel()
        return held


@pytest.mark.parametrize("method", COMPARING, ids=str)
@pytest.mark.parametrize("sharing", ["partial", "lora", "shared heads"])
def test_held_without_a_loss_the_update_is_the_same_bit_for_bit(
    job: Job, monkeypatch: pytest.MonkeyPatch, method: Method, sharing: str
) -> None:
    assert sharing in SHARINGS
    assembly = build(job, sharing)
    for precision, pieces in (("bf16", 1), ("bf16", 2), ("fp32", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(gram_module, "_held", lambda gradient, *, rounded: gradient)
            plain, expected = step(assembly, method, precision, pieces)
        with monkeypatch.context() as patch:
            held = Held(patch)
            found, gradients = step(assembly, method, precision, pieces)
        assert found.weights == plain.weights
        np.testing.assert_array_equal(found.gram, plain.gram)
        for name, gradient in gradients.items():
            assert torch.equal(gradient, expected[name]), f"{name}, {precision}, {pieces} pieces"
        if (precision, pieces) == ("bf16", 1):
            assert held.counts[torch.bfloat16] > held.counts[torch.float32], "the matrices, which are most of a layer"
        else:
            assert held.counts[torch.bfloat16] < 0.1 * held.counts[torch.float32]


@pytest.mark.parametrize("method", [Method("aligned_mtl"), Method("upgrad"), Method("trimmed_mean")], ids=str)
def test_rounded_it_is_the_same_update_but_for_three_digits(
    job: Job, monkeypatch: pytest.MonkeyPatch, method: Method
) -> None:
    assembly = build(job)
    plain, expected = step(assembly, method, "fp32")
    held = Held(monkeypatch)
    found, gradients = step(assembly, method, "fp32", gradient_precision="bf16")
    assert held.counts[torch.float32] == 0
    assert found.weights == pytest.approx(dict(plain.weights), rel=0.02)
    assert found.gram is not None
    assert plain.gram is not None
    np.testing.assert_allclose(found.gram, plain.gram, rtol=0.02, atol=1e-4)
    changed = 0
    for name, gradient in gradients.items():
        off = float((gradient - expected[name]).norm())
        assert off <= 0.02 * float(expected[name].norm()) + 1e-6, name
        changed += off > 0
    assert changed, "nothing was rounded"


def test_what_fits_is_held_in_half_and_what_does_not_stays_exact() -> None:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(5000, generator=generator)
    fitting = drawn.to(torch.bfloat16).float()
    late = fitting.clone()
    late[-1] = drawn[-1]  # beyond what is looked at first
    unknown = fitting.clone()
    unknown[3] = torch.nan
    for gradient, dtype in ((drawn, torch.float32), (fitting, torch.bfloat16), (late, torch.float32),
                            (unknown, torch.float32), (torch.zeros(9), torch.bfloat16)):  # fmt: skip
        held = gram_module._held(gradient, rounded=False)
        assert held.dtype == dtype
        assert torch.equal(held.float().nan_to_num(7), gradient.nan_to_num(7))
        assert gram_module._held(gradient, rounded=True).dtype == torch.bfloat16


def test_small_gradients_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram_module, "_SMALL", 10)
    assert gram_module._held(torch.rand(9), rounded=True).dtype == torch.float32


@pytest.mark.parametrize("aggregated", [False, True])
def test_what_was_put_back_is_held_no_longer(aggregated: bool) -> None:
    shared, own = nn.Parameter(torch.ones(6)), nn.Parameter(torch.ones(4))
    meter = GradientMeter([{"a": [shared], "b": [shared]}, {"a": [own]}], ["a", "b"])
    for task, parameters in (("a", [shared, own]), ("b", [shared])):
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, 2.0)
        meter.take(task)
    assert sum(len(found) for found in meter._taken.values()) == 3
    if aggregated:
        meter.put_back_aggregated(lambda rows: rows.sum(0), {shared})
    else:
        meter.put_back({"a": 1.0, "b": 1.0}, {shared})
    assert not any(meter._taken.values())
    assert shared.grad is not None
    assert own.grad is not None
    assert (shared.grad.tolist(), own.grad.tolist()) == ([4.0] * 6, [2.0] * 4)


def test_the_option_is_read_and_refused_where_nothing_is_compared(job: Job) -> None:
    values = {**job(), "balance": {"method": "aligned_mtl", "gradient_precision": "bf16"}}
    assert validate(values).balance.rounds_gradients
    assert not validate({**job(), "balance": {"method": "aligned_mtl"}}).balance.rounds_gradients
    for balance in ({"method": "sum", "gradient_precision": "bf16"},
                    {"method": "aligned_mtl", "gradient_precision": "int8"}):  # fmt: skip
        with pytest.raises(ConfigError, match="gradient_precision"):
            validate({**job(), "balance": balance})
