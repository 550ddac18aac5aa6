"""Hyper-parameters by name: a search with Optuna over ordinary runs, on dev rows alone."""

from __future__ import annotations

from polytask.tuning.record import Tuning
from polytask.tuning.tune import tune

__all__ = ["Tuning", "tune"]
