"""Adaptive sharing: split a part whose tasks' gradients keep conflicting; merge copies that agree again.

Decisions on measured numbers, without tensors. Where to split is decided as in branched multi-task networks
(Vandenhende et al. 2019) and adaptive feature sharing (Lu et al. 2017), by the similarity of the tasks at each layer;
the measure is Recon's (Shi et al. 2023), the gradients' cosine at each layer, computed during training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from polytask.errors import ConfigError
from polytask.sharing.affinity import FromAffinityOptions, linkage_cuts, members_of
from polytask.sharing.fixed import GlobalOptions, IndependentOptions
from polytask.sharing.head_evidence import HeadCut, HeadDecision, HeadEvidence
from polytask.sharing.partial import PartialOptions
from polytask.sharing.plan import Part, Plan
from polytask.sharing.policy import Cut, Decision, Gram, SharingPolicy
from polytask.sharing.sharing import Sharing, TreeOptions

AnyStart: TypeAlias = Annotated[
    GlobalOptions | IndependentOptions | PartialOptions | FromAffinityOptions, Field(discriminator="strategy")
]

# Share of the training time that measuring may cost if no interval is set.
COST_SHARE = 0.04
# Minimum interval if measuring costs nothing: consecutive measurements are nearly the same.
LEAST_INTERVAL = 4
# Parts with at most this many tasks are searched exhaustively.
ALL_CUTS = 8


class AdaptiveOptions(TreeOptions):
    """A plan that follows the measured similarity of the tasks' gradients."""

    strategy: Literal["adaptive"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    start: AnyStart = Field(default=GlobalOptions(strategy="global"), description="the plan to start from")
    interval: int | None = Field(
        default=None,
        ge=1,
        description="updates between two measurements; by default the balancer's own interval if it compares gradients "
        "anyway, otherwise such that measuring costs about 4 % of the time",
    )
    threshold: float = Field(
        default=0.0, ge=-1, le=1, description="a part is split when the mean cosine of two groups stays below this"
    )
    confidence: float = Field(
        default=1.5, ge=0, description="number of standard errors by which the cosine must stay below the threshold"
    )
    patience: int = Field(default=3, ge=1, description="consecutive measurements that must agree on a change")
    min_measurements: int = Field(default=10, ge=1, description="measurements before the first change")
    smoothing: float = Field(default=0.9, gt=0, lt=1, description="weight of the past in the running averages")
    head_risk: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="bound on the probability that tasks which agree lose their shared head; smaller values need more "
        "rows to split a head; 0 keeps shared heads",
    )
    max_parameters: float = Field(
        default=2.0, gt=0, description="maximum size of the model, relative to one that shares everything"
    )
    merge: bool = Field(default=False, description="merge copies again that stay close and agree")
    merge_similarity: float = Field(default=0.1, ge=-1, le=1, description="copies agree above this mean cosine")
    merge_distance: float = Field(
        default=0.02, ge=0, description="copies are close below this distance, relative to their norm"
    )

    @field_validator("start")
    @classmethod
    def _start_is_a_plan_only(cls, value: Any) -> Any:  # noqa: ANN401
        for name in ("kind", "share_heads"):
            field = type(value).model_fields.get(name)
            if field is not None and getattr(value, name) != field.default:
                raise ValueError(f"found {name!r} in the starting plan; put it next to `strategy: adaptive`")
        return value

    @model_validator(mode="after")
    def _base_is_measured(self) -> AdaptiveOptions:
        if self.base == "frozen":
            raise ValueError("found base 'frozen'; a layer that is not trained has no gradient to measure")
        if self.merge and self.kind in ("lora", "adapter"):
            raise ValueError(
                f"found merge with kind {self.kind!r}; an adapter merged for all tasks would be dropped; "
                "use kind copy or soft"
            )
        return self

    def plan(self, tasks: Sequence[str], layers: int) -> Plan:
        try:
            return self.start.plan(tasks, layers)
        except ConfigError as error:
            raise ConfigError(f"sharing.start.{str(error).removeprefix('sharing.')}") from None

    def policy(
        self, start: Sharing, size: Callable[[Plan], int], single: int, passes: float, compares: int | None = None
    ) -> Adaptive:
        ratio = size(start.plan) / single
        if ratio > self.max_parameters:
            raise ConfigError(
                f"sharing.max_parameters: found {self.max_parameters:g}, but the starting plan has {ratio:.2f} times "
                "the parameters of a model that shares everything; allow at least that, or start from a smaller plan"
            )
        # A measured update encodes each row once for every task that reads it; the rest costs about 0.45 updates. If
        # the balancer computes gradients task by task anyway, measuring them costs almost nothing.
        costs = passes - 1.0 + 0.45
        common = compares and compares * math.ceil(LEAST_INTERVAL / compares)
        interval = self.interval or common or math.ceil(costs / COST_SHARE)
        heads = HeadEvidence(start.heads, self.head_risk)
        return Adaptive(
            self, start.plan, size, budget=int(self.max_parameters * single), interval=interval, heads=heads
        )


