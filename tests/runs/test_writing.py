"""Files and folders are written whole or not at all, and a sealed folder tells when it is not what was written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask import files
from polytask.errors import OutputError
from polytask.files import (
    SEAL,
    Damaged,
    discard,
    new_folder,
    put_in_place,
    seal,
    sealed_facts,
    unseal,
    write_json,
)


def full(handle: int) -> None:
    raise OSError(28, os.strerror(28))


def test_a_json_file_on_a_full_disk_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "a.json", [1])
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a.json: cannot be written \(No space left on device\); free space"):
        write_json(tmp_path / "a.json", [2])
    assert json.loads((tmp_path / "a.json").read_text()) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_new_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(files, "sync_folder", lambda folder: seen.append((tmp_path / "model").exists()))
    with new_folder(tmp_path / "model") as folder:
        (folder / "file").write_text("whole")
    assert seen == [False]
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "file"]


def test_files_of_new_and_of_sealed_folders_have_the_mode_of_new_files(tmp_path: Path) -> None:
    def private(path: Path) -> None:
        path.touch()
        path.chmod(0o600)

    before = os.umask(0o027)
    try:
        with new_folder(tmp_path / "model") as folder:
            (folder / "task").mkdir()
            private(folder / "weights")
            private(folder / "task" / "weights")
        sealed = tmp_path / "sealed"
        sealed.mkdir()
        private(sealed / "weights")
        seal(sealed)
    finally:
        os.umask(before)
    found = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert len(found) == 4
    assert set(found.values()) == {0o640}
    assert set(unseal(sealed)) == set()


def test_a_new_folder_that_fails_leaves_nothing_and_sweeps_what_was_left(tmp_path: Path) -> None:
    (tmp_path / ".writing-model-0123").mkdir()
    (tmp_path / ".writing-other-0123").mkdir()
    with pytest.raises(OutputError, match="model: the model cannot be written"), new_folder(tmp_path / "model"):
        raise OSError(28, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == [".writing-other-0123"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="cannot be written"), new_folder(tmp_path / "file" / "model"):
        pass


def sealed(folder: Path) -> Path:
    folder.mkdir()
    (folder / "weights").write_bytes(bytes(range(256)) * 8)
    (folder / "state.json").write_text('{"step": 3}')
    seal(folder, step=3, best=["best-1"])
    return folder


def test_a_sealed_folder_gives_back_its_facts(tmp_path: Path) -> None:
    folder = sealed(tmp_path / "a")
    assert unseal(folder) == sealed_facts(folder) == {"step": 3, "best": ["best-1"]}


@given(st.data())
def test_any_damage_to_a_sealed_folder_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = sealed(tmp_path_factory.mktemp("sealed") / "a")
    path = folder / data.draw(st.sampled_from(["weights", "state.json", SEAL]))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["cut", "flip", "zero", "longer", "gone", "a folder"]))
    if kind == "gone":
        path.unlink()
    elif kind == "a folder":
        path.unlink()
        path.mkdir()
    else:
        flipped = bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))])
        made = {
            "cut": whole[:at],
            "flip": whole[:at] + flipped + whole[at + 1 :],
            "zero": whole[:at] + b"\0" * (len(whole) - at),
            "longer": whole + b"x",
        }[kind]
        if made == whole:
            return
        path.write_bytes(made)
    if path.name == SEAL and kind == "flip" and _says_the_same(path, whole):
        return
    with pytest.raises(Damaged, match=r"weights|state\.json|sha256\.json"):
        unseal(folder)


def _says_the_same(path: Path, whole: bytes) -> bool:
    """White space between the values of a JSON file may change and say the same."""
    try:
        return json.loads(path.read_bytes()) == json.loads(whole)
    except ValueError:
        return False


def test_a_folder_takes_the_place_of_another_one_or_of_a_file(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("a file of an earlier form")
    for text in ("one", "two"):
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "file").write_text(text)
        put_in_place(tmp_path / "new", target)
        assert (target / "file").read_text() == text
    discard(target)
    assert list(tmp_path.iterdir()) == []
