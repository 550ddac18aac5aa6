"""Verdicts from the intervals: whether to share, for each task, and which arm to use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from polytask.arm_tables import score_text
from polytask.comparison.arms import BASELINE
from polytask.comparison.statistics import Difference
from polytask.tasks.arrays import rounded
from polytask.tasks.metric import smaller_is_better

VerdictName: TypeAlias = Literal["share", "share_partly", "keep_apart", "cannot_tell"]
TEST_ROWS, TRAINING_ROWS = "test rows", "training rows"
# Suggested numbers of seeds above this are unrealistic.
_MOST_SEEDS = 200


@dataclass(frozen=True)
class Needed:
    """Number of test rows, or of seeds, that would decide, all else being equal; None if out of reach."""

    rows: int | None
    seeds: int | None


@dataclass(frozen=True)
class Verdict:
    """The verdict for one task.

    Attributes:
        word: share: the arm that shares most loses no more than the floor; share_partly: another arm that shares does;
            keep_apart: every arm that shares is significantly below the single model; cannot_tell: none of
            these, or no arm has learned the task.
        sentence: the same as a sentence.
        needed: what would decide, for cannot_tell.
    """

    word: VerdictName
    sentence: str
    needed: Needed | None = None


@dataclass(frozen=True)
class VerdictInputs:
    """Inputs of a task's verdict.

    Attributes:
        differences: difference to the single model of each arm that shares, the one that shares most first.
        floor: allowed loss of the task, in the unit of its metric.
        rows, seeds: number of test rows and of seeds.
        fewer_seeds: number of seeds of the arms that were trained with fewer.
        reached: best mean score of any arm; None if undefined.
        majority: score of the majority baseline; None if undefined or unknown.
        of_rows: what the rows are called in messages.
    """

    task: str
    metric: str
    differences: Mapping[str, Difference]
    floor: float
    rows: int
    seeds: int
    reached: float | None = None
    majority: float | None = None
    fewer_seeds: Mapping[str, int] = field(default_factory=dict[str, int])
    of_rows: str = TEST_ROWS

    @property
    def learned(self) -> bool:
        """Whether any arm beats the majority baseline by more than the floor, as far as that is known."""
        if self.reached is None or self.majority is None:
            return True
        gain = self.reached - self.majority
        return (-gain if smaller_is_better(self.metric) else gain) > self.floor


def is_safe(difference: Difference, floor: float) -> bool:
    """Whether an arm loses no more than the floor, with 95 % confidence."""
    return difference.low is not None and (difference.low > -floor or difference.low > 0)


def is_worse(difference: Difference, floor: float = 0.0) -> bool:
    """Whether an arm is significantly more than the floor below the single model."""
    return difference.high is not None and difference.high < -floor


def judge(inputs: VerdictInputs) -> Verdict:
    """Return a task's verdict."""
    arms, task = inputs.differences, inputs.task
    if not inputs.learned:
        best, majority = (
            score_text(inputs.metric, difference or 0.0) for difference in (inputs.reached, inputs.majority)
        )
        return Verdict(
            "cannot_tell",
            f"cannot tell: no arm has learned {task}: the best {inputs.metric} is {best}, that of the majority "
            f"baseline {majority}; train longer (train.epochs, train.learning_rate) or with more rows, then compare",
            Needed(None, None),
        )
    safe = [arm for arm, difference in arms.items() if is_safe(difference, inputs.floor)]
    most = next(iter(arms))
    if safe and safe[0] == most:
        return Verdict("share", f"share: {_safe_words(task, most, inputs)}")
    if safe:
        best = max(safe, key=lambda arm: arms[arm].delta or 0.0)
        return Verdict(
            "share_partly",
            f"share partly: {_safe_words(task, best, inputs)}; with {most}, which shares most, "
            f"it differs by {_span(arms[most])}",
        )
    if all(is_worse(difference) for difference in arms.values()):
        best = max(arms, key=lambda arm: arms[arm].delta or 0.0)
        arms_text = f"with {most}" if len(arms) == 1 else f"with every arm that shares (the best: {best})"
        return Verdict(
            "keep_apart",
            f"keep apart: {arms_text}, {task} differs from its own model by {_span(arms[best])} of {inputs.metric}",
        )
    return _cannot_tell(inputs)


def points(value: float) -> str:
    """Format a difference in points, hundredths of the metric's unit, rounded in the same way as in a record.

    >>> points(0.0125000001), points(0.0125)
    ('+1.2', '+1.2')
    """
    return f"{100 * rounded(value):+z.1f}"


def _span(difference: Difference) -> str:
    if difference.delta is None or difference.low is None or difference.high is None:
        return "undefined"
    return f"{points(difference.delta)} points [{points(difference.low)}, {points(difference.high)}]"


def _safe_words(task: str, arm: str, inputs: VerdictInputs) -> str:
    difference = inputs.differences[arm]
    if difference.low is not None and difference.low > 0:
        return f"{task} gains with {arm}: {_span(difference)} of {inputs.metric}"
    return (
        f"with {arm}, {task} differs from its own model by {_span(difference)} of {inputs.metric}, "
        f"so it loses no more than {100 * inputs.floor:g} points"
    )


