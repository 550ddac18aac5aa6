"""The configuration: one typed tree, read from YAML with the line of every value."""

from __future__ import annotations

from polytask.config.load import load_config, validate
from polytask.config.root import Config

__all__ = ["Config", "load_config", "validate"]
