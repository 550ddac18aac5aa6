"""The configuration: one typed tree, read from YAML with the line of every value."""

from __future__ import annotations

from polytask.config.load import Config, load_config, override_values, validate, values_of, with_fold, without_test

__all__ = ["Config", "load_config", "override_values", "validate", "values_of", "with_fold", "without_test"]
