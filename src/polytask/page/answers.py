"""Predictions of the kept model: confusion matrices, and wrongly predicted rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from polytask.page import marks
from polytask.page.block import Block, Chart, Details, MarkedTexts, MissingNote, TableBlock, TextBlock, drawn
from polytask.page.chart import heat_map
from polytask.page.folder import RunFolder
from polytask.page.form import ConfusionForm, PredictionForm
from polytask.page.reading import read_predictions
from polytask.page.wording import answer, count, placed, signed

SHOWN = 3  # errors per task that are shown at once
MORE = 20  # including the folded ones


def confusions(run: RunFolder) -> Iterator[Block]:
    """Yield the confusion matrix of each task that has one."""
    confusion = run.confusion
    if confusion.value is None:
        if run.finished:
            yield MissingNote(confusion.problem)
        return
    charts = [_confusion(task, matrix) for task, matrix in confusion.value.items() if matrix.is_square]
    caption = (
        "Rows are true labels, columns predictions. Numbers count texts, or spans (O: no span). The colour shows "
        "the share of the row. Recall: the share of the row that was predicted correctly."
    )
    yield drawn(charts, "no task has a confusion matrix: they exist for classes and for spans.", caption)
    mismatched = [task for task, matrix in confusion.value.items() if not matrix.is_square]
    if mismatched:
        yield MissingNote(
            f"the size of the matrix of {', '.join(mismatched)} in confusion.json does not match its labels."
        )


def _confusion(task: str, matrix: ConfusionForm) -> Chart | None:
    """Draw the counts, with the recall of each row in the last column."""
    shares: list[list[float | None]] = [[*(value / (sum(row) or 1) for value in row), None] for row in matrix.counts]
    texts = [
        [*map(str, row), f"{100 * row[place] / sum(row):.0f} %" if sum(row) and label != "O" else "\u2013"]
        for place, (row, label) in enumerate(zip(matrix.counts, matrix.labels, strict=True))
    ]
    return heat_map(task, matrix.labels, [*matrix.labels, "recall"], shares, most=1.0, texts=texts, whole=True)


def answers(run: RunFolder) -> Iterator[Block]:
    """Yield some wrongly predicted rows of each task; for numbers, those with the largest errors."""
    if not (run.folder / "predictions").is_dir():
        if run.finished:
            yield MissingNote("predictions/ is not in the folder.")
        return
    for task in run.tasks:
        predictions = read_predictions(run.folder, task)
        if predictions.problem:
            yield MissingNote(f"{task}: {predictions.problem}")
        if not predictions.values:
            continue
        scale = {label: place for place, label in enumerate(run.scale(task))}
        wrong = _wrong(predictions.values, scale)
        split = run.record.predicted_split.get(task, run.final_split)
        if not wrong:
            yield TextBlock(
                f"{task}: all {count(len(predictions.values))} predictions on the {split} rows are correct."
            )
            continue
        yield from _shown(task, split, wrong, len(predictions.values), scale)


def _shown(
    task: str, split: str, wrong: Sequence[PredictionForm], total: int, scale: Mapping[str, int]
) -> Iterator[Block]:
    """Yield the first errors, and some more in a folded block."""
    numbers = all(_is_number(row.label) and _is_number(row.prediction) for row in wrong)
    levels = all(isinstance(value, str) and value in scale for row in wrong[:MORE] for value in _pair(row))
    vectors = all(row.nearest is not None for row in wrong[:MORE])
    kind = "largest errors, of" if numbers or levels else "wrong predictions:"
    count_text = f"{count(len(wrong))} of {count(total)} {split} rows"
    make = _marked if all(marks.fits(row) for row in wrong[:MORE]) else _numbers if numbers else _table
    if levels:
        make = partial(_levels, scale)
    if vectors:
        make = _neighbours
        kind = "not found at rank 1:" if all(row.label == 1 for row in wrong) else kind
    yield make(f"{task}: {kind} {count_text}", wrong[:SHOWN])
    if len(wrong) > SHOWN:
        more = wrong[SHOWN:MORE]
        yield Details(f"{len(more)} more of {task}", [make(f"{task}: {kind} {count_text}, more", more)])


def _columns(form: PredictionForm) -> list[str]:
    return [placed(form.place, form.row), answer(form.label), answer(form.prediction)]


def _table(caption: str, wrong: Sequence[PredictionForm]) -> Block:
    rows = [[*_columns(row), row.text] for row in wrong]
    return TableBlock(caption, ["where", "truth", "answer", "text"], rows, words=4, wide=True)


def _numbers(caption: str, wrong: Sequence[PredictionForm]) -> Block:
    rows = [[*_columns(row), signed(row.prediction - row.label, 2), row.text] for row in wrong]
    return TableBlock(caption, ["where", "truth", "answer", "error", "text"], rows, words=5, wide=True)


def _levels(scale: Mapping[str, int], caption: str, wrong: Sequence[PredictionForm]) -> Block:
    """Show each prediction and the true level on the scale: a circle for the truth, a dot for the prediction."""
    rows: list[list[str]] = []
    for one in wrong:
        truth, found = scale[one.label], scale[one.prediction]
        bar = "".join("\u25cb" if at == truth else "\u25cf" if at == found else "\u2013" for at in range(len(scale)))
        rows.append([*_columns(one), f"{found - truth:+d}", bar, one.text])
    heads = ["where", "truth \u25cb", "prediction \u25cf", "levels off", "on the scale", "text"]
    return TableBlock(caption, heads, rows, words=6, wide=True)


def _neighbours(caption: str, wrong: Sequence[PredictionForm]) -> Block:
    """Show a row's texts next to the texts that are closest to the first of them."""
    ranked = all(one.label == 1 for one in wrong)
    rows = [
        [
            placed(one.place, one.row),
            *([f"{one.prediction:.0f}"] if ranked else [answer(one.label), answer(one.prediction)]),
            one.text,
            "; ".join(f"{signed(near.cosine or 0.0, 2)} {near.text}" for near in one.nearest or ()),
        ]
        for one in wrong
    ]
    heads = [
        "where",
        *(["rank"] if ranked else ["truth", "cosine"]),
        "text | matching text",
        "closest texts",
    ]
    return TableBlock(caption, heads, rows, words=len(heads), wide=True)


def _marked(caption: str, wrong: Sequence[PredictionForm]) -> Block:
    return MarkedTexts(caption, [marks.marked(row) for row in wrong])


def _pair(form: PredictionForm) -> tuple[Any, Any]:
    return form.label, form.prediction


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong(predictions: Sequence[PredictionForm], scale: Mapping[str, int]) -> list[PredictionForm]:
    wrong = [row for row in predictions if row.label != row.prediction]
    if scale:
        wrong.sort(key=lambda row: -abs(scale.get(str(row.label), -1) - scale.get(str(row.prediction), -1)))
    if all(_is_number(row.label) and _is_number(row.prediction) for row in wrong):
        wrong.sort(key=lambda row: -abs(row.label - row.prediction))
    return wrong
