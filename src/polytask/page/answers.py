"""What the kept model answered: confusion matrices, and rows that it gets wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from polytask.page.block import Block, Missing, TableBlock, TextBlock, answer, count, drawn
from polytask.page.chart import heat_map
from polytask.page.folder import RunFolder
from polytask.page.form import ConfusionForm, PredictionForm
from polytask.page.reading import read_predictions

SHOWN = 8  # rows a task


def confusions(run: RunFolder) -> Iterator[Block]:
    """Yield a matrix for each task that has one."""
    found = run.confusion
    if found.value is None:
        yield Missing(f"{found.problem}" + ("" if run.finished else " It is written when the run is finished."))
        return
    charts = [
        heat_map(task, matrix.labels, matrix.labels, _shares(matrix), most=1.0, texts=_texts(matrix))
        for task, matrix in found.value.items()
        if _is_square(matrix)
    ]
    caption = (
        "Rows are the truth, columns the answer. Numbers count texts, or spans (O: there is none). The colour is "
        "their share of the row."
    )
    yield drawn(charts, "no task has one: they are drawn for classes and for spans.", caption)
    broken = [task for task, matrix in found.value.items() if not _is_square(matrix)]
    if broken:
        yield Missing(f"the matrix of {', '.join(broken)} in confusion.json is not as large as its labels say.")


def _is_square(matrix: ConfusionForm) -> bool:
    size = len(matrix.labels)
    return len(matrix.counts) == size and all(len(row) == size for row in matrix.counts)


def _shares(matrix: ConfusionForm) -> list[list[float | None]]:
    return [[value / (sum(row) or 1) for value in row] for row in matrix.counts]


def _texts(matrix: ConfusionForm) -> list[list[str]]:
    return [[str(value) for value in row] for row in matrix.counts]


def answers(run: RunFolder) -> Iterator[Block]:
    """Yield some rows of each task that the model gets wrong; of numbers, those that are the furthest off."""
    if not (run.folder / "predictions").is_dir():
        yield Missing(
            "predictions/ is not in the folder" + ("." if run.finished else "; it is written when the run is finished.")
        )
        return
    for task in run.tasks:
        found = read_predictions(run.folder, task)
        if found.problem:
            yield Missing(f"{task}: {found.problem}")
        if not found.values:
            continue
        wrong = _wrong(found.values)
        split = run.record.predicted_split.get(task, run.final_split)
        if not wrong:
            yield TextBlock(f"{task}: all {count(len(found.values))} answers on the {split} rows are right.")
            continue
        rows = [[f"{one.row}", answer(one.label), answer(one.prediction), one.text] for one in wrong[:SHOWN]]
        caption = (
            f"{task}: {len(rows)} of {count(len(wrong))} wrong answers, of {count(len(found.values))} {split} rows"
        )
        yield TableBlock(caption, ["row", "truth", "answer", "text"], rows, words=4, wide=True)


def _wrong(predictions: Sequence[PredictionForm]) -> list[PredictionForm]:
    wrong = [one for one in predictions if one.label != one.prediction]
    if all(isinstance(one.label, int | float) and isinstance(one.prediction, int | float) for one in wrong):
        wrong.sort(key=lambda one: -abs(one.label - one.prediction))
    return wrong
