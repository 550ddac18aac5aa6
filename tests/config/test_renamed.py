"""An option under a name of before is answered with the name of today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from polytask.config.explain import paths_of
from polytask.config.load import load_config
from polytask.config.renamed import FOREIGN, RENAMED, RENAMED_VALUES
from polytask.errors import ConfigError

SECTIONS = {
    "train": "train: {}",
    "schedule": "schedule: {strategy: dynamic, policy: stop_and_go}",
    "sharing": "sharing: {strategy: adaptive}",
}
TASKS = "tasks:\n  a: {type: classification, data: {train: a.csv}}\n"


def complaint(tmp_path: Path, text: str, *overrides: str) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value).replace(str(path), "run.yaml")


def section(name: str, old: str = "", value: str = "1") -> str:
    """Write a configuration with one section, in which an option may stand."""
    line = SECTIONS[name]
    if old:
        line = line.replace("}", f"{'' if line.endswith('{}') else ', '}{old}: {value}}}")
    return f"encoder: e\n{TASKS}{line}\n"


@pytest.mark.parametrize(("place", "old"), RENAMED)
def test_an_old_name_is_answered_with_the_new_one(tmp_path: Path, place: str, old: str) -> None:
    new = RENAMED[place, old]
    told = rf"{place}\.{old}: this option is now called {new}(; write {new}: .+)?"
    assert re.fullmatch(rf"run\.yaml:4: {told}", complaint(tmp_path, section(place, old)))
    assert re.fullmatch(rf"--set {place}\.{old}: {told}", complaint(tmp_path, section(place), f"{place}.{old}=1"))


@pytest.mark.parametrize(("place", "old"), RENAMED)
@pytest.mark.parametrize("above", ["", "tasks.a."])
def test_in_another_section_the_whole_path_is_told(tmp_path: Path, place: str, old: str, above: str) -> None:
    told = complaint(tmp_path, section("train"), f"{above}{old}=1")
    if old in ("loss", "measurements"):  # elsewhere they may mean something else
        assert "is now called" not in told
    else:
        assert f"{above}{old}: this option is now called {place}.{RENAMED[place, old]}" in told


@pytest.mark.parametrize("name", FOREIGN)
def test_a_name_of_another_library_is_answered_with_ours(tmp_path: Path, name: str) -> None:
    meant = FOREIGN[name]
    above, _, leaf = meant.rpartition(".")
    assert meant in paths_of(leaf)
    assert not paths_of(name)
    beside = f"{above.replace('NAME', 'a')}.{name}" if above else name
    assert complaint(tmp_path, section("train"), f"{beside}=1").endswith(f"; did you mean {leaf!r}?")
    assert f"did you mean {meant!r}?" in complaint(tmp_path, section("train"), f"schedule.{name}=1")


@pytest.mark.parametrize(("option", "old"), RENAMED_VALUES)
def test_an_old_value_is_answered_with_the_new_one(tmp_path: Path, option: str, old: str) -> None:
    text = f"encoder: e\n{TASKS}sharing: {{strategy: independent, {option}: {old}}}\n"
    new = RENAMED_VALUES[option, old]
    assert complaint(tmp_path, text) == f"run.yaml:4: sharing.{option}: found {old!r}; it is now called {new!r}"


def test_the_new_names_are_options_and_the_old_ones_are_not() -> None:
    assert len(RENAMED) == 10
    for (place, old), new in RENAMED.items():
        assert f"{place}.{new}" in paths_of(new)
        assert f"{place}.{old}" not in paths_of(old)
