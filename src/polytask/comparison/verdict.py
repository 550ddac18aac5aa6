"""What the intervals say in words: whether to share, for each task, and which arm to take."""

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
# More seeds than this nobody trains.
_MOST_SEEDS = 200


@dataclass(frozen=True)
class Needed:
    """What would tell, the one or the other, everything else staying as it is; None where it is out of reach."""

    rows: int | None
    seeds: int | None


@dataclass(frozen=True)
class Verdict:
    """The answer for one task.

    Attributes:
        word: share: the arm that shares most costs no more than the floor; share_partly: another one that shares does;
            keep_apart: every arm that shares is below the single model beyond noise; cannot_tell: none of
            these, or no arm has learned the task.
        sentence: the same for a person.
        needed: for cannot_tell.
    """

    word: VerdictName
    sentence: str
    needed: Needed | None = None


@dataclass(frozen=True)
class VerdictInputs:
    """What a task's verdict rests on.

    Attributes:
        differences: to the single model, by arm that shares, the one that shares most first.
        floor: what a task may lose, in the unit of its metric.
        rows, seeds: of the test.
        fewer_seeds: of the arms that were trained with fewer.
        reached: the best mean score of any arm; None where it is undefined.
        majority: what the majority baseline scores; None where it is undefined or not known.
        of_rows: what the rows are called.
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
        """Whether any arm is more than the floor better than the majority baseline, as far as that is known."""
        if self.reached is None or self.majority is None:
            return True
        gain = self.reached - self.majority
        return (-gain if smaller_is_better(self.metric) else gain) > self.floor


def is_safe(difference: Difference, floor: float) -> bool:
    """Whether an arm costs no more than the floor, with 95 % confidence, or gains."""
    return difference.low is not None and (difference.low > -floor or difference.low > 0)


def is_worse(difference: Difference, floor: float = 0.0) -> bool:
    """Whether an arm is more than the floor below the single model, beyond noise."""
    return difference.high is not None and difference.high < -floor


def judge(inputs: VerdictInputs) -> Verdict:
    """Return a task's verdict."""
    arms, task = inputs.differences, inputs.task
    if not inputs.learned:
        best, majority = (score_text(inputs.metric, one or 0.0) for one in (inputs.reached, inputs.majority))
        return Verdict(
            "cannot_tell",
            f"cannot tell: no arm has learned {task}: the best {inputs.metric} is {best}, and the majority baseline's "
            f"{majority}; train longer (train.epochs, train.learning_rate) or with more rows, then compare",
            Needed(None, None),
        )
    safe = [arm for arm, one in arms.items() if is_safe(one, inputs.floor)]
    most = next(iter(arms))
    if safe and safe[0] == most:
        return Verdict("share", f"share: {_told(task, most, inputs)}")
    if safe:
        best = max(safe, key=lambda arm: arms[arm].delta or 0.0)
        return Verdict(
            "share_partly",
            f"share partly: {_told(task, best, inputs)}; with {most}, which shares most, it is {_span(arms[most])}",
        )
    if all(is_worse(one) for one in arms.values()):
        best = max(arms, key=lambda arm: arms[arm].delta or 0.0)
        which = f"with {most}" if len(arms) == 1 else f"with every arm that shares, the best of them {best}"
        return Verdict(
            "keep_apart", f"keep apart: {which}, {task} is {_span(arms[best])} of {inputs.metric} from its own model"
        )
    return _cannot_tell(inputs)


def points(value: float) -> str:
    """Write a difference in points: hundredths of the metric's unit. Rounded as a record has it, so both say the same.

    >>> points(0.0125000001), points(0.0125)
    ('+1.2', '+1.2')
    """
    return f"{100 * rounded(value):+z.1f}"


def _span(difference: Difference) -> str:
    if difference.delta is None or difference.low is None or difference.high is None:
        return "undefined"
    return f"{points(difference.delta)} points [{points(difference.low)}, {points(difference.high)}]"


def _told(task: str, arm: str, inputs: VerdictInputs) -> str:
    one = inputs.differences[arm]
    if one.low is not None and one.low > 0:
        return f"{task} gains with {arm}: {_span(one)} of {inputs.metric}"
    return (
        f"with {arm}, {task} is {_span(one)} of {inputs.metric} from its own model, "
        f"so it loses no more than {100 * inputs.floor:g} points"
    )


def _cannot_tell(inputs: VerdictInputs) -> Verdict:
    defined = {arm: one for arm, one in inputs.differences.items() if one.low is not None}
    if not defined:
        mend = f"choose another tasks.{inputs.task}.metric"
        sentence = f"cannot tell: {inputs.metric} of {inputs.task} is undefined; {mend}"
        return Verdict("cannot_tell", sentence, Needed(None, None))
    arm = min(defined, key=lambda name: _times(defined[name], inputs.floor))
    one = defined[arm]
    inputs = replace(inputs, seeds=inputs.fewer_seeds.get(arm, inputs.seeds))
    needed = needed_for(one, inputs.floor, inputs.rows, inputs.seeds)
    return Verdict(
        "cannot_tell",
        f"cannot tell: with {arm}, {inputs.task} is {_span(one)} of {inputs.metric} from its own model; "
        f"{_needed_words(needed, inputs)}",
        needed,
    )


