"""A first configuration from data files: tasks proposed for their columns, with the reasons as comments."""

from __future__ import annotations

from polytask.init.start import InitResult, init

__all__ = ["InitResult", "init"]
