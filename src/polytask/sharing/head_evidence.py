"""Whether tasks that share a head should: a sequential test on how well heads of their own foretell the labels.

For each way to part one task from the others of its head, heads on trial learn beside the model: one for either side,
and one for all. Each forecasts a row before it learns from it. The evidence is the sum over rows of the loss under the
common head less the loss under the side's own: the logarithm of a likelihood ratio (prequential, Dawid 1984). Were the
common head's forecasts right, the ratio would be a martingale that begins at 1, so that by Ville's inequality it ever
reaches 1/risk with probability `risk` at most, however often one looks (Shafer et al. 2011, "Test Martingales, Bayes
Factors and p-Values", section 2). Tasks that agree are worse off with fewer rows a head, so their evidence falls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from polytask.sharing.plan import Part

# Two groups of tasks that share a head, and could have one each.
HeadCut: TypeAlias = tuple[Part, Part]
HeadGroups: TypeAlias = tuple[tuple[str, ...], ...]


def groups_of(lists: Sequence[Sequence[str]]) -> HeadGroups:
    """Return groups of tasks as they stand in JSON."""
    return tuple(tuple(group) for group in lists)


@dataclass(frozen=True)
class HeadDecision:
    """A shared head is divided, with the numbers that led to it.

    Attributes:
        groups: the tasks that part.
        evidence: logarithm of the likelihood ratio: how much better two heads foretold the labels than one.
        threshold: what it had to reach.
        heads: all groups of tasks that share a head from now on.
    """

    groups: HeadCut
    evidence: float
    threshold: float
    heads: HeadGroups

    def to_json(self) -> dict[str, Any]:
        """Return the event's values."""
        return {
            "groups": [sorted(group) for group in self.groups],
            "evidence": round(self.evidence, 3),
            "threshold": round(self.threshold, 3),
            "share_heads": [list(group) for group in self.heads],
        }


class HeadEvidence:
    """Adds up the evidence against each shared head, and decides at most one division a step.

    Attributes:
        threshold: the evidence at which a head is divided.

    Args:
        heads: groups of tasks that share a head.
        risk: bound on the probability that tasks lose a common head that is right; 0 keeps all heads.
    """

    def __init__(self, heads: HeadGroups, risk: float) -> None:
        self.heads = heads
        self._risk = risk
        self._sums: dict[HeadCut, float] = dict.fromkeys(self.cuts(), 0.0)
        # The risk is shared among all cuts that there were; what is left of a group is judged as strictly.
        self.threshold = math.log(max(1, len(self._sums)) / risk) if risk else math.inf

    def cuts(self) -> list[HeadCut]:
        """Return the ways to part one task from the others of its head."""
        return [cut for group in self.heads for cut in _cuts(group)] if self._risk else []

    def observe(self, gains: Mapping[HeadCut, float]) -> HeadDecision | None:
        """Take in what a step's rows say.

        Args:
            gains: by cut the sum over rows of the loss under the common head less that under the side's own.
        """
        for cut, gain in gains.items():
            if cut in self._sums and math.isfinite(gain):
                self._sums[cut] += gain
        if not self._sums:
            return None
        best = max(self._sums, key=lambda cut: self._sums[cut])
        evidence, threshold = self._sums[best], self.threshold
        if evidence < threshold:
            return None
        self.heads = _divided(self.heads, best)
        # What is left of the group is judged anew; other heads' evidence stands.
        self._sums = {cut: self._sums.get(cut, 0.0) for cut in self.cuts()}
        return HeadDecision(best, evidence, threshold, self.heads)

    def state_dict(self) -> dict[str, Any]:
        """Return all that later decisions depend on, JSON-ready."""
        sums = [[sorted(one), sorted(other), found] for (one, other), found in self._sums.items()]
        return {"heads": [list(group) for group in self.heads], "sums": sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.heads = groups_of(state["heads"])
        self._sums = {(frozenset(one), frozenset(other)): found for one, other, found in state["sums"]}


def _cuts(group: Sequence[str]) -> list[HeadCut]:
    alone = group if len(group) > 2 else group[1:]
    return [(frozenset([task]), frozenset(group) - {task}) for task in alone]


def _divided(heads: HeadGroups, cut: HeadCut) -> HeadGroups:
    """Return the groups after a division; a task that stands alone is in none."""
    pieces = [tuple(task for task in group if task in side) for group in heads for side in _sides(group, cut)]
    return tuple(piece for piece in pieces if len(piece) > 1)


def _sides(group: Sequence[str], cut: HeadCut) -> Sequence[Part]:
    one, other = cut
    whole = frozenset(group)
    return cut if whole == one | other else (whole,)