@dataclass(frozen=True)
class Similarity:
    """Similarity of the tasks' gradients, in arrays of shape (layers, tasks, tasks).

    Attributes:
        cosine: cosines of the averaged Gram matrices.
        error: their standard errors; infinite after a single measurement.
    """

    cosine: NDArray[np.float64]
    error: NDArray[np.float64]

    def between(self, level: int, first: Sequence[int], second: Sequence[int]) -> tuple[float, float]:
        """Return the mean cosine of two groups at a level, and its error for fully correlated pairs."""
        block = np.ix_(first, second)
        return float(self.cosine[level - 1][block].mean()), float(self.error[level - 1][block].mean())


class Adaptive(SharingPolicy):
    """Changes the plan by the Gram matrices, at most once per measurement.

    Args:
        size: returns the number of parameters of the model under a plan.
        budget: maximum number of parameters.
        interval: updates between two measurements.
        heads: evidence against shared heads.
    """

    def __init__(
        self,
        options: AdaptiveOptions,
        plan: Plan,
        size: Callable[[Plan], int],
        *,
        budget: int,
        interval: int,
        heads: HeadEvidence,
    ) -> None:
        self.options = options
        self.interval = interval
        self.plan = plan
        self._heads = heads
        self._size = size
        self._budget = budget
        shape = (plan.layers, len(plan.tasks), len(plan.tasks))
        self._mean = np.zeros(shape)
        self._square = np.zeros(shape)
        self._weight = np.zeros(shape)
        self._weight_square = np.zeros(shape)
        self._count = 0
        self._streaks: dict[tuple[str, Cut], int] = {}

    def measures_at(self, step: int) -> bool:
        return step % self.interval == 0

    @property
    def wants_distances(self) -> bool:
        return self.options.merge

    def similarity(self) -> Similarity:
        """Return the cosines of the averaged Gram matrices and their standard errors; nan without measurements."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self._mean / self._weight
            length = np.sqrt(np.diagonal(mean, axis1=1, axis2=2))
            lengths = length[:, :, None] * length[:, None, :]
            variance = np.maximum(self._square / self._weight - mean**2, 0.0)
            # Effective number of measurements of an exponential average (Kish 1965, section 11.7).
            measurements = self._weight**2 / self._weight_square
            error = np.sqrt(variance / np.maximum(measurements - 1.0, 1e-12))
            return Similarity(mean / lengths, np.where(measurements > 1.0, error / lengths, np.inf))

    def observe(self, gram: Gram, distances: Mapping[Cut, float] | None = None) -> Decision | None:
        known = ~np.isnan(gram)
        share = self.options.smoothing
        products = np.nan_to_num(gram)
        for average, value in (
            (self._mean, products),
            (self._square, products**2),
            (self._weight, np.ones_like(products)),
        ):
            average[known] = share * average[known] + (1 - share) * value[known]
        self._weight_square[known] = share**2 * self._weight_square[known] + (1 - share) ** 2
        self._count += 1
        similarity = self.similarity()
        decision = self._split(similarity, known)
        if decision is None and self.options.merge:
            decision = self._merge(similarity, known, distances or {})
        if decision is not None:
            self.plan = decision.plan
            self._streaks = {}
        return decision

    # shared heads

    def head_cuts(self) -> list[HeadCut]:
        return self._heads.cuts()

    def observe_heads(self, gains: Mapping[HeadCut, float]) -> HeadDecision | None:
        decision = self._heads.observe(gains)
        if decision is not None:  # gradients through the common head do not predict those through two
            for average in self._averages.values():
                average[...] = 0.0
            self._count, self._streaks = 0, {}
        return decision

    # splitting

    def _split(self, similarity: Similarity, known: NDArray[np.bool_]) -> Decision | None:
        best: Decision | None = None
        best_gain = 0.0
        persistent: dict[tuple[str, Cut], int] = {}
        for cut in self._cuts(similarity):
            level, left, right = cut
            cosine, error = similarity.between(level, self._indices(left), self._indices(right))
            margin = self.options.confidence * error if self.options.confidence else 0.0
            if not cosine + margin < self.options.threshold:
                continue
            streak = self._streaks.get(("split", cut), 0) + self._is_measured(known, cut)
            persistent["split", cut] = streak
            if streak < self.options.patience or self._count < self.options.min_measurements:
                continue
            cosines = self._above(similarity, cut)
            gain = sum(self.options.threshold - value for value in cosines)
            if gain > best_gain:
                plan = self.plan.split(level, left)
                size = self._size(plan)
                if size <= self._budget:
                    best_gain = gain
                    best = Decision("split", level, (left, right), tuple(cosines), self._count, size, plan)
        kept = {key: value for key, value in self._streaks.items() if key[0] == "merge"}
        self._streaks = kept | persistent
        return best

    def _cuts(self, similarity: Similarity) -> Iterator[Cut]:
        """Yield ways to split one part of one layer in two: all for up to 8 tasks, clusters of similar ones beyond."""
        for level in range(1, len(self.plan.levels)):
            for part in self.plan.levels[level]:
                members = [task for task in self.plan.tasks if task in part]
                if len(members) <= ALL_CUTS:
                    groups = _groups(members)
                else:
                    indices = self._indices(part)
                    cosine = np.nan_to_num(similarity.cosine[level - 1][np.ix_(indices, indices)])
                    cuts = linkage_cuts(cosine, (1 << len(members)) - 1)
                    groups = (frozenset(members[index] for index in members_of(bits)) for bits in sorted(cuts))
                for group in groups:
                    yield level, group, part - group

    def _above(self, similarity: Similarity, cut: Cut) -> list[float]:
        """Return the similarity of the groups at every layer where the cut would separate tasks that are together."""
        level, left, right = cut
        cosines: list[float] = []
        for above in range(level, len(self.plan.levels)):
            for part in self.plan.levels[above]:
                if part & left and part & right:
                    indices = self._indices(part & left), self._indices(part & right)
                    cosines.append(similarity.between(above, *indices)[0])
        return cosines

    def _is_measured(self, known: NDArray[np.bool_], cut: Cut) -> bool:
        """Whether a measurement covers both groups; a rare task is not in all of them."""
        level, left, right = cut
        return bool(known[level - 1][np.ix_(self._indices(left), self._indices(right))].any())

    def _indices(self, group: Part) -> list[int]:
        return [index for index, task in enumerate(self.plan.tasks) if task in group]

    # merging

    def mergeable(self) -> list[Cut]:
        cuts: list[Cut] = []
        for level in range(1, len(self.plan.levels)):
            for left, right in combinations(self.plan.levels[level], 2):
                if any(left | right <= part for part in self.plan.levels[level - 1]):
                    cuts.append((level, left, right))
        return cuts

    def _merge(
        self, similarity: Similarity, known: NDArray[np.bool_], distances: Mapping[Cut, float]
    ) -> Decision | None:
        persistent = {key: value for key, value in self._streaks.items() if key[0] == "split"}
        best: Decision | None = None
        for cut in self.mergeable():
            level, left, right = cut
            cosine, _ = similarity.between(level, self._indices(left), self._indices(right))
            near = distances.get(cut, float("inf")) < self.options.merge_distance
            if not (near and cosine > self.options.merge_similarity):
                continue
            streak = self._streaks.get(("merge", cut), 0) + self._is_measured(known, cut)
            persistent["merge", cut] = streak
            lasting = self._count >= self.options.min_measurements and streak >= self.options.patience
            if lasting and (best is None or cosine > best.similarity[0]):
                plan = self.plan.merge(level, left, right)
                best = Decision("merge", level, (left, right), (cosine,), self._count, self._size(plan), plan)
        self._streaks = persistent
        return best

    # resume

    @property
    def _averages(self) -> dict[str, NDArray[np.float64]]:
        return {
            "mean": self._mean,
            "square": self._square,
            "weight": self._weight,
            "weight_square": self._weight_square,
        }

    def state_dict(self) -> dict[str, Any]:
        streaks = [
            [action, level, sorted(left), sorted(right), streak]
            for (action, (level, left, right)), streak in self._streaks.items()
        ]
        return {
            "plan": self.plan.to_json(),
            "averages": {name: average.tolist() for name, average in self._averages.items()},
            "count": self._count,
            "streaks": streaks,
            "heads": self._heads.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.plan = Plan.from_json(state["plan"])
        for name, average in self._averages.items():
            average[...] = state["averages"][name]
        self._count = state["count"]
        self._heads.load_state_dict(state["heads"])
        self._streaks = {
            (action, (level, frozenset(left), frozenset(right))): streak
            for action, level, left, right, streak in state["streaks"]
        }


def _groups(tasks: Sequence[str]) -> Iterator[Part]:
    """Yield one side of every split of the tasks in two."""
    for count in range(1, len(tasks) // 2 + 1):
        for chosen in combinations(tasks, count):
            if 2 * count < len(tasks) or tasks[0] in chosen:
                yield frozenset(chosen)
