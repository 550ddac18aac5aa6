"""What every balancer promises, over all rows of BALANCERS."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from methods import (
    AGGREGATORS,
    DRAWING,
    METHODS,
    TASKS,
    WEIGHTINGS,
    Method,
    StepGradients,
    alike,
    random_step,
    update,
    weigh,
)
from pydantic import ValidationError

from polytask import testing
from polytask.balance import BALANCERS
from polytask.balance.balancer import Weighting

every_method = pytest.mark.parametrize("method", METHODS, ids=str)
every_weighting = pytest.mark.parametrize("method", WEIGHTINGS, ids=str)
every_aggregator = pytest.mark.parametrize("method", AGGREGATORS, ids=str)
WRONG: dict[str, dict[str, Any]] = {
    "equal_norms": {"decay": 1, "priority": -1},
    "uncertainty": {"rate": 0},
    "imtl_l": {"rate": -1},
    "dwa": {"temperature": 0, "window": 0},
    "famo": {"rate": 0, "decay": -1},
    "stch": {"mu": 0},
    "cosmos": {"reward": -1},
    "pbi": {"penalty": -1},
    "gradnorm": {"alpha": -1, "rate": 0},
    "gradvac": {"beta": 2},
    "cagrad": {"c": -0.1},
    "aligned_mtl": {"length": "max"},
    "fairgrad": {"alpha": 0},
    "pcd": {"primary": 3, "tau": 1.5, "beta": 1},
    "krum": {"outliers": -1, "selected": 0},
    "trimmed_mean": {"trim": 0},
}


def ones(step: StepGradients) -> dict[str, float]:
    return dict.fromkeys(step.tasks, 1.0)


def test_every_method_and_every_option_is_covered() -> None:
    assert len(BALANCERS) == 29
    assert {method.name for method in METHODS} == set(BALANCERS) - {"auto"}
    for name, kind in BALANCERS.items():
        options = {option for option in kind.model_fields if option != "method"}
        assert options - {"measure", "every", "gradient_precision"} == set(WRONG.get(name, {})), name
        assert ({"measure", "every"} <= options) == (kind.shape == "gram"), name
        assert ("gradient_precision" in options) == (kind.shape in ("gram", "gradients")), name


@every_method
def test_unknown_keys_and_wrong_values_are_refused(method: Method) -> None:
    wrong = {**WRONG.get(method.name, {}), "methods": "sum", "method": "other"}
    if method.kind.shape == "gram":
        wrong |= {"measure": "some", "every": 0}
    for option, value in wrong.items():
        with pytest.raises(ValidationError, match=option):
            method.kind.model_validate({"method": method.name, option: value})


@every_method
def test_every_method_names_its_source_and_describes_its_options(method: Method) -> None:
    assert re.search(r"\(.*(\d{4}|TorchJD \d.*)", method.kind.__doc__ or "")
    assert all(option.description for name, option in method.kind.model_fields.items() if name != "method")


@every_method
def test_options_that_are_written_read_back_the_same(method: Method) -> None:
    assert method.kind.model_validate(json.loads(method.options.model_dump_json())) == method.options


@every_method
def test_a_resumed_balancer_goes_on_with_the_same_weights(method: Method) -> None:
    testing.require_resumable_balancer(method.build)


@every_method
def test_a_saved_state_does_not_change_with_the_balancer(method: Method) -> None:
    testing.require_state_apart(method.build)


@every_method
def test_random_numbers_come_from_the_seed_and_the_step_alone(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from torch's generator, of which dropout draws: nor does that notice, here or on a GPU."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", pytest.fail)
    runs: list[list[Any]] = []
    for seed, other in ((1, 0), (1, 5), (2, 5)):
        torch.default_generator.manual_seed(other)
        before = torch.get_rng_state()
        balancer = method.build(seed=seed)
        runs.append([update(balancer, random_step(number)).tolist() for number in range(4)])
        assert torch.equal(torch.get_rng_state(), before)
    assert runs[0] == runs[1]
    assert (runs[1] != runs[2]) == (method.name in DRAWING)


@pytest.mark.parametrize("name", sorted(DRAWING))
def test_every_step_draws_anew(name: str) -> None:
    balancer = Method(name).build()
    assert len({tuple(update(balancer, random_step(1))) for _ in range(6)}) > 1


@every_weighting
def test_a_step_that_lacks_a_task_weighs_the_rest_or_nothing(method: Method) -> None:
    step = random_step(2).only(("a", "c", "d"))
    found = weigh(method.build(), step)
    if method.kind.every_task:
        assert found == ones(step)
    else:
        assert found == weigh(method.build(step.tasks), step)
        assert found != ones(step) or method.name == "sum"
    alone = step.only("c")
    assert weigh(method.build(), alone) == {"c": 1.0}
    assert method.build().weigh({}, np.zeros((0, 0))) == {}


@every_aggregator
def test_a_step_that_lacks_a_task_combines_the_rest_or_adds_it_up(method: Method) -> None:
    step = random_step(2).only(("a", "c", "d"))
    added = torch.from_numpy(step.jacobian).sum(0).numpy()
    assert np.array_equal(update(method.build(), step), added) == method.kind.every_task
    np.testing.assert_array_equal(update(method.build(), step.only("a")), step.jacobian[0])


@every_weighting
def test_a_task_without_a_gradient_is_left_alone(method: Method) -> None:
    step = random_step(3)
    step.jacobian[1] = 0.0
    found, rest = weigh(method.build(), step), step.only(("a", "c", "d"))
    if method.kind.shape == "gram":
        assert found["b"] == 1.0
        expected = ones(rest) if method.kind.every_task else weigh(method.build(rest.tasks), rest)
        assert {task: found[task] for task in rest.tasks} == expected
    nothing = replace(step, jacobian=np.zeros_like(step.jacobian))
    if method.kind.shape == "gram":
        assert weigh(method.build(), nothing) == ones(step)


@every_weighting
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_weigh_nothing_and_leave_the_state_alone(method: Method, odd: float) -> None:
    balancer, calm = method.build(), method.build()
    for number in range(2):
        weigh(balancer, random_step(number))
        weigh(calm, random_step(number))
    step = random_step(2)
    step.values[2] = odd
    assert weigh(balancer, step) == ones(step) or method.name == "sum"
    weigh(calm, random_step(2).only(("a",)))
    if method.kind.shape == "gram":
        step = random_step(3)
        for place in ((1, 1), (0, 3)):
            gram = step.gram
            gram[place] = gram[place[::-1]] = odd
            assert balancer.weigh(step.losses, gram) == ones(step)
            calm.weigh({"a": 1.0}, np.ones((1, 1)))
    assert json.dumps(balancer.state_dict()) == json.dumps(calm.state_dict()) or not method.kind.every_task
    assert weigh(balancer, random_step(5)) == weigh(calm, random_step(5))


@every_aggregator
def test_gradients_that_are_not_finite_are_added_up(method: Method) -> None:
    step = random_step(2)
    step.jacobian[1, 3] = np.nan
    np.testing.assert_array_equal(update(method.build(), step), torch.from_numpy(step.jacobian).sum(0).numpy())


@pytest.mark.parametrize("method", [m for m in METHODS if m.name not in DRAWING or m in AGGREGATORS], ids=str)
def test_the_order_of_the_tasks_does_not_matter(method: Method) -> None:
    """Of all methods but those that meet the tasks in a random order; GradDrop draws by element, not by task."""
    for order in (TASKS[::-1], ("c", "a", "d", "b")):
        balancer, other = method.build(), method.build(order)
        for number in range(5):
            step = random_step(number)
            np.testing.assert_allclose(update(other, step.only(order)), update(balancer, step), rtol=1e-6, atol=1e-7)


# Krum chooses among tasks, also among equal ones, and PCD takes one first; random weights know no tasks.
EVEN = [method for method in METHODS if method.name not in {"krum", "pcd", "random"}]


@pytest.mark.parametrize("method", EVEN, ids=str)
def test_equal_tasks_get_equal_weights_and_the_update_keeps_the_length_of_the_sum(method: Method) -> None:
    balancer = method.build()
    # Of the methods with a scale of their own those that leave equal tasks at 1 (but for GradNorm: at first).
    sums = {"sum", "dwa", "cosmos", "pcgrad", "gradvac", "config", "gradnorm", "graddrop", "imtl_l", "equal_norms"}
    factors = {"cagrad": 1.4, "uncertainty": 0.5, "pbi": len(TASKS) ** -0.5}
    for number in range(5):
        step = alike(number)
        if method in WEIGHTINGS:
            found = list(weigh(balancer, step).values())
            assert max(found) - min(found) < 1e-6
        else:
            found = update(balancer, step) / step.jacobian[0] / len(TASKS)
        if number == 0 or method.name not in {"uncertainty", "imtl_l"}:
            assert method.kind.scale != "own" or method.name in sums | set(factors)
            np.testing.assert_allclose(found, factors.get(method.name, 1.0), rtol=1e-6)


@pytest.mark.parametrize("method", [m for m in WEIGHTINGS if m.name in {"krum", "random"}], ids=str)
def test_weights_of_a_mean_add_up_to_the_number_of_tasks(method: Method) -> None:
    balancer = method.build()
    for number in range(5):
        assert sum(weigh(balancer, random_step(number)).values()) == pytest.approx(len(TASKS))


@pytest.mark.parametrize("method", [m for m in WEIGHTINGS if m.kind.shape == "gram"], ids=str)
def test_weights_do_not_depend_on_the_unit_of_the_gradients(method: Method) -> None:
    # GradVac, PCD, and the optimizer of GradNorm add 1e-8 to what they divide by.
    factors = (1e-2, 1e3) if method.name in {"gradvac", "pcd", "gradnorm"} else (1e-6, 1e6)
    for factor in factors:
        balancer, other = method.build(), method.build()
        for number in range(4):
            step = random_step(number)
            expected = weigh(balancer, step)
            found = weigh(other, replace(step, jacobian=factor * step.jacobian))
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-5), factor


@pytest.mark.parametrize("method", [m for m in WEIGHTINGS if m.kind.shape == "losses"], ids=str)
def test_the_tasks_own_weights_come_before_the_method(method: Method) -> None:
    weights = {"a": 0.5, "b": 1.0, "c": 2.0, "d": 7.0}
    balancer, plain = method.build(weights), method.build()
    for number in range(5):
        step = random_step(number)
        heavy = replace(step, values=step.values * np.array(list(weights.values())))
        assert balancer.weigh(step.losses) == plain.weigh(heavy.losses)
        balancer.after({task: loss / 2 for task, loss in step.losses.items()})
        plain.after({task: loss / 2 for task, loss in heavy.losses.items()})


@every_weighting
def test_gradients_that_oppose_or_repeat_each_other_are_weighed_all_the_same(method: Method) -> None:
    one, other = random_step(1).jacobian[:2]
    for rows in (
        [one, -one, other, -other],
        [one, one, -one, -one],
        [one, one, other, other],
        [one, -2 * one, one, other],
    ):
        step = replace(random_step(1), jacobian=np.stack(rows))
        found = np.array(list(weigh(method.build(), step).values()))
        assert np.isfinite(found).all()
        assert np.abs(found).max() < 1e3


@pytest.mark.parametrize("method", [m for m in WEIGHTINGS if m.kind.shape == "gram" and m.name != "krum"], ids=str)
def test_the_rounding_of_float32_does_not_tell_equal_gradients_apart(method: Method) -> None:
    """Krum apart, which takes one of equals."""
    one, two = random_step(1).jacobian[:2]
    step = replace(random_step(1), jacobian=np.stack([one, one, two, one + two]))
    noise = np.random.default_rng(0).uniform(-1e-6, 1e-6, size=(4, 4))
    lengths = np.sqrt(step.gram.diagonal())
    rough = step.gram + (noise + noise.T) * np.outer(lengths, lengths)
    exact, found = method.build().weigh(step.losses, step.gram), method.build().weigh(step.losses, rough)
    updates = [np.array(list(weights.values())) @ step.jacobian for weights in (exact, found)]
    np.testing.assert_allclose(updates[1], updates[0], atol=2e-2 * np.linalg.norm(updates[0]))
    assert max(map(abs, found.values())) < 1e3


@every_weighting
def test_losses_of_nothing_are_weighed_all_the_same(method: Method) -> None:
    balancer = method.build()
    for values in ([0.0, 0.5, 1.0, 2.0], [0.0] * 4, [1e-30, 1e30, 1.0, 1.0]):
        found = weigh(balancer, replace(random_step(1), values=np.array(values)))
        assert np.isfinite(list(found.values())).all()


def test_after_an_update_nothing_is_taken_in_that_was_not_weighed() -> None:
    balancer = Method("famo").build()
    balancer.after(random_step(1).losses)
    weigh(balancer, random_step(1).only(("a", "b")))
    fresh = json.dumps(Method("famo").build().state_dict()["core"])
    assert json.dumps(balancer.state_dict()["core"]) == fresh
    assert {m.name for m in WEIGHTINGS if m.build().wants_after} == {"famo"}
    assert isinstance(Method("famo").options.build(TASKS), Weighting)