def _needed_words(needed: Needed, inputs: VerdictInputs) -> str:
    kinds = ((needed.rows, inputs.of_rows, inputs.rows), (needed.seeds, "seeds", inputs.seeds))
    ways = [f"{found:,} {what} in all (now {now:,})" for found, what, now in kinds if found is not None]
    beyond = [f"more {what} alone" for found, what, _ in kinds if found is None]
    if not ways:
        return f"neither more {inputs.of_rows} nor more seeds would tell by themselves"
    rest = f"; {beyond[0]} would not" if beyond else ""
    folds = "; --folds 5 compares on all training rows" if needed.rows and inputs.of_rows == TEST_ROWS else ""
    return f"about {' or '.join(ways)} would tell, if the difference stays as it is{rest}{folds}"


def _aim(difference: Difference, floor: float) -> float:
    """Return the half width at which the interval tells: free of the floor, or of zero for what is below the floor."""
    assert difference.delta is not None
    return difference.delta + floor if difference.delta > -floor else -difference.delta


def _half(difference: Difference) -> float:
    assert difference.low is not None
    assert difference.high is not None
    return (difference.high - difference.low) / 2


def _times(difference: Difference, floor: float) -> float:
    """Return how many times too wide an interval is."""
    aim = _aim(difference, floor)
    return _half(difference) / aim if aim > 0 else math.inf


def needed_for(difference: Difference, floor: float, rows: int, seeds: int) -> Needed:
    """Return how many test rows, or how many seeds, would make an interval narrow enough.

    The variance is a / rows + b / seeds; the half width goes with its root.
    """
    variance, half, aim = difference.from_rows + difference.from_seeds, _half(difference), _aim(difference, floor)
    if aim <= 0 or half <= 0 or variance <= 0:
        return Needed(None, None)
    wanted = variance * (aim / half) ** 2
    found: list[int | None] = []
    for part, other, now in (
        (difference.from_rows, difference.from_seeds, rows),
        (difference.from_seeds, difference.from_rows, seeds),
    ):
        left = wanted - other
        found.append(max(now + 1, math.ceil(now * part / left - 1e-9)) if left > 0 and part > 0 else None)
    most_rows, most_seeds = found
    return Needed(most_rows, most_seeds if most_seeds is not None and most_seeds <= _MOST_SEEDS else None)


@dataclass(frozen=True)
class SharingArm:
    """An arm that shares, as the recommendation sees it.

    Attributes:
        differences: by task.
        floors: what each task may lose.
        overall: mean relative difference with its interval; None where a task's is undefined.
        parameters: of its model.
    """

    name: str
    differences: Mapping[str, Difference]
    floors: Mapping[str, float]
    overall: tuple[float, float, float] | None
    parameters: int

    @property
    def failing(self) -> list[str]:
        """The tasks that are more than the floor below their own models, beyond noise."""
        return [task for task, one in self.differences.items() if is_worse(one, self.floors[task])]

    @property
    def mean(self) -> float:
        """The mean relative difference; an undefined one is worse than all."""
        return -math.inf if self.overall is None else self.overall[0]


def recommend(candidates: Sequence[SharingArm], single_parameters: int, floor: float) -> tuple[str, str]:
    """Return the recommended arm and why.

    Args:
        candidates: arms that share.
        single_parameters: of all single models together.
        floor: in points.
    """
    passing = [one for one in candidates if not one.failing]
    if not passing:
        why = "; ".join(f"{one.name}: {', '.join(one.failing)}" for one in candidates)
        lost = f"a task is more than {floor:g} points below its own model, beyond noise"
        return BASELINE, f"separate models: with every arm that shares, {lost} ({why})"
    best = max(passing, key=lambda one: one.mean)
    start = f"{best.name}: no task is more than {floor:g} points below its own model beyond noise"
    size = f"it has {best.parameters:,} parameters in place of {single_parameters:,}"
    if best.overall is None:
        why = "a single model scores 0, or nothing, so there is no mean of relative differences"
        return best.name, f"{start}; {why}; {size}"
    mean, low, high = (f"{100 * value:+z.1f} %" for value in best.overall)
    shown = f"{mean} [{low}, {high}]"
    if best.overall[1] > 0:
        return best.name, f"{start}, and it gains {shown} in the mean over tasks; {size}"
    if best.overall[2] < 0:
        return best.name, f"{start}, though in the mean over tasks it costs {shown}; what speaks for it: {size}"
    return (
        best.name,
        f"{start}; its mean relative difference, {shown}, is within noise; what speaks for it is its size: {size}",
    )
