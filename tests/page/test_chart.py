"""Drawings: what is drawn can be seen, lies inside, and is told apart without colour."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.page.chart import Dot, Line, forest, heat_map, line_chart, tree
from polytask.page.chart.svg import COLOURS, cut, ink, spread, text_width, ticks
from polytask.page.form import PlanForm

numbers = st.floats(-1e12, 1e12, allow_nan=False)


def contrast(one: str, other: str) -> float:
    light = [
        0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
        for colour in (one, other)
        for parts in [[linear(int(colour[place : place + 2], 16) / 255) for place in (1, 3, 5)]]
    ]
    return (max(light) + 0.05) / (min(light) + 0.05)


def linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4


@given(st.lists(numbers, min_size=1, max_size=40))
def test_a_line_of_any_numbers_lies_inside_its_drawing(values: list[float]) -> None:
    chart = line_chart("title", [Line("a", list(enumerate(values))), Line("b", [(0, 0.0)])])
    assert chart is not None
    height = float(re.search(r'height="([\d.]+)"', chart.svg)[1])  # type: ignore[index]
    points = re.findall(r'polyline points="([^"]+)"', chart.svg)
    assert len(points) == 2
    for pair in " ".join(points).split():
        x, y = map(float, pair.split(","))
        assert 0 <= x <= 350
        assert 0 <= y <= height


def test_lines_are_thinned_but_keep_their_ends() -> None:
    known = Line("a", [(step, float(step)) for step in range(10_000)]).known()
    assert len(known) == 200
    assert known[0] == (0, 0.0)
    assert known[-1] == (9999, 9999.0)


def test_twelve_lines_differ_without_colour() -> None:
    chart = line_chart("title", [Line(f"task {index}", [(0, 0.0), (1, 1.0)]) for index in range(12)])
    assert chart is not None
    looks = re.findall(r'<polyline [^>]*stroke="(#\w+)"[^>]*stroke-dasharray="([^"]*)"', chart.svg)
    assert len(set(looks)) == 12
    assert len(re.findall(r">task \d+<", chart.svg)) == 12


@pytest.mark.parametrize("values", [[], [None], [float("nan")], [float("inf"), None]])
def test_nothing_to_draw_is_no_drawing(values: list[float | None]) -> None:
    assert line_chart("title", [Line("a", list(enumerate(values)))]) is None
    assert forest("title", [Dot("a", value, "") for value in values]) is None
    assert heat_map("title", ["a"] * len(values), ["b"], [[value] for value in values], most=1.0) is None


def test_a_plan_that_is_no_tree_is_no_drawing() -> None:
    assert tree("title", PlanForm(tasks=["a", "b"], levels=[[["a"]]])) is None
    assert tree("title", PlanForm(tasks=[], levels=[])) is None


def test_a_tree_has_a_box_for_each_part_and_an_edge_into_each() -> None:
    levels = [[["a", "b", "c"]], [["a", "b", "c"]], [["a", "c"], ["b"]]]
    chart = tree("title", PlanForm(tasks=["a", "b", "c"], levels=levels))
    assert chart is not None
    assert chart.svg.count("<rect") == 3
    assert chart.svg.count("<path") == 2 + 3
    assert "layer 1: shared by a, b, c" in chart.svg
    assert "layer 2: only b" in chart.svg


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e9))
def test_ticks_are_round_and_within(low: float, size: float) -> None:
    found = ticks(low, low + size)
    assert len(found) <= 7
    assert all(low - 1e-3 * size <= value <= low + size + 1e-3 * size for value in found)


@given(st.text(min_size=1, max_size=80), st.floats(30, 200))
def test_a_cut_text_fits(text: str, width: float) -> None:
    assert text_width(cut(text, width)) <= width


def test_a_cut_name_keeps_its_beginning_and_its_end() -> None:
    assert re.fullmatch(r"sentim.*\u2026.*small", cut("sentiment_of_reviews_of_films_small", 130))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=10))
def test_places_are_moved_apart_in_their_order(places: list[float]) -> None:
    moved = spread(places, 10, 0, 100)
    order = sorted(range(len(places)), key=lambda index: places[index])
    gaps = [moved[b] - moved[a] for a, b in pairwise(order)]
    assert all(gap >= 10 - 1e-9 for gap in gaps)
    assert min(moved) >= -1e-9
    assert max(moved) <= 100 + 1e-9


@given(st.integers(0, 0xFFFFFF))
def test_text_on_any_cell_can_be_read(colour: int) -> None:
    background = f"#{colour:06x}"
    assert contrast(ink(background).replace("#000", "#000000").replace("#fff", "#ffffff"), background) >= 4.5


def test_lines_stand_out_from_the_page() -> None:
    assert all(contrast(colour, "#ffffff") >= 2.2 for colour in COLOURS)
