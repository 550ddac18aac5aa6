"""Each method computes what its paper says: by hand where that is short, against TorchJD on explicit gradients else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from methods import TASKS, Method, StepGradients, random_step, update, weigh
from torchjd import aggregation
from torchjd.scalarization import FAMO

from polytask.balance.balancer import Floats
from polytask.balance.solvers import ConeProjector, fair_share, shortest_mixture

PAIRS = [random_step(number, ("a", "b")) for number in range(8)]
SEVERAL = [random_step(number, tuple("abcdefgh"[:count]), size, 0.5) for number, (count, size) in enumerate(
    [(3, 12), (3, 4), (4, 12), (5, 12), (6, 6), (8, 30), (8, 9)]
)]  # fmt: skip
# More gradients than dimensions: they depend on each other, and often no direction helps all tasks.
DEPENDENT = [
    random_step(number, tuple("abcdefgh"[:count]), size)
    for number, (count, size) in enumerate([(3, 2), (5, 2), (8, 3)])
]
SEED = 1


def weights(method: str, step: StepGradients, **values: Any) -> Floats:
    return np.array(list(weigh(Method(method, values).build(step.tasks), step).values()))


def softmax(values: Floats) -> Floats:
    return np.exp(values) / np.exp(values).sum()


def same_numbers(step: int) -> None:
    """Let torch draw what a balancer draws in its step of this number."""
    torch.manual_seed(SEED * 1_000_003 + step)


# Gradients, by hand


def test_pairs_oppose_each_other_and_agree() -> None:
    signs = {bool(step.gram[0, 1] < 0) for step in PAIRS}
    assert signs == {True, False}


@pytest.mark.parametrize("method", ["pcgrad", "upgrad", "dualproj"])
@pytest.mark.parametrize("step", PAIRS)
def test_two_opposed_gradients_are_projected(method: str, step: StepGradients) -> None:
    one, other = step.jacobian

    def projected(gradient: Floats, normal: Floats) -> Floats:
        return gradient - min(gradient @ normal, 0.0) / (normal @ normal) * normal

    if method == "dualproj":
        expected = projected(projected(one + other, one), other)
    else:
        expected = projected(one, other) + projected(other, one)
    np.testing.assert_allclose(weights(method, step) @ step.jacobian, expected, atol=1e-9)


@pytest.mark.parametrize("step", [*SEVERAL, *DEPENDENT], ids=lambda step: f"{step.jacobian.shape}")
@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_projections_fulfil_the_conditions_of_the_optimum(step: StepGradients, spread: float) -> None:
    """v >= u, G v >= 0, and one of both equal for each task; in units of the gradients' lengths."""
    lengths = 10 ** np.random.default_rng(0).uniform(-spread, spread, size=(len(step.tasks), 1))
    step = replace(step, jacobian=lengths * step.jacobian)
    norms = np.sqrt(step.gram.diagonal())
    least = np.eye(len(step.tasks)) / len(step.tasks)
    starts = np.vstack([least, least.sum(0)])
    found = ConeProjector()(torch.from_numpy(starts), torch.from_numpy(step.gram)).numpy()
    for start, weight in zip(starts, found, strict=True):
        unit = np.linalg.norm(start @ step.jacobian)
        slope, more = step.gram @ weight / norms / unit, (weight - start) * norms / unit
        assert min(slope.min(), more.min()) > -1e-6
        assert np.abs(slope * more).max() < 1e-6
    for method, expected in (("upgrad", found[:-1].sum(0)), ("dualproj", found[-1])):
        step_weights = weights(method, step)
        np.testing.assert_allclose(step_weights, len(step.tasks) * expected, rtol=1e-9)
        assert (step.gram @ step_weights / norms / np.linalg.norm(step_weights @ step.jacobian)).min() > -1e-6 or (
            np.linalg.norm(step_weights @ step.jacobian) < 1e-6 * norms.max()
        )


