"""What the tests of the command line share: the file of a small job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Job = Callable[..., dict[str, Any]]


@pytest.fixture
def config(job: Job, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(job(rows=40, max_steps=3), sort_keys=False), "utf-8")
    return path
