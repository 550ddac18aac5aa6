"""SVG charts, one kind per file. Series differ in shape, dash pattern and label, never in colour alone."""

from polytask.page.chart.forest import Dot, forest
from polytask.page.chart.heat import heat_map
from polytask.page.chart.line import Line, line_chart
from polytask.page.chart.scatter import Point, scatter_chart
from polytask.page.chart.tree import tree

__all__ = ["Dot", "Line", "Point", "forest", "heat_map", "line_chart", "scatter_chart", "tree"]
