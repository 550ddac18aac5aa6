"""One self-contained HTML page about a run, a comparison, a search or relatedness, built from the folder alone."""

from polytask.page.report import report

__all__ = ["report"]
