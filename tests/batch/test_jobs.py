"""Many files: every row answered once or told, whatever is killed, full, changed or planted meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polytask.batch.job import PredictionJob, predict_files
from polytask.batch.worker import WorkOptions
from polytask.errors import DataError, Interrupted, OutputError, PolytaskError, UserError
from polytask.lock import locked
from polytask.predict.columns import Columns
from samples import files_up_to

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="its workers are forks, found by /proc")
PYTHON = sys.executable  # itself, and no stand-in
Row = dict[str, Any]


def lines(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def rows_of(name: str, count: int, **others: str) -> list[Row]:
    """Rows with ids; others replace texts, by their places."""
    return [{"id": f"{name}{at}", "text": others.get(f"at{at}", f"text {'x' * at}")} for at in range(count)]


def job(folder: Path, *files: Path, out: Path, workers: int = 1, **work: Any) -> PredictionJob:
    return PredictionJob(tuple(map(str, files)), out, WorkOptions(str(folder), **work), workers=workers, shard_rows=4)


def do(asked: PredictionJob) -> list[str]:
    said: list[str] = []
    predict_files(asked, said.append)
    return said


def answers(out: Path, name: str = "") -> list[Row]:
    return [json.loads(line) for path in sorted(out.glob(f"{name}*.jsonl")) for line in path.read_text().splitlines()]


def refused(out: Path) -> list[Row]:
    return [json.loads(line) for path in sorted(out.glob("_bad/*")) for line in path.read_text().splitlines()]


def content(out: Path) -> dict[str, bytes]:
    """What the folder says, whatever the order in which its shards were finished."""
    files = {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    files["_job/shards.jsonl"] = b"\n".join(sorted(files.get("_job/shards.jsonl", b"").splitlines()))
    return files


def test_every_row_is_answered_once_in_its_order_and_bad_ones_are_told(folder: Path, tmp_path: Path) -> None:
    bad = [
        {"id": 1, "text": "fine"}, {"id": 2, "text": [5]}, '{"id": 3, "text": {}}', {"id": 4, "text": 5},
        "no JSON", {"id": 6}, "", {"id": 7, "text": "fine again"}, '{"id": 8, "text": "\\ud800"}', [1], "[" * 100_000,
    ]  # fmt: skip
    one = lines(tmp_path / "a" / "same.jsonl", rows_of("a", 9))
    other = lines(tmp_path / "b" / "same.jsonl", rows_of("b", 8))
    table = tmp_path / "t.csv"
    table.write_text("id,text\n1,first\n2,too,many\n3,third\n")
    out = tmp_path / "deep" / "out"
    asked = job(folder, one, other, lines(tmp_path / "bad.jsonl", bad), lines(tmp_path / "empty.jsonl", []), table,
                out=out, workers=2)  # fmt: skip
    with pytest.raises(DataError, match=r"22 rows predicted, in .*; 8 rows have no prediction, see .*_bad$"):
        do(asked)
    assert [row["id"] for row in answers(out, "same-0")] == [f"a{at}" for at in range(9)]
    assert [row["id"] for row in answers(out, "same-2-")] == [f"b{at}" for at in range(8)]
    assert [(row["row"], row["id"], row["text"]) for row in answers(out, "bad")] == [
        (1, 1, "fine"), (8, 7, "fine again"), (9, 8, "?")
    ]  # fmt: skip
    assert [(row["row"], row["id"]) for row in answers(out, "t-")] == [(2, "1"), (4, "3")]
    told = refused(out)
    assert [(Path(row["file"]).name, row["row"]) for row in told] == [
        *(("bad.jsonl", at) for at in (2, 3, 4, 5, 6, 10, 11)), ("t.csv", 3)
    ]  # fmt: skip
    assert all(row["reason"] and not row["reason"].startswith(row["file"]) for row in told)
    assert told[0]["kept"] == {"id": 2}
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.jsonl")}
    with pytest.raises(DataError, match="22 rows predicted"):
        do(asked)
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("*.jsonl")}


def test_a_killed_worker_loses_no_row(forked: Path, tmp_path: Path) -> None:
    texts = lines(tmp_path / "a.jsonl", rows_of("a", 20, at6=f"kill {tmp_path / 'killed'}"))
    do(job(forked, texts, out=tmp_path / "out", workers=2))
    assert [row["id"] for row in answers(tmp_path / "out")] == [f"a{at}" for at in range(20)]
    texts = lines(tmp_path / "b.jsonl", rows_of("b", 20, at6="kill -"))
    with pytest.raises(PolytaskError, match=r"ended by SIGKILL, .* over .*b.jsonl: rows 5 to 8; if memory is short"):
        do(job(forked, texts, out=tmp_path / "other"))
    assert [row["id"] for row in answers(tmp_path / "other")] == [f"b{at}" for at in range(4)]


COMMAND = """
import stand_in
stand_in.fork_workers()
from pathlib import Path
from polytask.batch.job import *
predict_files(PredictionJob({files!r}, Path({out!r}), WorkOptions({folder!r}), workers={workers}, shard_rows=4), print)
"""


def start(folder: Path, out: Path, texts: Path, workers: int) -> subprocess.Popen[bytes]:
    told = {"files": (str(texts),), "out": str(out), "folder": str(folder),
            "workers": workers}  # fmt: skip
    return subprocess.Popen([PYTHON, "-c", COMMAND.format(**told)], process_group=0, cwd=Path(__file__).parent)


def until(holds: Callable[[], bool]) -> None:
    for _ in range(60_000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError


def test_a_killed_command_goes_on_where_it_was_and_its_workers_end_with_it(forked: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    texts = lines(tmp_path / "a.jsonl", rows_of("a", 21, at9=f"wait {gate}", at20=f"wait {gate}"))
    out = tmp_path / "out"
    process = start(forked, out, texts, workers=1)
    until(Path(f"{gate}.reached").exists)
    until(lambda: (out / "_job" / "shards.jsonl").read_bytes().count(b"\n") == 2)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(workers) == 1
    with pytest.raises(OutputError, match="is writing into this folder"):
        do(job(forked, texts, out=out))
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()
                          for pid in workers))  # fmt: skip
    assert [row["id"] for row in answers(out)] == [f"a{at}" for at in range(8)]
    gate.touch()
    # What a power cut leaves: a line that breaks off, a file whose answers were not written to their end.
    with (out / "_job" / "shards.jsonl").open("a") as file:
        file.write('{"file": 0, "sha')
    (out / "a-00001.jsonl").write_text("half")
    (out / "_job" / ".writing").write_text("half")
    assert do(job(forked, texts, out=out, workers=2))[0] == "4 rows are already done; continuing"
    do(job(forked, texts, out=tmp_path / "whole"))
    assert {**content(out), "_job/shards.jsonl": b""} == {**content(tmp_path / "whole"), "_job/shards.jsonl": b""}
    assert [row["id"] for row in answers(out)] == [f"a{at}" for at in range(21)]


def test_asked_to_stop_it_finishes_what_is_being_answered(forked: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    texts = lines(tmp_path / "a.jsonl", rows_of("a", 40, at5=f"wait {gate}"))

    def interrupt() -> None:
        until(Path(f"{gate}.reached").exists)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        gate.touch()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted, match="the same command continues from there"):
        do(job(forked, texts, out=tmp_path / "out"))
    thread.join()
    assert 8 <= len(answers(tmp_path / "out")) < 40
    do(job(forked, texts, out=tmp_path / "out"))
    assert [row["id"] for row in answers(tmp_path / "out")] == [f"a{at}" for at in range(40)]


def test_on_a_full_disk_finished_shards_stay_and_the_command_goes_on(forked: Path, tmp_path: Path) -> None:
    texts = lines(tmp_path / "a.jsonl", rows_of("a", 12, at6="long " * 2000))
    do(job(forked, texts, out=tmp_path / "whole"))
    out = tmp_path / "out"
    with files_up_to(5000), pytest.raises(OutputError, match=r"a-00001.jsonl: cannot be written \(File too large\)"):
        do(job(forked, texts, out=out))
    assert {path.name for path in out.glob("a-*")} == {"a-00000.jsonl"}
    assert not (out / "_job" / ".writing").exists()
    do(job(forked, texts, out=out))
    assert content(out) == content(tmp_path / "whole")


def test_answers_of_anything_else_are_refused_before_a_row_is_answered(forked: Path, tmp_path: Path) -> None:
    from stand_in import describe

    texts = lines(tmp_path / "a.jsonl", rows_of("a", 8))
    out = tmp_path / "out"
    asked = job(forked, texts, out=out)
    do(asked)
    whole = content(out)

    def refuse(told: str, other: PredictionJob = asked) -> None:
        with pytest.raises(OutputError, match=told):
            do(other)

    refuse("long: 'truncate' then, 'windows' now", replace(asked, work=replace(asked.work, long="windows")))
    refuse("shard_rows: 4 then, 5 now", replace(asked, shard_rows=5))
    refuse("input: 1 files then, 2 now", replace(asked, files=(str(texts), str(lines(tmp_path / "b.jsonl", [])))))
    refuse("another model", replace(asked, work=WorkOptions(str(describe(tmp_path / "other", "others")))))
    times = texts.stat()
    changed = texts.read_text().replace("text xx", "text yy")
    before = texts.read_text()
    texts.write_text(changed)
    os.utime(texts, ns=(times.st_atime_ns, times.st_mtime_ns))
    refuse("input: a.jsonl is another file, or was changed since")
    texts.write_text(before)
    assert content(out) == whole
    manifest, log = out / "_job" / "manifest.json", out / "_job" / "shards.jsonl"
    right = manifest.read_bytes()
    for planted in (b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"input": [{}], "options": 3}', b'{"input": [3]}'):
        manifest.write_bytes(planted)
        refuse("name another folder")
    manifest.write_bytes(right)
    noted = log.read_bytes()
    first = noted.splitlines()[0]
    for planted in (b"{}", b"3", b'{"file": "../../x"}', first.replace(b"false", b"0"), first.replace(b": 4", b": -4")):
        log.write_bytes(planted + b"\n")
        refuse(r"shards.jsonl:1: was altered")
    log.write_bytes(noted)
    do(asked)
    assert content(out) == whole
    for name in ("events.jsonl", "model"):
        foreign = tmp_path / f"foreign-{name}"
        lines(foreign / name, [])
        refuse("holds files that do not belong to this command", replace(asked, out=foreign))
    shutil.rmtree(out / "_job")
    refuse("holds files that do not belong")
    with locked(tmp_path / "fresh"):
        refuse("is writing into this folder", replace(asked, out=tmp_path / "fresh"))


def test_what_cannot_be_read_is_refused_at_once_and_all_of_it_is_named(forked: Path, tmp_path: Path) -> None:
    table = pa.table({"id": [1, 2], "text": ["a", "b"]})
    for name in ("good", "bad", "worse"):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    for name in ("bad", "worse"):
        (tmp_path / f"{name}.parquet").write_bytes((tmp_path / f"{name}.parquet").read_bytes()[:-5])
    files = sorted(tmp_path.glob("*.parquet"))
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"(?s)bad.parquet: not a Parquet file.*worse.parquet: not a Parquet file"):
        do(job(forked, *files, out=out))
    for found, told in [
        ([{"body": "a"}], "no column holds a text .* accepted: text, tokens; found: body; --text COLUMN"),
        ([{"text": "a"}], "no column 'di' to keep"),
    ]:
        texts = lines(tmp_path / "a.jsonl", found)
        columns = Columns(keep=("di",)) if "di" in told else Columns()
        with pytest.raises(DataError, match=told):
            do(job(forked, texts, out=out, columns=columns))
    texts = lines(tmp_path / "a.jsonl", rows_of("a", 2))
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    for asked, told in [
        (job(forked, texts, texts, out=out), "is named twice"),
        (job(forked, texts, out=tmp_path), "the input file"),
        (job(forked, tmp_path / "link" / "a.jsonl", out=tmp_path), "the input file"),
        (job(forked, texts, out=tmp_path / "link"), "the input file"),
        (job(forked, tmp_path / "a.json", out=out), "no such file"),
        (job(forked, Path("-"), out=out), "the standard input"),
        (job(forked, texts, out=out, tasks=("tune",)), "did you mean 'tone'"),
        (job(forked, texts, out=out, columns=Columns(keep=("row",))), "a prediction has its own value"),
        (job(tmp_path / "none", texts, out=out), "not a model folder"),
    ]:
        with pytest.raises(UserError, match=told):
            do(asked)
    assert not out.exists()


def test_a_file_that_breaks_off_is_answered_up_to_there(forked: Path, tmp_path: Path) -> None:
    import gzip

    texts = tmp_path / "a.jsonl.gz"
    told = "".join(json.dumps(row) + "\n" for row in rows_of("a", 3000))
    texts.write_bytes(gzip.compress(told.encode())[:-400])
    with pytest.raises(DataError, match="1 rows have no prediction"):
        do(replace(job(forked, texts, out=tmp_path / "out"), shard_rows=1000))
    found = answers(tmp_path / "out")
    assert 0 < len(found) < 3000
    assert [row["id"] for row in found] == [f"a{at}" for at in range(len(found))]
    (last,) = refused(tmp_path / "out")
    assert last["row"] == len(found) + 1
    assert "not a complete gzip file" in last["reason"]


def test_tables_have_one_schema_in_all_shards(forked: Path, tmp_path: Path) -> None:
    ids = [None, None, None, None, 5, 6, 7, None, 9]
    texts = ["a", None, "c d", "e", "", "f", "g", "h", "i"]
    for name in ("one", "two"):
        pq.write_table(pa.table({"doc_id": ids, "text": texts}), tmp_path / f"{name}.parquet")
    out = tmp_path / "out"
    do(job(forked, tmp_path / "one.parquet", tmp_path / "two.parquet", out=out, form="parquet"))
    parts = [pq.read_table(path) for path in sorted(out.glob("*.parquet"))]
    assert len({part.schema for part in parts}) == 1
    assert parts[0].schema.field("doc_id").type == pa.int64()
    assert [row for part in parts[:3] for row in part.column("row").to_pylist()] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [row for part in parts[:3] for row in part.column("empty").to_pylist()] == [at in (1, 4) for at in range(9)]
    do(job(forked, tmp_path / "one.parquet", out=tmp_path / "csv", form="csv"))
    assert {path.read_text().splitlines()[0].split(",")[0] for path in (tmp_path / "csv").glob("*.csv")} == {"row"}


def test_the_command_line_tells_folders_from_files(forked: Path, tmp_path: Path, call: Callable[..., Any]) -> None:
    lines(tmp_path / "in" / "a.jsonl", rows_of("a", 5))
    lines(tmp_path / "in" / "b.jsonl", rows_of("b", 5))
    out = tmp_path / "out"
    code, shown, told = call("predict", forked, tmp_path / "in", "--out", out, "--workers", "2", "--to", "jsonl")
    assert (code, shown, told.splitlines()[-1]) == (0, "", f"10 rows predicted, in {out}")
    assert call("predict", forked, tmp_path / "in" / "?.jsonl", "--out", out)[0] == 0
    for arguments, told in [
        (
            (tmp_path / "in",),
            "out: predictions for several files, or with --workers, are written into a folder; give --out FOLDER",
        ),
        ((tmp_path / "in", "--out", "x.jsonl"), "x.jsonl has the name of a file"),
        ((tmp_path / "in", "--out", out, "--spans", "doccano"), "spans: annotations are written for one file"),
        ((tmp_path / "in", "--out", out, "--to", "cvs"), "to: found 'cvs'; accepted: csv, jsonl, parquet"),
        ((tmp_path / "in", "--out", out, "--precision", "fp16"), "precision: found 'fp16'"),
    ]:
        code, _, said = call("predict", forked, *arguments)
        assert (code, told in said) == (2, True), said


def test_who_does_not_ask_for_many_files_imports_nothing_of_it() -> None:
    program = "import polytask.cli, sys; assert not [name for name in sys.modules if name.startswith('polytask.batch')]"
    subprocess.run([PYTHON, "-c", program], check=True)
