"""The page of a relatedness folder: matrices, groups, the proposed plan, its cost, and its predictions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from polytask.page.block import (
    Banner,
    Block,
    BulletList,
    Chart,
    Code,
    Details,
    MissingNote,
    Page,
    Section,
    TableBlock,
    TextBlock,
    drawn,
    ordered,
)
from polytask.page.chart import heat_map, tree
from polytask.page.chart.svg import finite
from polytask.page.form import Matrix
from polytask.page.reading import read
from polytask.page.search_form import MeasureForm, RelatednessForm
from polytask.page.wording import count, number
from polytask.terminal import duration


def relatedness_page(folder: Path) -> Page:
    """Return the page of a relatedness folder."""
    record = read(folder, "relatedness.json", RelatednessForm)
    title = f"Relatedness {folder.resolve().name}"
    if record.value is None:
        return Page(
            title, "How related are the tasks", [MissingNote(f"{record.problem} There is nothing else to show.")]
        )
    value = record.value
    lead: list[Block] = [_answer(value)] if value.groups else []
    lead += [BulletList(value.sentences)] if value.sentences else []
    sections = [
        Section("Measures", list(_measures(value))),
        Section("Groups and the proposed plan", list(_groups(folder, value))),
        Section("What each measure predicted", list(_predictions(value))),
        Section("Cost", [_cost(value)], folded=True, hint=_share(value)),
    ]
    return Page(title, f"How related are {len(value.tasks)} tasks", lead, ordered(sections))


def _answer(value: RelatednessForm) -> Block:
    """Return a banner that says which tasks help each other."""
    by = f"By the {value.grouped_by.replace('_', ' ')}. " if value.grouped_by else ""
    together = [" + ".join(group) for group in value.groups if len(group) > 1]
    alone = [group[0] for group in value.groups if len(group) == 1]
    if len(value.groups) == 1:
        title = "All tasks together"
    elif together:
        title = "; ".join([f"Together: {', '.join(together)}", *([f"apart: {', '.join(alone)}"] if alone else [])])
    else:
        title = "Each task separately"
    explanation = f"{by}This is a proposal from a probe run; polytask compare measures the effect."
    return Banner("Which tasks should share?", title, explanation)


def _groups(folder: Path, value: RelatednessForm) -> Iterator[Block]:
    by = f", grouped by {value.grouped_by.replace('_', ' ')}" if value.grouped_by else ""
    if value.groups:
        yield TextBlock(f"{len(value.groups)} group{'s' if len(value.groups) > 1 else ''}{by}:")
        yield BulletList([", ".join(group) for group in value.groups])
    else:
        yield MissingNote("relatedness.json does not contain the groups.")
    charts = [] if value.plan is None else [tree("The proposed plan", value.plan)]
    yield drawn(
        charts,
        "relatedness.json does not contain the proposed plan.",
        "A box is one set of weights; dashed boxes serve a single task.",
    )
    if value.picture:
        yield Details("The same plan as text", [Code("The plan", value.picture)])
    if (folder / "affinity.json").is_file():
        yield Code(
            "To train with it, in the configuration (the path is relative to it)",
            "sharing: {strategy: from_affinity, file: affinity.json}",
        )


def _measures(value: RelatednessForm) -> Iterator[Block]:
    if not value.measures:
        yield MissingNote("relatedness.json contains no measures.")
    # The cosine first: groups are based on it, and it is the only measure whose sign has been validated.
    for name, measure in sorted(value.measures.items(), key=lambda item: "cosine" not in item[0]):
        yield from _measure(name.replace("_", " "), measure, value.tasks)


def _measure(title: str, measure: MeasureForm, tasks: Sequence[str]) -> Iterator[Block]:
    matrices = [measure.matrix or [], *measure.layers.values()]
    most = max((size_of(matrix) for matrix in matrices), default=0.0)  # one scale for all matrices of a measure
    noise = _noise(measure)
    meaning = f"{measure.meaning[:1].upper()}{measure.meaning[1:]}. " if measure.meaning else ""
    caption = f"{meaning}Rows and columns are tasks. Blue is above zero, orange below; the diagonal has no colour."
    caption += " Grey: within two standard errors of zero, so possibly noise." if noise else ""
    yield drawn([task_matrix(title, tasks, measure.matrix or [], most, noise)], f"{title} has no values.", caption)
    if measure.error is not None:
        errors = task_matrix(f"{title}: standard error", tasks, measure.error)
        yield Details(f"Standard errors of {title}", [drawn([errors], "they are not a matrix of the tasks.")])
    if measure.layers:
        charts = [
            task_matrix(f"{title}, layer {layer}", tasks, layer_matrix, most)
            for layer, layer_matrix in measure.layers.items()
        ]
        yield Details(f"{title} in each of {len(charts)} layers", [drawn(charts, "the layers have no values.")])


def _noise(measure: MeasureForm) -> set[tuple[int, int]]:
    """Return the cells (row, column) that lie within two standard errors of zero."""
    return {
        (row, column)
        for row, (values, errors) in enumerate(zip(measure.matrix or [], measure.error or [], strict=False))
        for column, (value, error) in enumerate(zip(values, errors, strict=False))
        if row != column and value is not None and error is not None and abs(value) <= 2 * abs(error)
    }


def size_of(matrix: Matrix) -> float:
    """Return the largest absolute value off the diagonal."""
    apart = [value for row, values in enumerate(matrix) for column, value in enumerate(values) if row != column]
    return max((abs(value) for value in finite(apart)), default=0.0)


def task_matrix(
    title: str,
    tasks: Sequence[str],
    matrix: Matrix,
    most: float | None = None,
    grey: Collection[tuple[int, int]] = (),
) -> Chart | None:
    """Draw a matrix of tasks; None if it is not one.

    Args:
        title: title of the chart.
        tasks: names of the rows and columns.
        matrix: the values.
        most: absolute value that gets the full colour; by default the largest one.
        grey: cells that may be noise.
    """
    if len(matrix) != len(tasks) or any(len(row) != len(tasks) for row in matrix):
        return None
    full = size_of(matrix) if most is None else most
    texts = [[_fitting(value, full) for value in row] for row in matrix]
    # The diagonal says nothing about pairs of tasks, and would make all other cells pale: it is white, like 0.
    coloured = [
        [0.0 if row == column else value for column, value in enumerate(values)] for row, values in enumerate(matrix)
    ]
    return heat_map(title, tasks, tasks, coloured, most=full or 1.0, texts=texts, grey=grey)


def _fitting(value: float | None, most: float) -> str:
    """Format a value with the digits that the matrix needs, or with an exponent if it would become zero."""
    if value is None or not finite([value]):
        return "\u2013"
    shown = number(value, 2 if most >= 0.1 else 3 if most >= 0.01 else 4)
    if most < 0.01 and value and not float(shown.replace("\u2212", "-")):
        return f"{value:.0e}".replace("e-0", "e-").replace("-", "\u2212")
    return shown


def _predictions(value: RelatednessForm) -> Iterator[Block]:
    """Yield how well the measures predicted the effects of joint training, if a comparison measured these."""
    if not value.rank_correlation:
        return
    rows = [
        [name.replace("_", " "), number(correlation.spearman, 2), count(correlation.pairs)]
        for name, correlation in value.rank_correlation.items()
    ]
    caption = "Rank correlation with the measured transfer (Spearman)"
    yield TableBlock(caption, ["measure", "correlation", "pairs"], rows)


def _share(value: RelatednessForm) -> str:
    share = value.cost.share_of_joint_run if value.cost is not None else None
    return "" if share is None else f"{100 * share:.1f} % of one joint run"


def _cost(value: RelatednessForm) -> Block:
    cost = value.cost
    if cost is None:
        return MissingNote("relatedness.json does not contain the cost.")
    share = "unknown" if cost.share_of_joint_run is None else f"{100 * cost.share_of_joint_run:.1f} %"
    rows = [
        ["share of one joint run", share],
        ["rows passed through the encoder", count(cost.row_passes)],
        ["rows of one joint run", count(cost.joint_row_passes)],
        ["time", duration(cost.seconds)],
    ]
    return TableBlock("What the measurement cost", ["measure", "value"], rows)
