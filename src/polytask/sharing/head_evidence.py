"""Evidence against shared heads: a sequential test of how well separate heads predict the labels.

For each way to separate one task from the others of its head, trial heads are trained alongside the model: one for each
side, and one for all. Each predicts a row before it learns from it. The evidence is the sum over rows of the loss under
the common head minus the loss under the side's own head: the logarithm of a likelihood ratio (prequential, Dawid 1984).
If the common head's predictions were right, the ratio would be a martingale that starts at 1, so by Ville's inequality
the probability that it ever reaches 1/risk is at most `risk`, however often it is checked (Shafer et al. 2011, "Test
Martingales, Bayes Factors and p-Values", section 2). Tasks that agree lose by having fewer rows per head, so their
evidence falls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from polytask.sharing.plan import Part

# Two groups of tasks that share a head and could have separate ones.
HeadCut: TypeAlias = tuple[Part, Part]
HeadGroups: TypeAlias = tuple[tuple[str, ...], ...]


def groups_of(lists: Sequence[Sequence[str]]) -> HeadGroups:
    """Return groups of tasks from their JSON form."""
    return tuple(tuple(group) for group in lists)


@dataclass(frozen=True)
class HeadDecision:
    """The split of a shared head, with the numbers that led to it.

    Attributes:
        groups: the two groups of tasks that are separated.
        evidence: logarithm of the likelihood ratio of two heads to one head.
        threshold: the evidence required for the split.
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
    """Accumulates the evidence against each shared head, and splits at most one head per step.

    Attributes:
        threshold: the evidence at which a head is split.

    Args:
        heads: groups of tasks that share a head.
        risk: bound on the probability that tasks lose a common head that is right; 0 keeps all heads.
    """

    def __init__(self, heads: HeadGroups, risk: float) -> None:
        self.heads = heads
        self._risk = risk
        self._sums: dict[HeadCut, float] = dict.fromkeys(self.cuts(), 0.0)
        # The risk is divided among all initial cuts; the threshold stays the same for the rest of a group.
        self.threshold = math.log(max(1, len(self._sums)) / risk) if risk else math.inf

    def cuts(self) -> list[HeadCut]:
        """Return the ways to separate one task from the others of its head."""
        return [cut for group in self.heads for cut in _cuts(group)] if self._risk else []

    def observe(self, gains: Mapping[HeadCut, float]) -> HeadDecision | None:
        """Process a step, and return the split that it leads to, if any.

        Args:
            gains: by cut, the sum over rows of the loss under the common head minus that under the side's own head.
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
        # The evidence for the rest of the group starts again; that of other heads is kept.
        self._sums = {cut: self._sums.get(cut, 0.0) for cut in self.cuts()}
        return HeadDecision(best, evidence, threshold, self.heads)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that later decisions depend on, JSON-ready."""
        sums = [[sorted(left), sorted(right), evidence] for (left, right), evidence in self._sums.items()]
        return {"heads": [list(group) for group in self.heads], "sums": sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self.heads = groups_of(state["heads"])
        self._sums = {(frozenset(left), frozenset(right)): evidence for left, right, evidence in state["sums"]}


def _cuts(group: Sequence[str]) -> list[HeadCut]:
    alone = group if len(group) > 2 else group[1:]
    return [(frozenset([task]), frozenset(group) - {task}) for task in alone]


def _divided(heads: HeadGroups, cut: HeadCut) -> HeadGroups:
    """Return the groups after a split; a single task is in no group."""
    pieces = [tuple(task for task in group if task in side) for group in heads for side in _sides(group, cut)]
    return tuple(piece for piece in pieces if len(piece) > 1)


def _sides(group: Sequence[str], cut: HeadCut) -> Sequence[Part]:
    left, right = cut
    whole = frozenset(group)
    return cut if whole == left | right else (whole,)
