"""What `auto` becomes: the options of training and balancing that depend on the encoder and the tasks."""

from __future__ import annotations

from dataclasses import dataclass

from polytask.training.options import TrainOptions

# The encoder's rate is this divided by its width and the square root of its layers: 3e-4 for MiniLM with 6 layers.
RATE_SCALE = 0.282
# Deeper encoders break at such rates: one of 12 layers and 384 features stays at chance at 1e-4 and learns at 5e-5. So
# beyond this depth the rate falls with its square, which leads to the usual rates of base and large models.
SHALLOW = 6
LEAST_RATE = 1e-5
# Heads begin from random weights, on an encoder of any depth: their rate relative to that of an encoder of the same
# width and at most SHALLOW layers. docs/recipe.md has the grid of rates that this was chosen from.
HEAD_FACTOR = 25.0
HEAD_CAP = 1e-2


@dataclass(frozen=True)
class ResolvedOption:
    """One option that was left to polytask.

    Attributes:
        option: its path in the configuration.
        value: what it became.
        reason: half a line.
    """

    option: str
    value: object
    reason: str


def resolve_rates(options: TrainOptions, width: int, layers: int) -> tuple[TrainOptions, tuple[ResolvedOption, ...]]:
    """Return the options of training with numbers in place of `auto`, and what they became.

    Args:
        width: features of a token's state in the encoder.
        layers: of the encoder.
    """
    choices: list[ResolvedOption] = []
    rate, head_rate = options.learning_rate, options.head_learning_rate
    usual = max(LEAST_RATE, RATE_SCALE / (width * layers**0.5) * min(1.0, (SHALLOW / layers) ** 2))
    if rate == "auto":
        rate = float(f"{usual:.2g}")
        choices.append(
            ResolvedOption("train.learning_rate", rate, f"an encoder of {layers} layers and {width} features")
        )
    if head_rate == "auto":
        shallow = RATE_SCALE / (width * min(layers, SHALLOW) ** 0.5)
        factor = round(HEAD_FACTOR * max(1.0, shallow / usual))
        head_rate = float(f"{max(rate, min(factor * rate, HEAD_CAP)):.6g}")
        reason = f"{factor} x the encoder's rate, at most {HEAD_CAP:g}"
        choices.append(ResolvedOption("train.head_learning_rate", head_rate, reason))
    return options.model_copy(update={"learning_rate": rate, "head_learning_rate": head_rate}), tuple(choices)
