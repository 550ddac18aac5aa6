"""The small optimization problems behind some methods, solved without a solver library.

TorchJD uses quadprog (GPL), ECOS (GPL) and CVXPY, or a search that stops before it converges; for a few tasks each
problem takes a few lines.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize, nnls
from torch import Tensor
from torchjd.linalg import DualConeProjector, PSDMatrix

from polytask.balance.balancer import Floats


class ConeProjector(DualConeProjector):
    """Projects onto the dual cone of the gradients: min v'Gv subject to v >= u, as non-negative least squares.

    Source: Quinton and Rey 2024, "Jacobian Descent for Multi-Objective Optimization", proposition 1.
    """

    def __call__(self, U: Tensor, G: PSDMatrix) -> Tensor:  # noqa: N803 - the parent's names
        gram = G.double().numpy()
        projected = [_project(u, gram) for u in U.double().numpy().reshape(-1, len(gram))]
        return torch.from_numpy(np.stack(projected)).to(G.dtype).view(U.shape)


def _project(least: Floats, gram: Floats) -> Floats:
    norms = np.sqrt(gram.diagonal())
    start = least * norms
    # Unit vectors: the solution does not depend on the gradients' norms, and the numbers stay near 1.
    units = vectors_of(gram) / norms[:, None]
    more, _ = nnls(units.T, -start @ units / start.max(), maxiter=100 * len(gram))
    return least + more * start.max() / norms


def vectors_of(gram: Floats) -> Floats:
    """Return vectors with these inner products in the fewest dimensions, of shape (tasks, dimensions)."""
    norms = np.sqrt(gram.diagonal())
    values, axes = np.linalg.eigh(gram / np.outer(norms, norms))
    needed = values > 1e-12 * values[-1]
    return norms[:, None] * axes[:, needed] * np.sqrt(values[needed])


def shortest_mixture(gram: Floats) -> Floats:
    """Return the weights, which sum to 1, of the convex combination of the gradients with minimum norm.

    Frank-Wolfe needs hundreds of steps to come within a percent of it. It is the direction of the least-squares
    solution x >= 0 of Jx = 0 and 1'x = 1 together, where x need not sum to 1.

    Source: Sener and Koltun 2018, "Multi-Task Learning as Multi-Objective Optimization", equation 3; Lawson and Hanson
    1974, "Solving Least Squares Problems", chapter 23.
    """
    count = len(gram)
    # If several combinations are shortest, as for equal gradients, this regularization chooses the uniform one.
    trace = 1e-4 * np.eye(count)
    rows = np.column_stack([vectors_of(gram / gram.diagonal().min()), trace, np.ones(count)])
    weights, _ = nnls(rows.T, np.r_[np.zeros(rows.shape[1] - 1), 1.0], maxiter=100 * count)
    return weights / weights.sum()


def fair_share(gram: Floats, alpha: float) -> Floats:
    """Return the weights of an alpha-fair update: x > 0 with (G x)^alpha = 1 / x, up to their scale.

    With alpha = 1 this is the Nash bargaining solution. In general it is the minimum of a convex function that contains
    x'Gx / 2, found by damped Newton steps; the search in TorchJD stops too early for small gradients.

    Source: Ban and Ji 2024, "Fair Resource Allocation in Multi-Task Learning", equation 4; Navon et al. 2022,
    "Multi-Task Learning as a Bargaining Game", claim 3.1.
    """
    count, power = len(gram), 1.0 / alpha
    norms = np.sqrt(gram.diagonal())
    # For unit gradients: C y = k y^-power, with y = x times the norms; their scale does not affect the direction.
    # Opposed gradients have only an infinite solution; the regularization makes it finite.
    cosines = gram / np.outer(norms, norms) + 1e-12 * np.eye(count)
    factors = np.exp((power - 1) * (np.log(norms) - np.log(norms).mean()))
    # Steps are limited so that the curvature does not double: every step then decreases the function.
    max_change = 1 - 1.8 ** (-1 / (power + 1))
    y = np.ones(count)
    for _ in range(200):
        wanted = factors * y**-power
        step = np.linalg.solve(cosines + np.diag(power * wanted / y), cosines @ y - wanted)
        change = float(np.abs(step / y).max())
        y = y - step * min(1.0, max_change / change if change else 1.0)
        if change < 1e-9:
            break
    return y / norms


def conflict_averse(gram: Floats, c: float) -> Floats:
    """Return the weights of CAGrad: the mean gradient, moved by up to c times its norm towards the worst task.

    Source: Liu et al. 2021, "Conflict-Averse Gradient Descent for Multi-Task Learning", algorithm 1.
    """
    count = len(gram)
    scaled = gram / gram.diagonal().mean()
    mean = np.full(count, 1.0 / count)
    radius = c * np.sqrt(max(mean @ scaled @ mean, 0.0))
    if not radius:
        return mean

    def value(w: Floats) -> tuple[float, Floats]:
        product = scaled @ w
        length = np.sqrt(max(w @ product, 1e-16))
        return float(product @ mean + radius * length), scaled @ mean + radius * product / length

    simplex = {"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": lambda _: np.ones(count)}
    options = {"ftol": 1e-14, "maxiter": 500}
    weights = minimize(value, mean, jac=True, bounds=[(0.0, 1.0)] * count, constraints=[simplex], options=options).x
    length, parallel = np.sqrt(max(weights @ scaled @ weights, 0.0)), weights @ np.sqrt(scaled.diagonal())
    # If a combination of the gradients vanishes, no direction helps all tasks: TorchJD stops there, as here.
    return mean + radius / length * weights if length > 1e-4 * parallel else np.zeros(count)
