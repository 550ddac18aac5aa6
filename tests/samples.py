"""Rows that several tests use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def corpus_rows(count: int) -> list[dict[str, Any]]:
    """Rows of the bundled corpus, from all of its files."""
    from polytask.corpus import texts

    found = [text.row() for text in texts()]
    return found[:: len(found) // count][:count]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as jsonl."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def close(found: Any, expected: Any) -> bool:
    """Say whether two answers are equal but for rounding."""
    if isinstance(found, dict):
        return found.keys() == expected.keys() and all(close(found[key], expected[key]) for key in found)
    if isinstance(found, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return found == pytest.approx(expected, abs=2e-6) if isinstance(found, float) else found == expected
