"""A damaged file of a search is named, and doing what the message says lets the same command go on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from searching import GRAFTING, without_times

import polytask
from polytask.errors import OutputError, UserError

Searched = tuple[dict[str, Any], polytask.AutoResult]
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a line less": lambda content: b"".join(content.splitlines(keepends=True)[:-1]),
    "cut": lambda content: content[: len(content) * 2 // 3],
    "other JSON": lambda content: b"{}\n",
    "garbage": lambda content: b"\xff\x00garbage",
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("run", ["single", "joint"])
@pytest.mark.parametrize("name", ["predictions/topic.jsonl", "scores.json", "run.json"])
def test_a_damaged_file_of_a_run_is_named_with_what_helps(
    searched: Searched, tmp_path: Path, name: str, run: str, damage: str
) -> None:
    values, found = searched
    out = tmp_path / "out"
    shutil.copytree(found.folder, out)
    winner = [row["run"] for row in found.record["candidates"] if row["share"] == 1][-1]
    place = out / (found.record["singles_runs"]["topic"] if run == "single" else winner)
    file = place / name
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    with pytest.raises(UserError) as told:
        polytask.auto(values, out, **GRAFTING)
    assert str(told.value).startswith(f"{file}: ")
    (doomed,) = re.findall(r"delete (\S+), and the same command trains it again", str(told.value))
    assert Path(doomed) == place
    if damage == "a line less":  # each of them leads to the same advice
        shutil.rmtree(doomed)
        assert without_times(polytask.auto(values, out, **GRAFTING).record) == without_times(found.record)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_a_damaged_configuration_is_not_called_another_one(searched: Searched, tmp_path: Path, damage: str) -> None:
    values, found = searched
    out = tmp_path / "out"
    shutil.copytree(found.folder, out)
    file = out / "auto-config.json"
    before = file.read_bytes()
    file.write_bytes(DAMAGES[damage](before))
    with pytest.raises(OutputError, match=r"auto-config\.json: cannot be read \(.*restore it, or name another --out"):
        polytask.auto(values, out, **GRAFTING)
    file.write_bytes(before)
    assert without_times(polytask.auto(values, out, **GRAFTING).record) == without_times(found.record)
