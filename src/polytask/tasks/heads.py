"""The table of heads, by name; its rows are classes of `polytask.model.heads`, which fills it when it is imported."""

from __future__ import annotations

from typing import Any

from polytask.registry import Table

HEADS: Table[Any] = Table("head", {})
