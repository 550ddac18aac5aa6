"""Labels with their texts, from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polytask.config.document import parse
from polytask.errors import ConfigError

_EXPECTED = (
    "expected labels with their texts, such as `sports: news about sport`; under the task's name if several tasks take "
    "labels"
)


def read_labels(file: Path) -> dict[str, Any]:
    """Read labels from a YAML file, keeping keys as text: `no` is a label. Raises ConfigError if there are none."""
    try:
        text = file.read_text("utf-8-sig")
        labels = parse(text, f"labels: {file}")[0] if text.strip() else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"labels: {file}: cannot be read ({error}); {_EXPECTED}") from None
    except ConfigError as error:
        raise ConfigError(f"{error}; {_EXPECTED}") from None
    if not isinstance(labels, dict) or not labels:
        raise ConfigError(f"labels: {file}: found {labels!r}; {_EXPECTED}")
    return labels
