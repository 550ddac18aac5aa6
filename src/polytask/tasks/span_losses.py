"""Losses of spans, in torch: the spans that begin at a word compete with one another and with `no span`.

Source of the loss: Su et al. 2022, "ZLPR: A Novel Loss for Multi-label Classification" (arXiv 2208.02955), for hard
labels, with the spans that begin at one word, of all lengths and labels, as the classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def band(outputs: Tensor, labels: int, longest: int) -> Tensor:
    """Return the scores of the spans that begin at each word: words x (longest x labels).

    Spans that end after their row have a score too, which is meaningless.

    Args:
        outputs: the words of all rows x their features as first and as last words, followed by the table of the head
            (`PairHead`) in lines of the same width.
    """
    half = outputs.shape[1] // 2
    count = labels * (half + 1) ** 2
    lines = -(-count // outputs.shape[1])
    table = outputs[-lines:].flatten()[:count].view(labels, half + 1, half + 1)
    words = outputs[:-lines]
    starts, ends = F.pad(words[:, :half], (0, 1), value=1.0), F.pad(words[:, half:], (0, 1, 0, longest - 1), value=1.0)
    sides = torch.einsum("nh,lhk->nlk", starts, table)
    shifted = [ends[length : length + len(words)].unsqueeze(-1) for length in range(longest)]
    return torch.cat([torch.bmm(sides, end).squeeze(-1) for end in shifted], dim=1)


def loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of a band, summed over words; targets of -100 are ignored.

    Scores of true spans are pushed above 0, and those of all others below. As in a softmax, a word's wrong candidates
    dominate the gradient; in a sum of binary cross-entropies, absent spans would outweigh the true ones.
    """
    scores32 = _in_float32(scores)
    return _sum(scores32.masked_fill(targets != 0, -torch.inf)) + _sum(
        (-scores32).masked_fill(targets != 1, -torch.inf)
    )


def distillation_loss(scores: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the loss against a teacher's probabilities p: a span counts as absent with (1 - p)^2, as present with p^2.

    With these weights the minimum is at the teacher's logits. For a teacher that is certain it equals the loss of the
    labels.
    """
    scores32, teacher = _in_float32(scores), _in_float32(teacher_logits)
    unknown = targets < 0
    absent, present = scores32 + 2 * F.logsigmoid(-teacher), -scores32 + 2 * F.logsigmoid(teacher)
    return _sum(absent.masked_fill(unknown, -torch.inf)) + _sum(present.masked_fill(unknown, -torch.inf))


def _in_float32(scores: Tensor) -> Tensor:
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _sum(side: Tensor) -> Tensor:
    """Return the sum over words of log(1 + sum of exp)."""
    return torch.logsumexp(F.pad(side, (0, 1)), 1).sum()


def loss_with_teacher(scores: Tensor, targets: Tensor, teacher_logits: Tensor, label_weight: float) -> Tensor:
    """Implement `Objective.loss_with_teacher`."""
    if label_weight >= 1.0:
        return loss(scores, targets)
    taught = ~teacher_logits.isnan().any(-1)
    mixed = distillation_loss(scores[taught], targets[taught], teacher_logits[taught]) + loss(
        scores[~taught], targets[~taught]
    )
    return label_weight * loss(scores, targets) + (1.0 - label_weight) * mixed


def training_errors(scores: Tensor, targets: Tensor, labels: int, size: int) -> tuple[Tensor, Tensor]:
    """Return 1 - probability of the true spans, added up by label, and the number of spans with each label.

    Args:
        size: number of elements of the two tensors; if there are more labels, several count as one class.
    """
    word, place = (targets > 0).nonzero(as_tuple=True)
    label = place % labels % size
    counts = torch.bincount(label, minlength=size).to(scores.dtype)
    return torch.zeros_like(counts).index_add(0, label, 1 - scores[word, place].sigmoid()), counts
