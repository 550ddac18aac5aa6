"""Losses of vectors that are compared with one another: a row's texts lie in one batch, and so do other rows'.

Targets say which row each text is of, which part of it, and which texts are the same; so the order of the texts, and
how many passes made their vectors, does not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Parts of a row: the text itself, the one that belongs to it; those above it do not belong to it.
ANCHOR, OTHER = 0, 1
# Whole numbers up to this one are float32 numbers; greater ones are written in two parts.
HALF = 2**24


def text_identity(text: str | None) -> int:
    """Return 48 bits that are the same for the same text."""
    given = (text or "").strip().encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(given, digest_size=6).digest())


def direction_loss(outputs: Tensor, teacher: Tensor) -> Tensor:
    """Return for each text how far its vector's direction is from the teacher's: 1 - cosine."""
    import torch

    return 1.0 - torch.nn.functional.cosine_similarity(outputs, teacher, dim=-1)


def as_targets(row: int, part: int, score: float, text: int) -> list[float]:
    """Return what a loss is told of one text, in float32 without a loss of digits."""
    return [float(row // HALF), float(row % HALF), float(part), score, float(text // HALF), float(text % HALF)]


@dataclass(frozen=True)
class BatchTexts:
    """What the texts of a batch are.

    Attributes:
        rows: the number of the row that each is a part of.
        parts: ANCHOR, OTHER, or more for one that does not belong to the row's text.
        scores: of the row.
        texts: a number that is the same for the same text.
    """

    rows: Tensor
    parts: Tensor
    scores: Tensor
    texts: Tensor

    @classmethod
    def of(cls, targets: Tensor) -> BatchTexts:
        """Read what `as_targets` wrote: texts x 6."""
        found = targets.double()
        rows, texts = ((found[:, at] * HALF + found[:, at + 1]).long() for at in (0, 4))
        return cls(rows, found[:, 2].long(), found[:, 3], texts)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Return where the anchors stand that have their other text in the batch, and where that stands."""
        import torch

        anchors, others = ((self.parts == part).nonzero().flatten() for part in (ANCHOR, OTHER))
        if not len(anchors) or not len(others):
            return anchors[:0], others[:0]
        order = torch.argsort(self.rows[others], stable=True)
        known = self.rows[others][order]
        at = torch.searchsorted(known, self.rows[anchors]).clamp(max=len(known) - 1)
        has = known[at] == self.rows[anchors]
        return anchors[has], others[order[at[has]]]


def in_batch_loss(vectors: Tensor, texts: BatchTexts, scale: float) -> Tensor:
    """Return the summed cross-entropy of finding each text's other among the others and negatives of all rows.

    What stands beside the same text in another row, and the text itself, are no negatives.

    Source: Henderson et al. 2017, "Efficient Natural Language Response Suggestion for Smart Reply", section 4.4, with
    cosines times a scale in place of dot products.
    """
    import torch

    anchors, others = texts.pairs()
    if not len(anchors):
        return vectors.sum() * 0.0
    candidates = (texts.parts != ANCHOR).nonzero().flatten()
    own = torch.searchsorted(candidates, others)  # ascending, and each other is among them
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    logits = scale * unit[anchors] @ unit[candidates].T
    logits = logits.masked_fill(_no_negative(texts, anchors, candidates, own), float("-inf"))
    return torch.nn.functional.cross_entropy(logits, own, reduction="sum")


def _no_negative(texts: BatchTexts, anchors: Tensor, candidates: Tensor, own: Tensor) -> Tensor:
    """Return which candidates say nothing of which anchors: anchors x candidates; an anchor's own says something."""
    import torch

    said, asked = texts.texts[candidates], texts.texts[anchors]
    like_other = said[own].unsqueeze(1) == said.unsqueeze(0)
    same_anchor = asked.unsqueeze(1) == asked.unsqueeze(0)
    found = (same_anchor.float() @ like_other.float()) > 0
    found |= asked.unsqueeze(1) == said.unsqueeze(0)
    found[torch.arange(len(anchors), device=found.device), own] = False
    return found


def cosent_loss(vectors: Tensor, texts: BatchTexts, scale: float) -> Tensor:
    """Return log(1 + sum of exp(scale (cos_j - cos_i))) over all pairs of rows with score_i > score_j, times the rows.

    Source: Su 2022, "CoSENT: a more efficient sentence vector scheme than Sentence-BERT" (in Chinese).
    """
    import torch

    anchors, others = texts.pairs()
    if not len(anchors):
        return vectors.sum() * 0.0
    cosines = scale * torch.nn.functional.cosine_similarity(vectors[anchors], vectors[others], dim=-1)
    scores = texts.scores[anchors]
    wrong = (cosines.unsqueeze(0) - cosines.unsqueeze(1)).masked_fill(
        scores.unsqueeze(1) <= scores.unsqueeze(0), float("-inf")
    )
    # The one is exp(0); without any pair of scores that differ, that is all.
    return len(anchors) * torch.logsumexp(torch.cat([wrong.flatten(), wrong.new_zeros(1)]), dim=0)


def of_sizes(vectors: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Return the vectors cut to their first numbers, and the whole ones.

    Source: Kusupati et al. 2022, "Matryoshka Representation Learning", section 3.
    """
    return [*(vectors[:, :size] for size in sizes if size < vectors.shape[1]), vectors]
