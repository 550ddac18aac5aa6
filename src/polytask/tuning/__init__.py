"""Hyperparameter search with Optuna: trials are ordinary runs, rated on dev rows only."""

from __future__ import annotations

from polytask.tuning.record import Tuning
from polytask.tuning.tune import tune

__all__ = ["Tuning", "tune"]
