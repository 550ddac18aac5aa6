"""Losses that compare vectors with one another; the texts of a row, and of other rows, are in the same batch.

Targets say which row each text belongs to, which part of it the text is, and which texts are the same. So the order
of the texts and the number of forward passes do not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Parts of a row: the text itself and its positive; higher numbers are negatives.
ANCHOR, OTHER = 0, 1
# float32 holds whole numbers up to this one exactly; greater ones are written in two parts.
HALF = 2**24


def text_identity(text: str | None) -> int:
    """Return a 48-bit hash of a text."""
    encoded = (text or "").strip().encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=6).digest())


def direction_loss(outputs: Tensor, teacher: Tensor) -> Tensor:
    """Return 1 - cosine between each text's vector and the teacher's."""
    import torch

    return 1.0 - torch.nn.functional.cosine_similarity(outputs, teacher, dim=-1)


def as_targets(row: int, part: int, score: float, text: int) -> list[float]:
    """Return the targets of one text, which float32 holds exactly."""
    return [float(row // HALF), float(row % HALF), float(part), score, float(text // HALF), float(text % HALF)]


@dataclass(frozen=True)
class BatchTexts:
    """Rows, parts and identities of the texts of a batch.

    Attributes:
        rows: number of the row that each text belongs to.
        parts: ANCHOR, OTHER, or a higher number for a negative.
        scores: score of the row.
        texts: hash of the text.
    """

    rows: Tensor
    parts: Tensor
    scores: Tensor
    texts: Tensor

    @classmethod
    def of(cls, targets: Tensor) -> BatchTexts:
        """Read what `as_targets` wrote: texts x 6."""
        values = targets.double()
        rows, texts = ((values[:, at] * HALF + values[:, at + 1]).long() for at in (0, 4))
        return cls(rows, values[:, 2].long(), values[:, 3], texts)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Return the indices of the anchors whose other text is in the batch, and the indices of those other texts."""
        import torch

        anchors, others = ((self.parts == part).nonzero().flatten() for part in (ANCHOR, OTHER))
        if not len(anchors) or not len(others):
            return anchors[:0], others[:0]
        order = torch.argsort(self.rows[others], stable=True)
        other_rows = self.rows[others][order]
        nearest = torch.searchsorted(other_rows, self.rows[anchors]).clamp(max=len(other_rows) - 1)
        matched = other_rows[nearest] == self.rows[anchors]
        return anchors[matched], others[order[nearest[matched]]]


def in_batch_loss(vectors: Tensor, texts: BatchTexts, scale: float) -> Tensor:
    """Return the summed cross-entropy of each anchor's positive among the positives and negatives of all rows.

    Texts paired with the same anchor text in another row, and the anchor text itself, do not count as negatives.

    Source: Henderson et al. 2017, "Efficient Natural Language Response Suggestion for Smart Reply", section 4.4, with
    cosines times a scale in place of dot products.
    """
    import torch

    anchors, others = texts.pairs()
    if not len(anchors):
        return vectors.sum() * 0.0
    candidates = (texts.parts != ANCHOR).nonzero().flatten()
    positives = torch.searchsorted(candidates, others)  # `candidates` is sorted and contains `others`
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    logits = scale * unit[anchors] @ unit[candidates].T
    logits = logits.masked_fill(_excluded(texts, anchors, candidates, positives), float("-inf"))
    return torch.nn.functional.cross_entropy(logits, positives, reduction="sum")


def _excluded(texts: BatchTexts, anchors: Tensor, candidates: Tensor, positives: Tensor) -> Tensor:
    """Return which candidates to leave out for which anchors: anchors x candidates; never an anchor's own positive."""
    import torch

    candidate_texts, anchor_texts = texts.texts[candidates], texts.texts[anchors]
    like_other = candidate_texts[positives].unsqueeze(1) == candidate_texts.unsqueeze(0)
    same_anchor = anchor_texts.unsqueeze(1) == anchor_texts.unsqueeze(0)
    excluded = (same_anchor.float() @ like_other.float()) > 0
    excluded |= anchor_texts.unsqueeze(1) == candidate_texts.unsqueeze(0)
    excluded[torch.arange(len(anchors), device=excluded.device), positives] = False
    return excluded


def cosent_loss(vectors: Tensor, texts: BatchTexts, scale: float) -> Tensor:
    """Return log(1 + sum of exp(scale (cos_j - cos_i))) over pairs of rows with score_i > score_j, times the row count.

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
    # The appended 0 is the 1 of the formula; it is all that is left if all scores are equal.
    return len(anchors) * torch.logsumexp(torch.cat([wrong.flatten(), wrong.new_zeros(1)]), dim=0)


def of_sizes(vectors: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Return the vectors truncated to each size, and in full.

    Source: Kusupati et al. 2022, "Matryoshka Representation Learning", section 3.
    """
    return [*(vectors[:, :size] for size in sizes if size < vectors.shape[1]), vectors]
