"""What `auto` becomes: the options of training and balancing that depend on the encoder and the tasks."""

from __future__ import annotations

from dataclasses import dataclass

from polytask.training.options import TrainOptions

# ELECTRA's rates (Clark et al. 2020, table 6) follow 1 / width: 3e-4 at 256 features, 1e-4 at 768.
RATE_TIMES_WIDTH = 0.0768
# Heads begin from random weights; beyond the cap they are no better with a small encoder, and worse with few rows.
HEAD_FACTOR = 10.0
HEAD_CAP = 5e-3


@dataclass(frozen=True)
class Choice:
    """One option that was left to polytask.

    Attributes:
        option: its path in the configuration.
        value: what it became.
        reason: half a line.
    """

    option: str
    value: object
    reason: str


def resolve_rates(options: TrainOptions, width: int) -> tuple[TrainOptions, tuple[Choice, ...]]:
    """Return the options of training with numbers in place of `auto`, and what they became.

    Args:
        width: features of a token's state in the encoder.
    """
    choices: list[Choice] = []
    rate, head_rate = options.learning_rate, options.head_learning_rate
    if rate == "auto":
        rate = float(f"{RATE_TIMES_WIDTH / width:.2g}")
        choices.append(Choice("train.learning_rate", rate, f"{RATE_TIMES_WIDTH} / {width} features of the encoder"))
    if head_rate == "auto":
        head_rate = float(f"{max(rate, min(HEAD_FACTOR * rate, HEAD_CAP)):.6g}")
        reason = f"{HEAD_FACTOR:g} x the encoder's rate, at most {HEAD_CAP:g} where that is not below it"
        choices.append(Choice("train.head_learning_rate", head_rate, reason))
    return options.model_copy(update={"learning_rate": rate, "head_learning_rate": head_rate}), tuple(choices)
