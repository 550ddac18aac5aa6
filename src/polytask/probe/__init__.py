"""The probe: a short run from which the tasks' relatedness is measured, and what a comparison adds to it."""

from polytask.probe.relate import relate

__all__ = ["relate"]
