"""The probe: a short run that measures the tasks' relatedness, with optional evidence from a comparison."""

from polytask.probe.relate import relate

__all__ = ["relate"]
