"""Polytask: one text model for several tasks; choose what they share, when each trains, and see whether it paid."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from polytask.version import __version__ as __version__

if TYPE_CHECKING:
    from polytask.api import Evaluation, evaluate, train
    from polytask.artifact.composition import compose
    from polytask.batch.predictor import BatchPredictor
    from polytask.comparison import Comparison, compare
    from polytask.config import Config
    from polytask.errors import (
        ConfigError,
        DataError,
        Interrupted,
        MissingExtra,
        ModelError,
        NothingToResume,
        OutputError,
        PolytaskError,
        ProcessLost,
        TrainingError,
        UserError,
    )
    from polytask.exports import Exported, export
    from polytask.extension import extend
    from polytask.page import report
    from polytask.predict.load import load
    from polytask.predict.predictor import Model
    from polytask.preflight import Check, check
    from polytask.probe import relate
    from polytask.relatedness.record import Relatedness
    from polytask.run import Run
    from polytask.search.search import AutoResult, auto
    from polytask.serving import serve
    from polytask.tuning import Tuning, tune

# torch and transformers take seconds to import: each name is loaded when it is first used.
_HOMES = {
    "polytask.api": ("Evaluation", "evaluate", "train"),
    "polytask.artifact.composition": ("compose",),
    "polytask.batch.predictor": ("BatchPredictor",),
    "polytask.comparison": ("Comparison", "compare"),
    "polytask.config": ("Config",),
    "polytask.errors": (
        "ConfigError", "DataError", "Interrupted", "MissingExtra", "ModelError", "NothingToResume", "OutputError",
        "PolytaskError", "ProcessLost", "TrainingError", "UserError",
    ),
    "polytask.exports": ("Exported", "export"),
    "polytask.extension": ("extend",),
    "polytask.page": ("report",),
    "polytask.predict.load": ("load",),
    "polytask.predict.predictor": ("Model",),
    "polytask.preflight": ("Check", "check"),
    "polytask.probe": ("relate",),
    "polytask.relatedness.record": ("Relatedness",),
    "polytask.run": ("Run",),
    "polytask.search.search": ("AutoResult", "auto"),
    "polytask.serving": ("serve",),
    "polytask.tuning": ("Tuning", "tune"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AutoResult",
    "BatchPredictor",
    "Check",
    "Comparison",
    "Config",
    "ConfigError",
    "DataError",
    "Evaluation",
    "Exported",
    "Interrupted",
    "MissingExtra",
    "Model",
    "ModelError",
    "NothingToResume",
    "OutputError",
    "PolytaskError",
    "ProcessLost",
    "Relatedness",
    "Run",
    "TrainingError",
    "Tuning",
    "UserError",
    "auto",
    "check",
    "compare",
    "compose",
    "evaluate",
    "export",
    "extend",
    "load",
    "relate",
    "report",
    "serve",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOME_OF:
        raise AttributeError(f"module 'polytask' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME_OF[name]), name)
    except ModuleNotFoundError as error:
        from polytask.errors import missing_extra

        raise missing_extra(error, f"polytask.{name}") or error from None


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
