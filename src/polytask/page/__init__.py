"""One self-contained HTML page about a run, a comparison or a measurement of relatedness. It reads folders only."""

from polytask.page.report import report

__all__ = ["report"]
