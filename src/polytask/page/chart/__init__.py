"""Drawings as SVG: one kind a file. Told apart by shape, dash and label, never by colour alone."""

from polytask.page.chart.dots import Dot, dot_chart
from polytask.page.chart.heat import heat_map
from polytask.page.chart.line import Line, line_chart
from polytask.page.chart.scatter import Point, scatter_chart
from polytask.page.chart.tree import tree

__all__ = ["Dot", "Line", "Point", "dot_chart", "heat_map", "line_chart", "scatter_chart", "tree"]
