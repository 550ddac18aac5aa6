"""Where the system refuses to write on, every form of export says so, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

import polytask as pt
from polytask.errors import OutputError
from polytask.exports import EXPORTS
from samples import files_up_to


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.parametrize("form", EXPORTS)
def test_a_file_that_cannot_be_written_whole_is_told_whatever_library_writes_it(
    form: str, three_tasks: Path, tmp_path: Path
) -> None:
    tasks = ["topic"] if form == "sentence-transformers" else None
    pt.export(three_tasks, tmp_path / "whole", to=form, tasks=tasks)
    sizes = sorted({path.stat().st_size for path in (tmp_path / "whole").rglob("*") if path.is_file()})
    assert len(sizes) > 3
    for size in sizes:
        with files_up_to(size - 1), pytest.raises(OutputError, match=r"cannot be written \(.*File too large"):
            pt.export(three_tasks, tmp_path / "out", to=form, tasks=tasks)
        assert [path.name for path in tmp_path.iterdir()] == ["whole"]
