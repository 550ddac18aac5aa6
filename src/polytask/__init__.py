"""Polytask: one text model for several tasks; choose what they share, when each trains, and see whether it paid."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from polytask.version import __version__ as __version__

if TYPE_CHECKING:
    from polytask.api import Run, evaluate, evaluate_with_intervals, train
    from polytask.comparison import Comparison, compare
    from polytask.config import Config
    from polytask.errors import PolytaskError, UserError
    from polytask.exports import export
    from polytask.extension import extend
    from polytask.page import report
    from polytask.predict.load import load
    from polytask.predict.predictor import Model
    from polytask.probe import relate
    from polytask.relatedness.record import Relatedness

__all__ = [
    "Comparison",
    "Config",
    "Model",
    "PolytaskError",
    "Relatedness",
    "Run",
    "UserError",
    "compare",
    "evaluate",
    "evaluate_with_intervals",
    "export",
    "extend",
    "load",
    "relate",
    "report",
    "train",
]

# torch and transformers take seconds to import: each name is loaded when it is first used.
_HOMES = {
    "Comparison": "polytask.comparison",
    "Config": "polytask.config",
    "Model": "polytask.predict.predictor",
    "PolytaskError": "polytask.errors",
    "Relatedness": "polytask.relatedness.record",
    "Run": "polytask.api",
    "UserError": "polytask.errors",
    "compare": "polytask.comparison",
    "evaluate": "polytask.api",
    "export": "polytask.exports",
    "extend": "polytask.extension",
    "evaluate_with_intervals": "polytask.api",
    "load": "polytask.predict.load",
    "report": "polytask.page",
    "relate": "polytask.probe",
    "train": "polytask.api",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module 'polytask' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from polytask.errors import missing_extra

        raise missing_extra(error, f"polytask.{name}") or error from None


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