@pytest.mark.parametrize("step", PAIRS)
def test_the_shortest_mixture_of_two_gradients(step: StepGradients) -> None:
    (first, product), (_, second) = step.gram
    share = np.clip((second - product) / (first + second - 2 * product), 0.0, 1.0)
    np.testing.assert_allclose(weights("mgda", step), [2 * share, 2 - 2 * share], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("step", [*SEVERAL, *DEPENDENT], ids=lambda step: f"{step.jacobian.shape}")
def test_the_shortest_mixture_of_several_gradients_fulfils_the_conditions_of_the_optimum(step: StepGradients) -> None:
    """It is a mixture, and no gradient has a shorter projection on it than itself."""
    found = shortest_mixture(step.gram)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1.0)
    assert (step.gram @ found).min() >= found @ step.gram @ found - 1e-6 * step.gram.diagonal().min()
    np.testing.assert_allclose(weights("mgda", step), len(found) * found, rtol=1e-5)
    # Frank-Wolfe steps go to the same point.
    rounds = aggregation.MGDAWeighting(epsilon=1e-9, max_iters=1000)(torch.from_numpy(step.gram)).numpy()
    assert 0 <= rounds @ step.gram @ rounds - found @ step.gram @ found + 1e-9 < 0.02 * step.gram.diagonal().min()


@pytest.mark.parametrize("step", SEVERAL, ids=lambda step: f"{step.jacobian.shape}")
def test_nash_and_fair_weights_solve_their_equation(step: StepGradients) -> None:
    for alpha, name in ((1.0, "nash_mtl"), (1.0, "fairgrad"), (0.5, "fairgrad"), (2.0, "fairgrad"), (4.0, "fairgrad")):
        solved = fair_share(step.gram, alpha)
        # Up to its scale, G x = x^(-1/alpha); of the Nash solution, G a = 1 / a.
        products = step.gram @ solved * solved ** (1 / alpha)
        np.testing.assert_allclose(products, products[0], rtol=1e-8)
        values = {} if name == "nash_mtl" else {"alpha": alpha}
        found = weights(name, step, **values)
        np.testing.assert_allclose(found, solved * len(solved) / solved.sum(), rtol=1e-12)
        assert found.min() > 0


@pytest.mark.parametrize("step", [step for step in SEVERAL if len(step.tasks) <= 5] + PAIRS[:3])
def test_an_update_with_equal_projections_on_unit_gradients(step: StepGradients) -> None:
    found = weights("imtl_g", step)
    projections = step.gram @ found / np.sqrt(step.gram.diagonal())
    np.testing.assert_allclose(projections, projections[0], rtol=1e-7)
    assert found.sum() == pytest.approx(len(found))


@pytest.mark.parametrize("step", [step for step in SEVERAL if len(step.tasks) <= 6] + PAIRS[:3])
def test_an_update_at_equal_angles_to_all_gradients(step: StepGradients) -> None:
    found = weights("config", step) @ step.jacobian
    cosines = step.jacobian @ found / np.sqrt(step.gram.diagonal()) / np.linalg.norm(found)
    np.testing.assert_allclose(cosines, cosines[0], rtol=1e-6)
    # As long as the gradients' projections on it together.
    assert np.linalg.norm(found) == pytest.approx((cosines * np.sqrt(step.gram.diagonal())).sum())


@pytest.mark.parametrize(
    "step", [step for step in SEVERAL if len(step.tasks) <= 4] + PAIRS, ids=lambda step: f"{step.jacobian.shape}"
)
@pytest.mark.parametrize("c", [0.1, 0.4, 0.9])
def test_a_conflict_averse_update_is_the_best_of_its_ball_for_the_worst_off(step: StepGradients, c: float) -> None:
    count = len(step.tasks)
    mean = step.jacobian.mean(0)
    found = weights("cagrad", step, c=c) @ step.jacobian / count
    radius = c * np.linalg.norm(mean)
    assert np.linalg.norm(found - mean) == pytest.approx(radius)
    # Every mixture bounds what the worst-off task can gain (strong duality): none may lie below what it does gain.
    drawn = np.random.default_rng(0)
    mixtures = np.vstack([np.eye(count), *(drawn.dirichlet(np.full(count, a), 3000) for a in (0.2, 1.0, 5.0))])
    if count == 2:
        mixtures = np.column_stack([grid := np.linspace(0, 1, 3001), 1 - grid])
    points = mixtures @ step.jacobian
    bounds = points @ mean + radius * np.linalg.norm(points, axis=1)
    gain = (step.jacobian @ found).min()
    assert gain <= bounds.min() + 1e-9
    assert gain == pytest.approx(bounds.min(), abs=2e-3 * step.gram.diagonal().max())
    chosen = (weights("cagrad", step, c=c) - 1) / count
    mixture = chosen / chosen.sum() @ step.jacobian
    assert gain == pytest.approx(mixture @ mean + radius * np.linalg.norm(mixture), rel=1e-6)