def _cannot_tell(inputs: VerdictInputs) -> Verdict:
    defined = {arm: difference for arm, difference in inputs.differences.items() if difference.low is not None}
    if not defined:
        mend = f"choose another tasks.{inputs.task}.metric"
        sentence = f"cannot tell: {inputs.metric} of {inputs.task} is undefined; {mend}"
        return Verdict("cannot_tell", sentence, Needed(None, None))
    arm = min(defined, key=lambda name: _times(defined[name], inputs.floor))
    difference = defined[arm]
    inputs = replace(inputs, seeds=inputs.fewer_seeds.get(arm, inputs.seeds))
    needed = needed_for(difference, inputs.floor, inputs.rows, inputs.seeds)
    return Verdict(
        "cannot_tell",
        f"cannot tell: with {arm}, {inputs.task} differs from its own model by {_span(difference)} of {inputs.metric}; "
        f"{_needed_words(needed, inputs)}",
        needed,
    )


def _needed_words(needed: Needed, inputs: VerdictInputs) -> str:
    kinds = ((needed.rows, inputs.of_rows, inputs.rows), (needed.seeds, "seeds", inputs.seeds))
    options = [f"{count:,} {unit} in total (now {now:,})" for count, unit, now in kinds if count is not None]
    beyond = [f"more {unit} alone" for count, unit, _ in kinds if count is None]
    if not options:
        return f"neither more {inputs.of_rows} nor more seeds alone would settle it"
    rest = f"; {beyond[0]} would not" if beyond else ""
    folds = "; --folds 5 compares on all training rows" if needed.rows and inputs.of_rows == TEST_ROWS else ""
    return f"about {' or '.join(options)} would settle it if the difference stays the same{rest}{folds}"


def _aim(difference: Difference, floor: float) -> float:
    """Return the half width that would decide: the interval excludes the floor, or zero if delta is below the floor."""
    assert difference.delta is not None
    return difference.delta + floor if difference.delta > -floor else -difference.delta


def _half(difference: Difference) -> float:
    assert difference.low is not None
    assert difference.high is not None
    return (difference.high - difference.low) / 2


def _times(difference: Difference, floor: float) -> float:
    """Return by which factor an interval is too wide."""
    aim = _aim(difference, floor)
    return _half(difference) / aim if aim > 0 else math.inf


def needed_for(difference: Difference, floor: float, rows: int, seeds: int) -> Needed:
    """Return the number of test rows, or of seeds, that would make an interval narrow enough.

    The variance is a / rows + b / seeds; the half width is proportional to its square root.
    """
    variance, half, aim = difference.from_rows + difference.from_seeds, _half(difference), _aim(difference, floor)
    if aim <= 0 or half <= 0 or variance <= 0:
        return Needed(None, None)
    wanted = variance * (aim / half) ** 2
    needed: list[int | None] = []
    for part, other, now in (
        (difference.from_rows, difference.from_seeds, rows),
        (difference.from_seeds, difference.from_rows, seeds),
    ):
        available = wanted - other
        needed.append(max(now + 1, math.ceil(now * part / available - 1e-9)) if available > 0 and part > 0 else None)
    most_rows, most_seeds = needed
    return Needed(most_rows, most_seeds if most_seeds is not None and most_seeds <= _MOST_SEEDS else None)


@dataclass(frozen=True)
class SharingArm:
    """An arm that shares, as a candidate for the recommendation.

    Attributes:
        differences: difference to the single model by task.
        floors: allowed loss of each task.
        overall: mean relative difference with its interval; None if that of a task is undefined.
        parameters: number of parameters of its model.
    """

    name: str
    differences: Mapping[str, Difference]
    floors: Mapping[str, float]
    overall: tuple[float, float, float] | None
    parameters: int

    @property
    def failing(self) -> list[str]:
        """The tasks that are significantly more than the floor below their single models."""
        return [task for task, one in self.differences.items() if is_worse(one, self.floors[task])]

    @property
    def mean(self) -> float:
        """Mean relative difference; an undefined one counts as worst."""
        return -math.inf if self.overall is None else self.overall[0]


def recommend(candidates: Sequence[SharingArm], single_parameters: int, floor: float) -> tuple[str, str]:
    """Return the recommended arm, and the reason.

    Args:
        candidates: arms that share.
        single_parameters: number of parameters of all single models together.
        floor: points that a task may lose.
    """
    passing = [arm for arm in candidates if not arm.failing]
    if not passing:
        reason = "; ".join(f"{arm.name}: {', '.join(arm.failing)}" for arm in candidates)
        lost = f"a task is significantly more than {floor:g} points below its own model"
        return BASELINE, f"separate models: with every arm that shares, {lost} ({reason})"
    best = max(passing, key=lambda arm: arm.mean)
    start = f"{best.name}: no task is significantly more than {floor:g} points below its own model"
    size = f"it has {best.parameters:,} parameters instead of {single_parameters:,}"
    if best.overall is None:
        reason = "the score of a single model is 0 or undefined, so there is no mean relative difference"
        return best.name, f"{start}; {reason}; {size}"
    mean, low, high = (f"{100 * value:+z.1f} %" for value in best.overall)
    shown = f"{mean} [{low}, {high}]"
    if best.overall[1] > 0:
        return best.name, f"{start}, and it gains {shown} on average over tasks; {size}"
    if best.overall[2] < 0:
        return best.name, f"{start}, but it loses {shown} on average over tasks; its advantage: {size}"
    return (
        best.name,
        f"{start}; its mean relative difference, {shown}, is not significant; its advantage is its size: {size}",
    )
