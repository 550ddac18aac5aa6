"""Values of `auto`: training options that depend on the encoder and the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polytask.tasks.objective import RateBound
from polytask.terms import DataWarning
from polytask.training.options import TrainOptions

# The encoder's rate is this divided by its width and the square root of its depth: 3e-4 for MiniLM with 6 layers.
RATE_SCALE = 0.282
# Deeper encoders diverge at such rates: one with 12 layers and 384 features stays at chance at 1e-4 and learns at 5e-5.
# Beyond this depth the rate therefore falls with its square, which gives the usual rates of base and large models.
SHALLOW = 6
LEAST_RATE = 1e-5
# Heads start from random weights whatever the encoder's depth: their rate is relative to that of an encoder with the
# same width and at most SHALLOW layers. docs/recipe.md has the grid of rates that this was chosen from.
HEAD_FACTOR = 25.0
HEAD_CAP = 1e-2
# Rows per update; fewer if a row trains many tasks at once, since an epoch then has few updates of 16 rows. Chosen with
# five seeds on the quickstart's corpus and three on the columns of EWT (docs/recipe.md).
ROWS = 16
ROWS_OF_MANY_LABELS = 8
MANY_LABELS = 2.5


@dataclass(frozen=True)
class ResolvedOption:
    """An option set to `auto`, and the value that polytask chose.

    Attributes:
        option: path of the option in the configuration.
        value: the chosen value.
        reason: a short explanation of the choice.
    """

    option: str
    value: object
    reason: str


def batch_size_for(labels: float) -> int:
    """Return the batch size that `auto` means.

    Args:
        labels: average number of labels of a training row, counting tasks that train shared parameters together.

    >>> batch_size_for(2.0), batch_size_for(2.9)
    (16, 8)
    """
    return ROWS_OF_MANY_LABELS if labels >= MANY_LABELS else ROWS


def resolve_batch_size(options: TrainOptions, labels: float) -> tuple[TrainOptions, tuple[ResolvedOption, ...]]:
    """Return the training options with a number in place of a batch size of `auto`, and the choice made.

    Args:
        labels: as for `batch_size_for`.
    """
    if options.batch_size != "auto":
        return options, ()
    rows = batch_size_for(labels)
    reason = f"a row trains {labels:.1f} tasks together on average" if labels > 1 else "a row trains one task"
    choice = ResolvedOption("train.batch_size", rows, reason)
    return options.model_copy(update={"batch_size": rows}), (choice,)


def rows_an_update(options: TrainOptions) -> int:
    """Return the rows per update; `auto` has to be resolved before."""
    assert options.batch_size != "auto"
    return options.batch_size


def resolve_rates(
    options: TrainOptions, width: int, layers: int, bounds: Sequence[RateBound | None] = ()
) -> tuple[TrainOptions, tuple[ResolvedOption, ...]]:
    """Return the training options with numbers in place of learning rates of `auto`, and the choices made.

    Args:
        width: hidden size of the encoder.
        layers: number of encoder layers.
        bounds: each task's upper bound of the encoder's rate; they apply only if every task has one.
    """
    choices: list[ResolvedOption] = []
    rate, head_rate = options.learning_rate, options.head_learning_rate
    usual = max(LEAST_RATE, RATE_SCALE / (width * layers**0.5) * min(1.0, (SHALLOW / layers) ** 2))
    if rate == "auto":
        rate, reason = float(f"{usual:.2g}"), f"an encoder of {layers} layers and {width} features"
        least = min((bound for bound in bounds if bound is not None), key=lambda bound: bound.rate, default=None)
        if least is not None and None not in bounds and rate > least.rate:
            rate, reason = least.rate, f"at higher rates the encoder forgets {least.forgets}"
        choices.append(ResolvedOption("train.learning_rate", rate, reason))
    if head_rate == "auto":
        shallow = RATE_SCALE / (width * min(layers, SHALLOW) ** 0.5)
        factor = round(HEAD_FACTOR * max(1.0, shallow / usual))
        head_rate = float(f"{max(rate, min(factor * rate, HEAD_CAP)):.6g}")
        reason = f"{factor} x the encoder's rate, at most {HEAD_CAP:g}"
        choices.append(ResolvedOption("train.head_learning_rate", head_rate, reason))
    return options.model_copy(update={"learning_rate": rate, "head_learning_rate": head_rate}), tuple(choices)


def rate_bound_notes(options: TrainOptions, bounds: Mapping[str, RateBound | None]) -> list[DataWarning]:
    """Return a warning for each task whose bound is below the encoder's rate."""
    rate = options.learning_rate
    assert rate != "auto"
    return [
        DataWarning(
            name,
            f"at train.learning_rate {rate:g} the encoder can forget {bound.forgets}; where that matters, try "
            f"{bound.rate:g}",
        )
        for name, bound in bounds.items()
        if bound is not None and rate > bound.rate
    ]