def test_a_conflict_averse_update_that_may_not_move_is_the_mean() -> None:
    opposed = random_step(1)
    opposed = replace(opposed, jacobian=np.stack([opposed.jacobian[0] * sign for sign in (1, -1, 1, -1)]))
    for step in (*PAIRS, *SEVERAL, opposed):
        np.testing.assert_array_equal(weights("cagrad", step, c=0.0), np.ones(len(step.tasks)))
    # Where a mixture vanishes, no update of any length helps all tasks.
    uneven = replace(opposed, jacobian=opposed.jacobian * np.array([[2], [1], [1], [1]]))
    assert not weights("cagrad", uneven, c=1.5).any()
    # A short gradient is no such mixture.
    short = replace(random_step(1), jacobian=random_step(1).jacobian * np.array([[1e-6], [1], [1], [1]]))
    assert weights("cagrad", short, c=0.5).any()


# Gradients, against TorchJD

TWINS: dict[str, tuple[Method, Callable[[], aggregation.Aggregator], bool]] = {
    "pcgrad": (Method("pcgrad"), aggregation.PCGrad, False),
    "gradvac": (Method("gradvac", {"beta": 0.3}), lambda: aggregation.GradVac(0.3), False),
    "config": (Method("config"), aggregation.ConFIG, False),
    "pcd": (Method("pcd", {"tau": 0.3, "beta": 0.7}), lambda: aggregation.PCD(0.3, 0.7), False),
    "imtl_g": (Method("imtl_g"), aggregation.IMTLG, True),
    "aligned min": (Method("aligned_mtl"), aggregation.AlignedMTL, True),
    "aligned median": (
        Method("aligned_mtl", {"length": "median"}), lambda: aggregation.AlignedMTL(None, "median"), True
    ),
    "aligned rmse": (Method("aligned_mtl", {"length": "rmse"}), lambda: aggregation.AlignedMTL(None, "rmse"), True),
    "krum": (Method("krum"), lambda: aggregation.Krum(0, 1), True),
    "multi-krum": (Method("krum", {"outliers": 1, "selected": 2}), lambda: aggregation.Krum(1, 2), True),
    "graddrop": (Method("graddrop"), aggregation.GradDrop, False),
    "trimmed_mean": (Method("trimmed_mean"), lambda: aggregation.TrimmedMean(1), True),
}  # fmt: skip


@pytest.mark.parametrize("name", TWINS)
def test_updates_are_torchjds_on_the_explicit_gradients(name: str) -> None:
    method, make, mean = TWINS[name]
    balancer, aggregator = method.build(seed=SEED), make()
    for number in range(1, 4):
        step = random_step(number, common=0.3)
        found = update(balancer, step)
        with torch.random.fork_rng(devices=[]):
            same_numbers(number)
            expected = aggregator(torch.from_numpy(step.jacobian)).numpy()
        np.testing.assert_allclose(found, expected * (len(TASKS) if mean else 1), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 4.0])
def test_fair_updates_point_where_torchjds_do(alpha: float) -> None:
    for number in range(3):
        step = random_step(number)
        expected = aggregation.FairGrad(alpha)(torch.from_numpy(step.jacobian)).numpy()
        found = weights("fairgrad", step, alpha=alpha) @ step.jacobian
        np.testing.assert_allclose(
            found / np.linalg.norm(found), expected / np.linalg.norm(expected), rtol=1e-5, atol=1e-6
        )


def test_the_named_primary_task_comes_first() -> None:
    step = random_step(4)
    order = ("c", "a", "b", "d")
    expected = aggregation.PCD()(torch.from_numpy(step.only(order).jacobian)).numpy()
    np.testing.assert_allclose(update(Method("pcd", {"primary": "c"}).build(), step), expected, rtol=1e-6, atol=1e-9)
    assert not np.allclose(update(Method("pcd").build(), step), expected, atol=1e-2)


