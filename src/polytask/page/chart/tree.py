"""The sharing plan as a tree, from the text on the left through the layers to the tasks on the right."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from polytask.page.block import Chart
from polytask.page.chart.svg import COLOURS, WIDTH, canvas, cut, tag, text_width, write
from polytask.page.form import PlanForm

_ROW, _BOX, _GAP, _TOP, _LABEL = 26, 78, 22, 24, 150


def tree(title: str, plan: PlanForm) -> Chart | None:
    """Draw a plan: a box is one set of weights, as high as the tasks that use it; None if the plan is not a tree."""
    runs = _runs(plan)
    order = _order(plan)
    listed = sorted(plan.tasks)
    if not order or not runs or any(sorted(task for part in parts for task in part) != listed for _, parts in runs):
        return None
    place = {task: index for index, task in enumerate(order)}
    drawn: list[Markup] = []
    before: list[tuple[frozenset[str], float, float]] = []
    x = 2.0
    for name, parts in runs:
        drawn.append(write(x + _BOX / 2, 14, name, anchor="middle", fill="#555"))
        now: list[tuple[frozenset[str], float, float]] = []
        for part in parts:
            rows = [place[task] for task in part]
            top, bottom = _TOP + _ROW * min(rows) + 3, _TOP + _ROW * (max(rows) + 1) - 3
            middle = (top + bottom) / 2
            drawn.extend(_edge(end, from_y, x, middle) for other, end, from_y in before if frozenset(part) <= other)
            drawn.extend(_box(x, top, bottom, part, name))
            now.append((frozenset(part), x + _BOX, middle))
        before = now
        x += _BOX + _GAP
    room = min(_LABEL, max(map(text_width, order))) + 4
    for task in order:
        y = _TOP + _ROW * (place[task] + 0.5)
        drawn.extend(_edge(end, from_y, x, y) for other, end, from_y in before if task in other)
        drawn.append(write(x + 4, y + 4, cut(task, room), full=task))
    words = "; ".join(f"{name}: {' | '.join(', '.join(part) for part in parts)}" for name, parts in runs)
    width = x + room + 6
    svg = canvas(f"Tree, {title}. {words}.", width, _TOP + _ROW * len(order) + 4, *drawn)
    return Chart(title, svg, width > WIDTH)


def _runs(plan: PlanForm) -> list[tuple[str, list[list[str]]]]:
    """Merge adjacent levels with the same partition."""
    merged: list[tuple[int, int, list[list[str]]]] = []
    for number, level in enumerate(plan.levels):
        if merged and {frozenset(part) for part in merged[-1][2]} == {frozenset(part) for part in level}:
            merged[-1] = (merged[-1][0], number, merged[-1][2])
        else:
            merged.append((number, number, level))
    return [(_name(first, last), parts) for first, last, parts in merged]


def _name(first: int, last: int) -> str:
    if last == 0:
        return "embeddings"
    first = max(first, 1)
    return f"layer {first}" if first == last else f"layers {first}\u2013{last}"


def _order(plan: PlanForm) -> list[str]:
    """Order the tasks so that the tasks of a part are adjacent at every level."""
    place = {task: index for index, task in enumerate(plan.tasks)}

    def key(task: str) -> list[int]:
        parts = (next((part for part in level if task in part), [task]) for level in plan.levels)
        return [*(min(place.get(other, 0) for other in part) for part in parts), place[task]]

    return sorted(plan.tasks, key=key)


def _edge(x1: float, y1: float, x2: float, y2: float) -> Markup:
    middle = (x1 + x2) / 2
    path = f"M{x1:.2f} {y1:.2f} C{middle:.2f} {y1:.2f} {middle:.2f} {y2:.2f} {x2:.2f} {y2:.2f}"
    return tag("path", d=path, fill="none", stroke="#777", stroke_width=1.4)


def _box(x: float, top: float, bottom: float, part: Sequence[str], name: str) -> tuple[Markup, Markup]:
    shared = len(part) > 1
    look: dict[str, str | float] = {"fill": "#d9eaf5" if shared else "#fff", "stroke": COLOURS[0 if shared else 1]}
    look["stroke_dasharray"] = "" if shared else "4 2"
    title = tag("title", f"{name}: {'shared by' if shared else 'only'} {', '.join(part)}")
    box = tag("rect", title, x=x, y=top, width=_BOX, height=bottom - top, rx=4, stroke_width=1.5, **look)
    text = f"{len(part)} tasks" if shared else "own"
    return box, write(x + _BOX / 2, (top + bottom) / 2 + 4, text, anchor="middle")
