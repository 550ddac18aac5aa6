"""Measuring: what the paper says, and nothing moves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from polytask.assemble import assemble
from polytask.assembly import Assembly
from polytask.config import validate
from polytask.data.batch import Batch
from polytask.data.stream import Streams
from polytask.errors import ConfigError
from polytask.probe.budget import BOTH_WAYS, GREATEST_SHARE, plan_budget
from polytask.probe.heads import HeadInputs, fit_heads
from polytask.probe.measuring import Probing, layer_states
from polytask.probe.run import probe_config
from polytask.relatedness.look_ahead import affinity

Job = Callable[..., dict[str, Any]]
RATE = 0.05


@pytest.fixture
def assembly(job: Job) -> Assembly:
    return assemble(probe_config(validate(job())))


def draw(assembly: Assembly, rows: int, *tasks: str) -> Batch:
    sources = assembly.sources["train"]
    drawn = Streams(sources, seed=1, block=8).draw_each(dict.fromkeys(tasks or assembly.tasks, rows))
    return assembly.collator().from_sources(sources, drawn)


def mean_loss(assembly: Assembly, model: Any, batch: Batch, task: str) -> torch.Tensor:
    own = assembly.tasks[task]
    return own.loss(model(batch)[task], batch.targets[task]) / own.loss_denominator(batch.targets[task])


def test_look_ahead_is_the_explicit_computation_and_leaves_the_model_untouched(assembly: Assembly) -> None:
    model, batch, ahead = assembly.model, draw(assembly, 5), draw(assembly, 3)
    weights = copy.deepcopy(model.state_dict())
    probing = Probing(model, assembly.tasks, rate=RATE, points=1)
    measured = probing.measure(batch, ahead, 0)
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in weights.items())
    assert all(parameter.grad is None for parameter in model.parameters())

    explicit = np.zeros((3, 3))
    gradients: dict[str, torch.Tensor] = {}
    for i, one in enumerate(assembly.tasks):
        stepped = copy.deepcopy(model).eval()
        mean_loss(assembly, stepped, batch, one).backward()
        encoder = {name: value for name, value in stepped.named_parameters() if not name.startswith("heads.")}
        first = [value.grad.flatten() for name, value in encoder.items() if ".layer.0." in name or ".layers.0." in name]
        gradients[one] = torch.cat(first) if first else torch.zeros(1)
        with torch.no_grad():
            for value in encoder.values():
                if value.grad is not None:
                    value -= RATE * value.grad
            for j, other in enumerate(assembly.tasks):
                explicit[i, j] = 1 - float(
                    mean_loss(assembly, stepped, ahead, other) / mean_loss(assembly, model.eval(), ahead, other)
                )
    found = affinity(measured.before[None], measured.after[None])[0]
    assert found == pytest.approx(explicit, abs=1e-6)
    assert np.abs(found).max() > 1e-4
    products = probing.products()[0, :, 0, :, 0]
    stacked = torch.stack(list(gradients.values())).double()
    assert products == pytest.approx((stacked @ stacked.T).numpy(), rel=1e-4)


def test_layer_states_are_means_over_tokens_in_the_order_of_the_texts(assembly: Assembly) -> None:
    model, batch = assembly.model, draw(assembly, 4, "topic")
    states = layer_states(model, batch)
    assert states.shape == (2, batch.rows, 32)
    model.eval()
    with torch.inference_mode():
        pooled = model.pooled(batch)["topic"].double().numpy()
    assert states[-1] == pytest.approx(pooled[np.argsort(batch.order)], abs=1e-6)


def test_heads_first_lowers_every_loss_and_moves_no_encoder(assembly: Assembly) -> None:
    model, batch = assembly.model, draw(assembly, 16)
    weights = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("heads.")}
    model.eval()
    with torch.no_grad():
        before = {task: float(mean_loss(assembly, model, batch, task)) for task in assembly.tasks}
        stored = [HeadInputs(model.pooled(batch), batch.targets)]
    fit_heads(model, assembly.tasks, stored)
    with torch.no_grad():
        after = {task: float(mean_loss(assembly, model, batch, task)) for task in assembly.tasks}
    assert all(after[task] < before[task] for task in before)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in weights.items())


@pytest.mark.parametrize(
    ("passes", "tasks", "batch_size"), [(28800, 4, 32), (2000, 3, 8), (90000, 8, 64), (900, 2, 16)]
)
def test_spending_stays_within_a_quarter(passes: int, tasks: int, batch_size: int) -> None:
    found = plan_budget(joint_passes=passes, tasks=tasks, batch_size=batch_size, most_rows=10**6, numbers=1000)
    spent = (
        found.head_rows * tasks
        + found.updates * (found.points - 1) * BOTH_WAYS * batch_size
        + found.points * tasks * (found.point_rows * BOTH_WAYS + found.ahead_rows * (1 + tasks))
    )
    assert 0.75 * GREATEST_SHARE * passes < spent <= GREATEST_SHARE * passes


def test_many_parameters_leave_fewer_points_and_too_short_a_run_is_refused() -> None:
    assert plan_budget(joint_passes=28800, tasks=4, batch_size=32, most_rows=100, numbers=2**27).points == 2
    with pytest.raises(ConfigError, match="a joint run of 30 row passes is too short"):
        plan_budget(joint_passes=30, tasks=4, batch_size=8, most_rows=100, numbers=10)