def test_gradnorm_follows_its_algorithm_for_two_steps() -> None:
    alpha, rate, eps = 0.5, 0.1, 1e-8
    balancer = Method("gradnorm", {"alpha": alpha, "rate": rate}).build()
    weight = np.ones(len(TASKS))
    first = random_step(0).values
    one, two = np.zeros((2, len(TASKS)))  # Adam's moments
    for number in range(1, 4):
        step = random_step(number - 1)
        np.testing.assert_allclose(list(weigh(balancer, step).values()), weight, rtol=1e-6)
        lengths = np.linalg.norm(weight[:, None] * step.jacobian, axis=1)
        ratio = step.values / first
        target = lengths.mean() * (ratio / ratio.mean()) ** alpha
        # d |w n - target| / dw, with the target held fixed.
        slope = np.linalg.norm(step.jacobian, axis=1) * np.sign(lengths - target)
        one, two = 0.9 * one + 0.1 * slope, 0.999 * two + 0.001 * slope**2
        weight = weight - rate * (one / (1 - 0.9**number)) / (np.sqrt(two / (1 - 0.999**number)) + eps)
        weight = weight * len(TASKS) / weight.sum()
    assert np.ptp(weight) > 0.1


# Losses


def test_dynamic_weight_average_compares_the_two_windows_before() -> None:
    window, temperature = 3, 0.5
    balancer = Method("dwa", {"window": window, "temperature": temperature}).build()
    steps = [random_step(number) for number in range(4 * window)]
    for number, step in enumerate(steps):
        before = number // window * window
        expected = np.ones(len(TASKS))
        if before >= 2 * window:
            newer, older = (
                np.mean([one.values for one in steps[before - back * window : before - (back - 1) * window]], axis=0)
                for back in (1, 2)
            )
            expected = len(TASKS) * softmax(newer / older / temperature)
        np.testing.assert_allclose(list(weigh(balancer, step).values()), expected)


def test_weights_as_rows_add_up_to_the_number_of_tasks_that_have_some() -> None:
    balancer = Method("rows").build({"a": 2.0, "b": 1.0, "c": 1.0})
    losses = {"a": 0.3, "b": 5.0, "c": 1.0}
    assert balancer.weigh(losses, rows={"a": 8, "b": 16, "c": 24}) == pytest.approx({"a": 0.5, "b": 1.0, "c": 1.5})
    assert balancer.weigh({"b": 5.0, "c": 1.0}, rows={"b": 30, "c": 10}) == pytest.approx({"b": 1.5, "c": 0.5})


@pytest.mark.parametrize(("method", "weight", "sign"), [("uncertainty", 0.5, -1.0), ("imtl_l", 1.0, 1.0)])
def test_learned_scales_start_even_and_fall_with_the_loss(method: str, weight: float, sign: float) -> None:
    rate = 0.05
    balancer = Method(method, {"rate": rate}).build()
    step = random_step(1)
    assert list(weigh(balancer, step).values()) == [weight] * len(TASKS)
    # Adam's first step is the rate, against the sign of the derivative: of (L exp(-s) + s) / 2, or of L exp(s) - s.
    scale = -rate * np.sign(sign * (step.values - 1))
    np.testing.assert_allclose(list(weigh(balancer, step).values()), weight * np.exp(sign * scale), rtol=1e-6)
    assert {True, False} == set(step.values > 1)


def test_famo_is_driven_with_the_losses_before_and_after_each_update() -> None:
    balancer = Method("famo", {"rate": 0.1, "decay": 0.01}).build()
    twin = FAMO(len(TASKS), lr=0.1, weight_decay=0.01).double()
    for number in range(5):
        step, later = random_step(number), random_step(number + 50)
        losses = torch.tensor(step.values, requires_grad=True)
        twin(losses).backward()
        assert losses.grad is not None
        found = balancer.weigh(step.losses)
        np.testing.assert_allclose(list(found.values()), len(TASKS) * losses.grad.numpy(), rtol=1e-9)
        assert sum(found.values()) == pytest.approx(len(TASKS))
        balancer.after(later.losses)
        twin.update(torch.tensor(later.values))


