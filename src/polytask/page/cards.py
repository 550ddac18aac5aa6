"""One card per task: its score, and a sentence on what it means."""

from __future__ import annotations

import math
from statistics import median

from polytask.page.block import Card, Cards
from polytask.page.folder import RunFolder
from polytask.page.form import ConfusionForm
from polytask.page.reading import read_predictions
from polytask.page.wording import interval, number, points

# Metrics that are undefined for constant predictions; at 0, predictions and true values are unrelated.
CORRELATIONS = ("pearson", "spearman")
# Fraction of the way from the majority baseline to a perfect score, with its description and tone.
LEVELS = ((0.05, "hardly learned", "bad"), (0.3, "barely learned", "bad"), (0.6, "partly learned", "part"),
          (0.85, "learned", "good"), (math.inf, "learned well", "good"))  # fmt: skip


def cards(run: RunFolder) -> Cards:
    """Return a card for each task of a finished run."""
    return Cards([_card(run, task) for task in run.tasks])


def _card(run: RunFolder, task: str) -> Card:
    split, metric = run.final_split, run.metric(task)
    score, majority = run.score(split, task, metric), run.baseline(split, task, metric)
    limits = run.interval(split, task, metric)
    facts = [f"95 % interval {interval(*limits, digits=2)}"] if limits[0] is not None else ["interval unknown"]
    follows = majority is None and metric in CORRELATIONS
    if follows:
        facts.append("1 is perfect, 0 is chance")
    elif score is not None and majority is not None:
        facts.append(_relation(score, majority, error=run.is_error(task)))
    else:
        facts.append("majority baseline unknown")
    words, tone = _follows(score, limits) if follows else _level(score, majority, limits, error=run.is_error(task))
    detail = _detail(run, task)
    value = number(score, 2)
    sentence = f"{task} {value}: {words}{f'; {detail}' if detail else ''}.".replace(" %", "\u00a0%")
    return Card(task, f"{metric} on {split}", value, facts, sentence, tone)


def _relation(score: float, majority: float, *, error: bool) -> str:
    """Describe the distance of a score from that of the majority baseline."""
    if not error:
        return f"{points(score - majority)} points above the majority baseline ({number(majority, 2)})"
    apart, word = number(abs(score - majority), 2), "more" if score > majority else "less"
    comparison = "the same as" if apart == "0.00" else f"{apart} {word} than"
    return f"{comparison} the majority baseline ({number(majority, 2)}); lower is better"


def _level(
    score: float | None, majority: float | None, limits: tuple[float | None, float | None], *, error: bool
) -> tuple[str, str]:
    """Return a description of how much was learned, and its tone.

    Args:
        score: score of the model.
        majority: score of the majority baseline.
        limits: interval of the score.
        error: whether smaller values of the metric are better.
    """
    if score is None or not math.isfinite(score):
        return "the score is undefined", "open"
    if majority is None or not math.isfinite(majority) or (majority >= 1 and not error):
        return "without the score of the majority baseline, it is unknown how much was learned", "open"
    low, high = limits
    if error:
        better = score < majority and (high is None or high < majority)
        return (
            ("better than the majority baseline", "good") if better else ("no better than the majority baseline", "bad")
        )
    if score <= majority or (low is not None and low <= majority):
        return "not learned: not significantly better than the majority baseline on these rows", "bad"
    share = (score - majority) / (1 - majority)
    return next((words, tone) for most, words, tone in LEVELS if share < most)


def _follows(score: float | None, limits: tuple[float | None, float | None]) -> tuple[str, str]:
    """Return how much was learned, from a correlation with the true values."""
    words, tone = _level(score, 0.0, limits, error=False)
    if words.startswith("not learned"):
        words = "not learned: the correlation with the truth is not significant on these rows"
    return words, tone


def _detail(run: RunFolder, task: str) -> str:
    """Describe where most of the errors are."""
    matrix = (run.confusion.value or {}).get(task)
    if matrix is not None and matrix.labels and matrix.is_square:
        return _entities(matrix) if matrix.labels[-1] == "O" else _weakest(matrix)
    predictions = read_predictions(run.folder, task).values
    pairs = [(row.label, row.prediction) for row in predictions]
    errors = [abs(a - b) for a, b in pairs if isinstance(a, int | float) and isinstance(b, int | float)]
    return f"half of the predictions are within {number(median(errors), 2)} of the truth" if errors else ""


def _entities(matrix: ConfusionForm) -> str:
    true = sum(map(sum, matrix.counts[:-1]))
    if not true:
        return "there are no entities in these rows"
    missed = sum(row[-1] for row in matrix.counts[:-1]) / true
    right = sum(row[place] for place, row in enumerate(matrix.counts[:-1]))
    answered = sum(sum(row[:-1]) for row in matrix.counts)
    if missed > 0.5:
        return "most entities are missed"
    wrong = 1 - right / answered if answered else 0.0
    return f"{100 * missed:.0f} % of the entities are missed, {100 * wrong:.0f} % of those found are wrong"


def _weakest(matrix: ConfusionForm) -> str:
    recalls = [(row[place] / sum(row), place) for place, row in enumerate(matrix.counts) if sum(row)]
    if len(recalls) < 2 or min(recalls)[0] == 1:
        return ""
    recall, place = min(recalls)
    others = [(count, other) for other, count in enumerate(matrix.counts[place]) if other != place]
    taken = matrix.labels[max(others)[1]]
    return f"weakest on {matrix.labels[place]} ({100 * recall:.0f} % found), most often taken for {taken}"
