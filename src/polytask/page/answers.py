"""What the kept model answered: confusion matrices, and rows that it gets wrong."""

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

SHOWN = 3  # errors a task that stand open
MORE = 20  # with those behind a line


def confusions(run: RunFolder) -> Iterator[Block]:
    """Yield a matrix for each task that has one."""
    found = run.confusion
    if found.value is None:
        if run.finished:
            yield MissingNote(found.problem)
        return
    charts = [_confusion(task, matrix) for task, matrix in found.value.items() if matrix.is_square]
    caption = (
        "Rows are the truth, columns the answer. Numbers count texts, or spans (O: there is none). The colour is "
        "their share of the row. Recall: the share of the row that was found."
    )
    yield drawn(charts, "no task has one: they are drawn for classes and for spans.", caption)
    broken = [task for task, matrix in found.value.items() if not matrix.is_square]
    if broken:
        yield MissingNote(f"the matrix of {', '.join(broken)} in confusion.json is not as large as its labels say.")


def _confusion(task: str, matrix: ConfusionForm) -> Chart | None:
    """Draw counts, with the recall of each row as the last column."""
    shares: list[list[float | None]] = [[*(value / (sum(row) or 1) for value in row), None] for row in matrix.counts]
    texts = [
        [*map(str, row), f"{100 * row[place] / sum(row):.0f} %" if sum(row) and label != "O" else "\u2013"]
        for place, (row, label) in enumerate(zip(matrix.counts, matrix.labels, strict=True))
    ]
    return heat_map(task, matrix.labels, [*matrix.labels, "recall"], shares, most=1.0, texts=texts, whole=True)


def answers(run: RunFolder) -> Iterator[Block]:
    """Yield some rows of each task that the model gets wrong; of numbers, those that are the furthest off."""
    if not (run.folder / "predictions").is_dir():
        if run.finished:
            yield MissingNote("predictions/ is not in the folder.")
        return
    for task in run.tasks:
        found = read_predictions(run.folder, task)
        if found.problem:
            yield MissingNote(f"{task}: {found.problem}")
        if not found.values:
            continue
        scale = {label: place for place, label in enumerate(run.scale(task))}
        wrong = _wrong(found.values, scale)
        split = run.record.predicted_split.get(task, run.final_split)
        if not wrong:
            yield TextBlock(f"{task}: all {count(len(found.values))} answers on the {split} rows are right.")
            continue
        yield from _shown(task, split, wrong, len(found.values), scale)


def _shown(
    task: str, split: str, wrong: Sequence[PredictionForm], total: int, scale: Mapping[str, int]
) -> Iterator[Block]:
    """Yield the first errors, and some more behind a line."""
    numbers = all(_is_number(one.label) and _is_number(one.prediction) for one in wrong)
    levels = all(isinstance(value, str) and value in scale for one in wrong[:MORE] for value in _pair(one))
    vectors = all(one.nearest is not None for one in wrong[:MORE])
    what = "largest errors, of" if numbers or levels else "wrong answers:"
    told = f"{count(len(wrong))} of {count(total)} {split} rows"
    make = _marked if all(marks.fits(one) for one in wrong[:MORE]) else _numbers if numbers else _table
    if levels:
        make = partial(_levels, scale)
    if vectors:
        make = _neighbours
        what = "not found at once:" if all(one.label == 1 for one in wrong) else what
    yield make(f"{task}: {what} {told}", wrong[:SHOWN])
    if len(wrong) > SHOWN:
        more = wrong[SHOWN:MORE]
        yield Details(f"{len(more)} more of {task}", [make(f"{task}: {what} {told}, more", more)])


def _told(form: PredictionForm) -> list[str]:
    return [placed(form.place, form.row), answer(form.label), answer(form.prediction)]


def _table(caption: str, wrong: Sequence[PredictionForm]) -> Block:
    rows = [[*_told(one), one.text] for one in wrong]
    return TableBlock(caption, ["where", "truth", "answer", "text"], rows, words=4, wide=True)


def _numbers(caption: str, wrong: Sequence[PredictionForm]) -> Block:
    rows = [[*_told(one), signed(one.prediction - one.label, 2), one.text] for one in wrong]
    return TableBlock(caption, ["where", "truth", "answer", "error", "text"], rows, words=5, wide=True)


def _levels(scale: Mapping[str, int], caption: str, wrong: Sequence[PredictionForm]) -> Block:
    """Show each answer beside the truth on the scale: a circle where the truth is, a dot where the answer is."""
    rows: list[list[str]] = []
    for one in wrong:
        truth, found = scale[one.label], scale[one.prediction]
        bar = "".join("\u25cb" if at == truth else "\u25cf" if at == found else "\u2013" for at in range(len(scale)))
        rows.append([*_told(one), f"{found - truth:+d}", bar, one.text])
    heads = ["where", "truth \u25cb", "answer \u25cf", "levels off", "on the scale", "text"]
    return TableBlock(caption, heads, rows, words=6, wide=True)


def _neighbours(caption: str, wrong: Sequence[PredictionForm]) -> Block:
    """Show a row's texts beside those that are closest to the first of them."""
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
        *(["found at place"] if ranked else ["truth", "cosine"]),
        "text | its own other text",
        "closest texts",
    ]
    return TableBlock(caption, heads, rows, words=len(heads), wide=True)


def _marked(caption: str, wrong: Sequence[PredictionForm]) -> Block:
    return MarkedTexts(caption, [marks.marked(one) for one in wrong])


def _pair(form: PredictionForm) -> tuple[Any, Any]:
    return form.label, form.prediction


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong(predictions: Sequence[PredictionForm], scale: Mapping[str, int]) -> list[PredictionForm]:
    wrong = [one for one in predictions if one.label != one.prediction]
    if scale:
        wrong.sort(key=lambda one: -abs(scale.get(str(one.label), -1) - scale.get(str(one.prediction), -1)))
    if all(_is_number(one.label) and _is_number(one.prediction) for one in wrong):
        wrong.sort(key=lambda one: -abs(one.label - one.prediction))
    return wrong
