"""Labels with their texts, from a file that a person wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polytask.errors import ConfigError

_EXPECTED = (
    "expected labels with their texts, such as `sports: news about sport`; under the task's name where several ask"
)


def read_labels(file: Path) -> dict[str, Any]:
    """Read a YAML file. Raises ConfigError where it holds no labels."""
    import yaml

    try:
        found: Any = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"labels: {file}: cannot be read ({error}); {_EXPECTED}") from None
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise ConfigError(f"labels: {file}: not YAML ({told}); {_EXPECTED}") from None
    if not isinstance(found, dict) or not found:
        raise ConfigError(f"labels: {file}: found {found!r}; {_EXPECTED}")
    return found
