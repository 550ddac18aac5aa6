"""Relatedness of tasks: measures, the groups that follow, and how well each measure predicts a comparison.

Numbers in, numbers out: `polytask.probe` collects the evidence.
"""

from polytask.relatedness.measures import MEASURES, Evidence, Measure, MeasureResult

__all__ = ["MEASURES", "Evidence", "Measure", "MeasureResult"]
