"""The scores of a comparison as one table of tasks by arms: on the page, as CSV and as LaTeX."""

from __future__ import annotations

import csv
import io
import math

from polytask.page.block import Cell, Code, Folded, Strong, TableBlock, number
from polytask.page.cards import ERRORS
from polytask.page.form import ArmScoreForm, ComparisonForm, VerdictForm

_LATEX = str.maketrans(
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {sign: f"\\{sign}" for sign in "&%$#_{}"}
)


def arm_table(value: ComparisonForm) -> list[TableBlock | Folded]:
    """Return the table, and what can be copied of it."""
    arms = list(dict.fromkeys(arm for found in value.tasks.values() for arm in found.arms))
    rows: list[list[Cell]] = []
    for task, found in value.tasks.items():
        best = _best(found)
        cells = [_cell(found.arms.get(arm), best) for arm in arms]
        rows.append([task, found.metric, *cells])
    caption = "Mean over seeds ± standard deviation; the best of each task in bold"
    return [
        TableBlock(caption, ["task", "metric", *arms], rows, words=2),
        Folded("Copy as CSV", [Code("Scores as CSV", _csv(value, arms))]),
        Folded("Copy as LaTeX", [Code("Scores as LaTeX, with booktabs", _latex(value, arms))]),
    ]


def _known(score: ArmScoreForm | None) -> bool:
    return score is not None and score.mean is not None and math.isfinite(score.mean)


def _best(found: VerdictForm) -> float | None:
    means = [score.mean for score in found.arms.values() if _known(score) and score.mean is not None]
    if not means:
        return None
    return min(means) if found.metric in ERRORS else max(means)


def _cell(score: ArmScoreForm | None, best: float | None) -> Cell:
    if score is None:
        return ""
    spread = "" if score.std is None else f" ± {number(score.std, 3)}"
    text = f"{number(score.mean, 3)}{spread}"
    return Strong(text) if best is not None and score.mean == best else text


def _csv(value: ComparisonForm, arms: list[str]) -> str:
    target = io.StringIO()
    lines = csv.writer(target, lineterminator="\n")
    lines.writerow(["task", "metric", *(f"{arm} {part}" for arm in arms for part in ("mean", "std"))])
    for task, found in value.tasks.items():
        scores = [found.arms.get(arm) or ArmScoreForm() for arm in arms]
        parts = [part for score in scores for part in (score.mean, score.std)]
        lines.writerow([task, found.metric, *("" if part is None else part for part in parts)])
    return target.getvalue().rstrip("\n")


def _latex(value: ComparisonForm, arms: list[str]) -> str:
    head = " & ".join(["task", "metric", *(arm.translate(_LATEX) for arm in arms)])
    lines = [rf"\begin{{tabular}}{{ll{'r' * len(arms)}}}", r"\toprule", rf"{head} \\", r"\midrule"]
    for task, found in value.tasks.items():
        best = _best(found)
        cells = [_latex_cell(found.arms.get(arm), best) for arm in arms]
        lines.append(" & ".join([task.translate(_LATEX), found.metric.translate(_LATEX), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _latex_cell(score: ArmScoreForm | None, best: float | None) -> str:
    if score is None or score.mean is None or not _known(score):
        return "--"
    mean = f"{score.mean:.3f}"
    shown = rf"\mathbf{{{mean}}}" if score.mean == best else mean
    spread = "" if score.std is None or not math.isfinite(score.std) else rf" \pm {score.std:.3f}"
    return f"${shown}{spread}$"
