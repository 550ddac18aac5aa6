"""A linear-chain conditional random field (CRF) over the words of a row, in torch and in float32.

Source: Lample et al. 2016, "Neural Architectures for Named Entity Recognition", section 2.2. The head's outputs are
the emissions P of all words, followed by the transitions A in `tags + 2` more lines (see `split`).
"""

from __future__ import annotations

import torch
from torch import Tensor


def split(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the emissions (words x tags) and the transitions: a line for each previous tag, then start and end."""
    lines = outputs.shape[1] + 2
    return outputs[:-lines], outputs[-lines:]


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the summed negative log-likelihood of the rows' tags; a word with -100 may have any tag.

    Sequences that the scheme forbids have a score too: where words share a token, a row can have an I- without its B-.

    Args:
        outputs: (words + tags + 2) x tags.
        targets: words x 2: the tag or -100, and 1 where a row begins.
    """
    emissions, transitions = split(outputs)
    if not len(targets):
        return outputs.sum() * 0.0
    rows = _Rows(targets[:, 1])
    total = rows.log_partition(emissions, transitions)
    tags = targets[:, 0]
    if not bool((tags < 0).any()):
        return total.sum() - _score(emissions, transitions, targets)
    # All paths that agree with the known tags.
    agrees = torch.nn.functional.one_hot(tags.clamp(min=0), emissions.shape[1]).bool() | (tags < 0).unsqueeze(1)
    return (total - rows.log_partition(emissions.masked_fill(~agrees, _IMPOSSIBLE), transitions)).sum()


def distillation_loss(outputs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the summed cross-entropy of the words' marginal distributions against a teacher's.

    Args:
        outputs, targets: as for `loss`.
        teacher_logits: words x tags.
    """
    return _against_teacher(log_marginals(outputs, targets[:, 1]), targets, teacher_logits)


def loss_with_teacher(outputs: Tensor, targets: Tensor, teacher_logits: Tensor, label_weight: float) -> Tensor:
    """Implement `Objective.loss_with_teacher`.

    Where the teacher has no logits (nan), the negative log marginal probability of the label takes their place.
    """
    if label_weight >= 1.0:
        return loss(outputs, targets)
    logs, tags = log_marginals(outputs, targets[:, 1]), targets[:, 0]
    silent = teacher_logits.isnan().any(-1) & (tags >= 0)
    untaught = -logs[silent].gather(1, tags[silent].unsqueeze(1)).sum()
    distilled = _against_teacher(logs, targets, teacher_logits)
    return label_weight * loss(outputs, targets) + (1.0 - label_weight) * (distilled + untaught)


def training_errors(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return 1 - probability of the true tags, added up by tag, and the number of words with each tag."""
    known, tags = targets[:, 0] >= 0, targets[:, 0]
    right = log_marginals(outputs, targets[:, 1])[known].gather(1, tags[known].unsqueeze(1)).squeeze(1)
    counts = torch.bincount(tags[known], minlength=outputs.shape[1]).to(outputs.dtype)
    # Rounding may make a probability a little more than 1.
    return torch.zeros_like(counts).index_add(0, tags[known], (1 - right.exp()).clamp(min=0.0)), counts


def _against_teacher(logs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
    taught = ~teacher_logits.isnan().any(-1) & (targets[:, 0] >= 0)
    return -(teacher_logits[taught].softmax(-1) * logs[taught]).sum()


def log_marginals(outputs: Tensor, begins: Tensor) -> Tensor:
    """Return the log-probability of each tag at each word: words x tags.

    Args:
        outputs: (words + tags + 2) x tags.
        begins: 1 for each word that begins a row, otherwise 0.
    """
    emissions, transitions = split(outputs)
    if not len(begins):
        return emissions
    rows = _Rows(begins)
    forward, total = rows.forward(emissions, transitions)
    padded = rows.pad(emissions)
    *_, end = transitions
    backward = [end.expand(len(padded), -1)]
    for step in range(padded.shape[1] - 1, 0, -1):
        following = (padded[:, step] + backward[0]).unsqueeze(1)
        before = torch.logsumexp(transitions[:-2] + following, 2)
        # A row that ends before this step starts from `end`.
        backward.insert(0, torch.where((rows.lengths > step).unsqueeze(1), before, end))
    marginals = torch.stack(forward, 1) + torch.stack(backward, 1) - total[:, None, None]
    return marginals[rows.row, rows.place]


def _score(emissions: Tensor, transitions: Tensor, targets: Tensor) -> Tensor:
    """Return the scores of the rows' own paths, summed: s(X, y) of the paper."""
    tags, begins = targets[:, 0], targets[:, 1].bool()
    ends = torch.cat([begins[1:], begins.new_ones(1)])
    inner = ~begins[1:]
    return (
        emissions.gather(1, tags.unsqueeze(1)).sum()
        + transitions[:-2][tags[:-1][inner], tags[1:][inner]].sum()
        + transitions[-2][tags[begins]].sum()
        + transitions[-1][tags[ends]].sum()
    )


# Far below any score, but finite: gradients of -inf are nan.
_IMPOSSIBLE = -1e6


class _Rows:
    """The row and position of each word, for rows that follow one another.

    Args:
        begins: 1 for each word that begins a row, otherwise 0.
    """

    def __init__(self, begins: Tensor) -> None:
        words = torch.arange(len(begins), device=begins.device)
        first = words[begins.bool()]
        self.row = begins.cumsum(0) - 1
        self.place = words - first[self.row]
        self.lengths = torch.bincount(self.row)

    def pad(self, emissions: Tensor) -> Tensor:
        """Return rows x greatest length x tags."""
        padded = emissions.new_zeros(len(self.lengths), int(self.lengths.max()), emissions.shape[1])
        return padded.index_put((self.row, self.place), emissions)

    def forward(self, emissions: Tensor, transitions: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the log-sum-exp of paths up to each tag (rows x tags) at each position, and of complete paths."""
        padded = self.pad(emissions)
        sums = [transitions[-2] + padded[:, 0]]
        for step in range(1, padded.shape[1]):
            longer = torch.logsumexp(sums[-1].unsqueeze(2) + transitions[:-2], 1) + padded[:, step]
            sums.append(torch.where((self.lengths > step).unsqueeze(1), longer, sums[-1]))
        return sums, torch.logsumexp(sums[-1] + transitions[-1], 1)

    def log_partition(self, emissions: Tensor, transitions: Tensor) -> Tensor:
        """Return the log-sum-exp over all paths of each row."""
        return self.forward(emissions, transitions)[1]
