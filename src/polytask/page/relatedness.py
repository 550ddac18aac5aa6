"""The page of a relatedness folder: matrices, groups, the proposed plan, what it cost, what it predicted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from polytask.page.block import (
    Block,
    Chart,
    Code,
    Listed,
    Missing,
    Page,
    Section,
    TableBlock,
    TextBlock,
    count,
    drawn,
    duration,
    number,
)
from polytask.page.chart import heat_map, tree
from polytask.page.chart.svg import finite
from polytask.page.form import Matrix, RelatednessForm
from polytask.page.reading import read


def relatedness_page(folder: Path) -> Page:
    """Return the page."""
    found = read(folder, "relatedness.json", RelatednessForm)
    title = f"Relatedness {folder.resolve().name}"
    if found.value is None:
        return Page(title, "How related are the tasks", [Missing(f"{found.problem} Nothing else is known here.")])
    value = found.value
    lead: list[Block] = [Listed(value.sentences)] if value.sentences else []
    sections = [
        Section("Groups and the proposed plan", list(_groups(folder, value))),
        Section("Measures", list(_measures(value))),
        Section("What each measure predicted", [_predictions(value)]),
        Section("Cost", [_cost(value)]),
    ]
    return Page(title, f"How related are {len(value.tasks)} tasks", lead, sections)


def _groups(folder: Path, value: RelatednessForm) -> Iterator[Block]:
    by = f", grouped by {value.grouped_by.replace('_', ' ')}" if value.grouped_by else ""
    if value.groups:
        yield TextBlock(f"{len(value.groups)} group{'s' if len(value.groups) > 1 else ''}{by}:")
        yield Listed([", ".join(group) for group in value.groups])
    else:
        yield Missing("the groups are not in relatedness.json.")
    charts = [] if value.plan is None else [tree("The proposed plan", value.plan)]
    yield drawn(
        charts,
        "the proposed plan is not in relatedness.json.",
        "A box is one set of weights; dashed boxes serve one task.",
    )
    if value.picture:
        yield Code("The same plan as text", value.picture)
    if (folder / "affinity.json").is_file():
        yield Code(
            "To train by it, in the configuration (the path is relative to it)",
            "sharing: {strategy: from_affinity, file: affinity.json}",
        )


def _measures(value: RelatednessForm) -> Iterator[Block]:
    if not value.measures:
        yield Missing("relatedness.json holds no measure.")
    for name, measure in value.measures.items():
        title = name.replace("_", " ")
        matrices = {title: measure.matrix or []}
        matrices |= {f"{title}, layer {layer}": found for layer, found in measure.layers.items()}
        most = max((size_of(matrix) for matrix in matrices.values()), default=0.0)  # one scale for all of a measure
        charts = [task_matrix(heading, value.tasks, matrix, most) for heading, matrix in matrices.items()]
        if measure.error is not None:
            charts.append(task_matrix(f"{title}: standard error", value.tasks, measure.error))
        caption = "Row and column are tasks. Blue is above zero, orange below; a task beside itself has no colour."
        yield drawn(charts, f"{title} has no value.", caption)


def size_of(matrix: Matrix) -> float:
    """Return the size of the greatest value beside the diagonal."""
    apart = [value for row, values in enumerate(matrix) for column, value in enumerate(values) if row != column]
    return max((abs(value) for value in finite(apart)), default=0.0)


def task_matrix(title: str, tasks: Sequence[str], matrix: Matrix, most: float | None = None) -> Chart | None:
    """Draw a matrix of tasks; None when it is not one.

    Args:
        most: the size of a value that has the full colour; by default that of the greatest one.
    """
    if len(matrix) != len(tasks) or any(len(row) != len(tasks) for row in matrix):
        return None
    full = size_of(matrix) if most is None else most
    texts = [[_fitting(value, full) for value in row] for row in matrix]
    # A task beside itself says nothing about two tasks, and would make all others pale.
    coloured = [
        [None if row == column else value for column, value in enumerate(values)] for row, values in enumerate(matrix)
    ]
    return heat_map(title, tasks, tasks, coloured, most=full or 1.0, texts=texts)


def _fitting(value: float | None, most: float) -> str:
    """Write a value with the digits that the matrix needs."""
    if not finite([value]):
        return "\u2013"
    return number(value, 2 if most >= 0.1 else 3 if most >= 0.01 else 4)


def _predictions(value: RelatednessForm) -> Block:
    if not value.rank_correlation:
        return Missing(
            "what the measures predicted is known after a comparison has measured what training together did."
        )
    rows = [
        [name.replace("_", " "), number(found.spearman, 2), count(found.pairs)]
        for name, found in value.rank_correlation.items()
    ]
    return TableBlock(
        "Rank correlation with the measured transfer (Spearman)", ["measure", "correlation", "pairs"], rows
    )


def _cost(value: RelatednessForm) -> Block:
    cost = value.cost
    if cost is None:
        return Missing("the cost is not in relatedness.json.")
    share = "unknown" if cost.share_of_joint_run is None else f"{100 * cost.share_of_joint_run:.1f} %"
    rows = [
        ["share of one joint run", share],
        ["rows passed through the encoder", count(cost.row_passes)],
        ["rows of one joint run", count(cost.joint_row_passes)],
        ["time", duration(cost.seconds)],
    ]
    return TableBlock("What the measurement cost", ["measure", "value"], rows)
