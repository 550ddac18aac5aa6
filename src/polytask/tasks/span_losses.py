"""What spans learn from, in torch: the spans that begin at a word compete with one another, and with there being none.

Source of the loss: Su et al. 2022, "ZLPR: A Novel Loss for Multi-label Classification" (arXiv 2208.02955), that of hard
labels, with the spans that begin at one word, of all lengths and labels, as the classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def band(outputs: Tensor, labels: int, longest: int) -> Tensor:
    """Return the scores of the spans that begin at each word: words x (longest x labels).

    Spans that end behind their row have a score, too, which means nothing.

    Args:
        outputs: the words of all rows x what they say as a first and as a last word, and behind them, in lines of the
            same width, the table of the head (`PairHead`).
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
    """Return the loss of a band, summed over words; a target of -100 does not count.

    Scores of spans that are there are pushed above 0, and those of all others below. Of a word's many candidates those
    count that are wrong, as in a softmax: in a sum of binary cross-entropies what is absent drowns what is there.
    """
    whole = _in_float32(scores)
    return _sum(whole.masked_fill(targets != 0, -torch.inf)) + _sum((-whole).masked_fill(targets != 1, -torch.inf))


def distillation_loss(scores: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the same against a teacher's probabilities p: a span counts by (1 - p)^2 as absent, by p^2 as present.

    With these weights the least loss is where the scores are the teacher's logits. Of a teacher that is certain it is
    the loss of the labels.
    """
    whole, teacher = _in_float32(scores), _in_float32(teacher_logits)
    unknown = targets < 0
    absent, present = whole + 2 * F.logsigmoid(-teacher), -whole + 2 * F.logsigmoid(teacher)
    return _sum(absent.masked_fill(unknown, -torch.inf)) + _sum(present.masked_fill(unknown, -torch.inf))


def _in_float32(scores: Tensor) -> Tensor:
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _sum(side: Tensor) -> Tensor:
    """Return log(1 + sum of exp) of each word, added up."""
    return torch.logsumexp(F.pad(side, (0, 1)), 1).sum()


def loss_with_teacher(scores: Tensor, targets: Tensor, teacher_logits: Tensor, label_weight: float) -> Tensor:
    """Return what `Objective.loss_with_teacher` promises."""
    if label_weight >= 1.0:
        return loss(scores, targets)
    said = ~teacher_logits.isnan().any(-1)
    taught = distillation_loss(scores[said], targets[said], teacher_logits[said]) + loss(scores[~said], targets[~said])
    return label_weight * loss(scores, targets) + (1.0 - label_weight) * taught


def training_errors(scores: Tensor, targets: Tensor, labels: int, size: int) -> tuple[Tensor, Tensor]:
    """Return what the spans that are there lack of probability 1, added up by label, and how many there are of each.

    Args:
        size: elements of the two tensors; of more labels than that several count as one class.
    """
    word, place = (targets > 0).nonzero(as_tuple=True)
    label = place % labels % size
    counts = torch.bincount(label, minlength=size).to(scores.dtype)
    return torch.zeros_like(counts).index_add(0, label, 1 - scores[word, place].sigmoid()), counts
