"""The table of measures."""

from __future__ import annotations

from polytask.registry import Table
from polytask.relatedness.cka import cka
from polytask.relatedness.evidence import Evidence, Measure, MeasureResult
from polytask.relatedness.gradient_cosine import gradient_cosine
from polytask.relatedness.look_ahead import look_ahead
from polytask.relatedness.transfer import transfer

_MEASURES: dict[str, Measure] = {
    "gradient_cosine": Measure(
        "Gradient cosine", "1: they pull the shared weights in the same direction; below 0: against each other", True,
        gradient_cosine,
    ),
    "look_ahead": Measure(
        "Look-ahead (TAG)", "share of the column's loss that a step on the row's loss alone removes", True,
        look_ahead,
    ),
    "cka": Measure("Linear CKA", "similarity of single-task models' views of the same texts, from 0 to 1", False, cka),
    "transfer": Measure("Transfer", "change of the column's score by the row in the comparison", True, transfer),
}  # fmt: skip
MEASURES = Table("relatedness measure", _MEASURES, base=Measure)

__all__ = ["MEASURES", "Evidence", "Measure", "MeasureResult"]
