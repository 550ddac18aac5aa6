"""An encoder that is sharded over processes trains as one that each of them holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from several_processes import without_dropout
from test_distribution import BRANCH, gradients, require_same

Job = Callable[..., dict[str, Any]]


def sharded(values: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {**values, "train": {**values["train"], "fsdp": True, **options}}


@pytest.mark.usefixtures("quick_processes")
def test_two_processes_that_share_out_the_encoder_make_the_update_of_one(job: Job, tmp_path: Path) -> None:
    plain = without_dropout(job())
    cases = {"sum": plain, "branch": {**plain, "sharing": BRANCH}}
    alone = gradients(cases, tmp_path / "one", 1)
    require_same(gradients({name: sharded(case) for name, case in cases.items()}, tmp_path / "two", 2), alone)
