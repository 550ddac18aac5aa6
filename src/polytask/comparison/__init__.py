"""Does sharing pay off? Arms under the same budget, single-task baselines, statistics, and a verdict in words."""

from __future__ import annotations

from polytask.comparison.compare import Comparison, compare

__all__ = ["Comparison", "compare"]
