"""A cached file is made once, is used as it was written or not at all, and a cache that cannot be written is told."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data import cache as cache_module
from polytask.data.cache import DATA, cache_dir, cached
from polytask.data.encode import encode_table
from polytask.data.prepare import read_tables
from polytask.data.tokens import Tokenization
from polytask.errors import DataError, OutputError
from polytask.lock import in_use
from polytask.tasks import TaskOptions
from samples import files_up_to

Build = Callable[..., TaskOptions]
Write = Callable[..., str]


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_WHOLE", {})


def another_process() -> None:
    cache_module._WHOLE.clear()


def test_a_file_is_made_once_and_checked_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    hashed: list[Path] = []
    unseal = cache_module.unseal
    monkeypatch.setattr(cache_module, "unseal", lambda folder: (hashed.append(folder), unseal(folder))[1])

    def make(path: Path) -> None:
        made.append(path)
        path.write_text("content")

    for _ in range(3):
        assert cached("a.json", make).read_text() == "content"
    assert (len(made), len(hashed)) == (1, 1)
    another_process()
    cached("a.json", make)
    assert (len(made), len(hashed)) == (1, 2)
    assert stat.S_IMODE(cached("a.json", make).stat().st_mode) & 0o044, "others may read a cache that they share"


@given(st.data())
def test_a_damaged_file_is_made_anew_with_a_note(
    caplog: pytest.LogCaptureFixture, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = data.draw(st.binary(min_size=1, max_size=200))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYTASK_CACHE", str(tmp_path_factory.mktemp("cache")))
        path = cached("a", lambda target: target.write_bytes(whole) and None)
        at = data.draw(st.integers(0, len(whole) - 1))
        kind = data.draw(st.sampled_from(["cut", "flip", "gone", "no hashes"]))
        if kind == "gone":
            path.unlink()
        elif kind == "no hashes":
            path.with_name("sha256.json").write_text("{}")
        else:
            path.write_bytes(whole[:at] + (b"" if kind == "cut" else bytes([whole[at] ^ 1]) + whole[at + 1 :]))
        another_process()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert cached("a", lambda target: target.write_bytes(whole) and None).read_bytes() == whole
        assert "the cached file is damaged" in caplog.text
        assert "will be recreated" in caplog.text
        assert [folder.name for folder in cache_dir().iterdir()] == ["a"]


def test_cut_tokens_never_train_on_fewer_rows(
    options: Build, jsonl: Write, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(3500)]
    files = jsonl(rows), jsonl(rows[:4], "dev.jsonl")
    task = {"t": options("classification", files[0], dev=files[1], label="label")}
    tokens = Tokenization.of(tokenizer, 16)

    def read() -> list[int]:
        tables = read_tables(task)
        source = encode_table(tables.tables["train"][0], tables.tasks, tokens)
        return [len(source), len(source.raw), len(source.carries["t"]), len(source.ids[3499])]

    whole = read()
    assert whole[:3] == [3500] * 3
    for kind in ("rows", "tokens"):
        path = max(cache_dir().glob(f"*.{kind}.arrow"), key=lambda found: (found / DATA).stat().st_size) / DATA
        size, before = path.stat().st_size, path.read_bytes()
        for left in (size * 2 // 3, size - 8, 0):
            path.write_bytes(before[:left])
            another_process()
            caplog.clear()
            assert read() == whole
            assert caplog.text.count("will be recreated") == 1
            path = path.parent / DATA
            assert path.read_bytes() == before


def test_a_full_cache_is_told_and_nothing_is_left_of_the_file(options: Build, jsonl: Write) -> None:
    rows = [{"text": f"text {number} " * 50, "label": "ab"[number % 2]} for number in range(200)]
    task = {"t": options("classification", jsonl(rows), dev=jsonl(rows[:4], "dev.jsonl"), label="label")}
    told = r"cache: the cache cannot be written \(.*[Ff]ile too large.*\); free space there, or name .*POLYTASK_CACHE"
    with files_up_to(20_000), pytest.raises(OutputError, match=told):
        read_tables(task)
    assert list(cache_dir().iterdir()) == []
    assert len(read_tables(task).tables["train"][0].rows) == 200


def failing(number: int, name: Path | None = None) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_text("half")
        raise OSError(number, os.strerror(number), *([] if name is None else [str(name)]))

    return make


def test_what_is_wrong_with_the_data_is_not_told_of_the_cache(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)"):
        cached("a", failing(28))
    with pytest.raises(PermissionError, match="mine.jsonl"):
        cached("a", failing(13, tmp_path / "mine.jsonl"))
    with pytest.raises(DataError, match="row 3"):
        cached("a", lambda path: (_ for _ in ()).throw(DataError("row 3")))
    assert list(cache_dir().iterdir()) == []


@pytest.mark.parametrize("inside", [False, True])
def test_a_cache_that_is_no_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("POLYTASK_CACHE", str(tmp_path / "file" / "cache" if inside else tmp_path / "file"))
    with pytest.raises(OutputError, match=r"the cache cannot be written \((Not a directory|File exists)\)"):
        cached("a", lambda path: None)


def test_a_cache_that_may_only_be_read_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    cached("a", lambda path: path.write_text("content") and None)
    another_process()

    def refused(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(30, os.strerror(30), str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    assert cached("a", failing(1)).read_text() == "content"
    with pytest.raises(OutputError, match=r"the cache cannot be written \(Read-only file system\)"):
        cached("b", failing(1))


def test_left_overs_go_when_the_next_file_is_made_unless_their_process_lives() -> None:
    for name in (".making-dead", ".making-alive"):
        (cache_dir() / name).mkdir(parents=True)
        (cache_dir() / name / DATA).write_text("half")
    (cache_dir() / ".making-of-an-earlier-version").write_text("half")
    with in_use(cache_dir() / ".making-alive"):
        cached("a", lambda path: path.write_text("content") and None)
        assert {path.name for path in cache_dir().iterdir()} == {".making-alive", "a"}


def test_two_processes_that_make_the_same_file_end_with_one() -> None:
    def make(path: Path) -> None:
        cached("a", lambda other: other.write_text("first") and None)
        path.write_text("second")

    assert cached("a", make).read_text() == "first", "what another process made stays: it may be opening it"
    assert [path.name for path in cache_dir().iterdir()] == ["a"]


def test_a_file_of_an_earlier_form_is_made_anew() -> None:
    cache_dir().mkdir(parents=True)
    (cache_dir() / "a").write_text("as it was kept before")
    assert cached("a", lambda path: path.write_text("content") and None).read_text() == "content"


TOGETHER = """
import os, random, sys
from polytask.data import cache
rows = random.Random(int(sys.argv[1]))
for number in range(300):
    content = str(number % 60).encode() * 2000
    path = cache.cached(f"own-{sys.argv[1]}-{number}", lambda path: path.write_bytes(content))
    assert path.read_bytes() == content
    # Entries of all processes, some of which are damaged.
    entry = cache.cache_dir() / f"shared-{number % 60}"
    if sys.argv[2] == "damaged" and rows.random() < 0.1:
        cache._WHOLE.clear()
        try:
            (entry / "sha256.json").unlink()
        except FileNotFoundError:
            pass
    path = cache.cached(entry.name, lambda path: path.write_bytes(content))
    assert sys.argv[2] == "damaged" or path.read_bytes() == content
"""


@pytest.mark.parametrize("state", ["whole", "damaged"])
def test_processes_that_share_a_cache_do_not_disturb_each_other(quick_processes: None, state: str) -> None:
    commands = [[sys.executable, "-c", TOGETHER, str(number), state] for number in range(3)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    told = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], told
    assert not [path.name for path in cache_dir().iterdir() if path.name.startswith(".")]