BY_HAND: dict[str, tuple[dict[str, float], Callable[[Floats, int], Floats]]] = {
    "stch": ({"mu": 0.3}, lambda losses, count: count * softmax(losses / 0.3)),
    "geometric_mean": ({}, lambda losses, count: np.exp(np.log(losses).mean()) / losses),
    "cosmos": (
        {"reward": 2.0},
        lambda losses, count: (
            1 - 2.0 * (1 - losses.sum() * losses / (losses @ losses)) / np.sqrt(count * (losses @ losses))
        ),
    ),
    "pbi": (
        {"penalty": 0.7},
        lambda losses, count: count**-0.5 + 0.7 * (losses - losses.mean()) / np.linalg.norm(losses - losses.mean()),
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_weights_are_the_derivatives_of_the_scalar(name: str) -> None:
    values, expected = BY_HAND[name]
    for number in range(4):
        step = random_step(number)
        np.testing.assert_allclose(weights(name, step, **values), expected(step.values, len(TASKS)), rtol=1e-6)


def test_random_weights_are_a_softmax_of_normal_numbers() -> None:
    balancer = Method("random").build(seed=SEED)
    for number in range(1, 4):
        with torch.random.fork_rng(devices=[]):
            same_numbers(number)
            expected = len(TASKS) * softmax(torch.randn(len(TASKS), dtype=torch.float64).numpy())
        np.testing.assert_allclose(list(weigh(balancer, random_step(1)).values()), expected)


def test_weighed_gradients_are_equally_long_by_a_running_mean_of_their_squares() -> None:
    balancer = Method("equal_norms", {"decay": 0.5}).build()
    first, second = random_step(1), random_step(2).only(("a", "c", "d"))
    norms = np.array(list(first.norms.values()))
    np.testing.assert_allclose(norms * list(weigh(balancer, first).values()), norms.min())
    found = weigh(balancer, second)
    # Squares with weights 1/4 and 1/2, divided by their sum; what is missing in a step stays as it was.
    means = {task: np.sqrt((first.norms[task] ** 2 / 4 + second.norms[task] ** 2 / 2) / 0.75) for task in second.tasks}
    np.testing.assert_allclose([means[task] * found[task] for task in second.tasks], min(means.values()))


@pytest.mark.parametrize("priority", [0.0, 1.0, 2.0])
def test_a_task_that_errs_more_has_a_longer_gradient(priority: float) -> None:
    balancer = Method("equal_norms", {"decay": 0.0, "priority": priority}).build()
    zero, one = np.zeros(1), np.ones(1)
    errors = {
        # A rare class counts as much as a frequent one; one that was never seen counts nothing.
        "a": (np.array([0.0, 1.0, 0.0]), np.array([99.0, 1.0, 0.0])),
        "b": (0.125 * one, one),
        "c": (one, one),
        "d": (zero, zero),  # no label in this step, nor in one before
    }
    step = random_step(1)
    found = balancer.weigh(step.losses, step.gram, errors=errors)
    lengths = np.array([step.norms[task] * found[task] for task in TASKS])
    np.testing.assert_allclose(lengths / lengths[2], np.array([0.5, 0.125, 1.0, 1.0]) ** priority)
    assert max(found.values()) == 1.0


def test_a_tasks_own_weight_is_the_length_of_its_gradient_beside_the_others() -> None:
    own = {"a": 0.5, "b": 1.0, "c": 2.0, "d": 7.0}
    step = random_step(1)
    heavy = replace(step, jacobian=step.jacobian * np.array(list(own.values()))[:, None])
    found = Method("equal_norms").build(own).weigh(step.losses, heavy.gram)
    lengths = np.array([heavy.norms[task] * found[task] for task in TASKS])
    np.testing.assert_allclose(lengths / lengths[1], list(own.values()))


def test_errors_are_remembered_by_class_and_forgotten_by_examples() -> None:
    balancer = Method("equal_norms", {"decay": 0.0}).build(("a", "b"))
    step, certain = random_step(1, ("a", "b")), (np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    balancer.weigh(step.losses, step.gram, errors={"a": (np.array([2.0, 0.0]), np.array([2.0, 0.0])), "b": certain})
    found = balancer.weigh(step.losses, step.gram, errors={"a": (np.zeros(2), np.array([2.0, 5.0])), "b": certain})
    expected = (0.9**2 + 0.0) / 2  # two examples without an error; the other class begins with what it shows first
    assert found["a"] * step.norms["a"] / (found["b"] * step.norms["b"]) == pytest.approx(expected)


def test_weights_stay_between_two_comparisons() -> None:
    balancer = Method("nash_mtl", {"every": 3}).build()
    assert [balancer.measures_at(step) for step in range(7)] == [True, False, False, True, False, False, True]
    assert balancer.held(("a", "b")) == {"a": 1.0, "b": 1.0}
    found = weigh(balancer, random_step(1).only(("a", "b")))
    balancer.hold(found)
    assert balancer.held(TASKS) == {"c": 1.0, "d": 1.0} | found
    step = random_step(2)
    step.values[0] = np.nan
    balancer.hold(weigh(balancer, step))
    assert balancer.held(("a", "b")) == found
    assert not Method("stch").build().measures_at(0)
