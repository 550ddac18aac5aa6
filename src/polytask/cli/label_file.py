"""Labels with their texts, from a file that a person wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polytask.config.document import parse
from polytask.errors import ConfigError

_EXPECTED = (
    "expected labels with their texts, such as `sports: news about sport`; under the task's name where several ask"
)


def read_labels(file: Path) -> dict[str, Any]:
    """Read a YAML file, whose keys stay as they are written: `no` is a label. Raises ConfigError where it has none."""
    try:
        text = file.read_text("utf-8-sig")
        found = parse(text, f"labels: {file}")[0] if text.strip() else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"labels: {file}: cannot be read ({error}); {_EXPECTED}") from None
    except ConfigError as error:
        raise ConfigError(f"{error}; {_EXPECTED}") from None
    if not isinstance(found, dict) or not found:
        raise ConfigError(f"labels: {file}: found {found!r}; {_EXPECTED}")
    return found
