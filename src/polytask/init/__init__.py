"""A first configuration from data files: what their columns hold, proposed as tasks with the reasons as comments."""

from __future__ import annotations

from polytask.init.start import InitResult, init

__all__ = ["InitResult", "init"]
