"""Many short texts into a folder of answers: the rate beside that in memory, a kill in the midst, memory.

    python -m benchmarks.batch --model RUN/model --rows 1000000 --workers 2

One process answers a part of the texts in memory, with as many threads as all workers have. Then the command answers
all of them from parquet files; it is killed (SIGKILL) when half of the shards are finished, and goes on. Every id is
then looked for in the answers. Printed are both rates, the most memory that the command's own process, and any of its
workers, had held after two shards and at the end, and what was lost, doubled or out of its order. `--rows 20000
--shard-rows 500` is a small form.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WORDS = ("a", "moving", "film", "about", "trains", "hotels", "friends", "never", "again", "the", "food", "was", "cold",
         "service", "slow", "Ang", "Lee", "in", "Lyon")  # fmt: skip
FILE_ROWS = 250_000
# Rows that are answered in memory, of which the rate is taken.
IN_MEMORY = 20_000


def texts(rows: int) -> Iterator[dict[str, str]]:
    """Yield rows of 4 to 16 words."""
    drawn = random.Random(1)
    for number in range(rows):
        yield {"id": f"r{number}", "text": " ".join(drawn.choices(WORDS, k=drawn.randint(4, 16)))}


def write(folder: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    given = texts(rows)
    for number in range(0, rows, FILE_ROWS):
        part = [next(given) for _ in range(min(FILE_ROWS, rows - number))]
        pq.write_table(pa.Table.from_pylist(part), folder / f"part{number // FILE_ROWS:03}.parquet")


def in_memory(model: str, rows: int) -> float:
    """Return the rows a second of one process with all threads."""
    import polytask

    loaded = polytask.load(model)
    given = list(texts(min(rows, IN_MEMORY)))
    loaded.predict(given[:1024])
    began = time.perf_counter()
    for _ in loaded.answers(iter(given)):
        pass
    return len(given) / (time.perf_counter() - began)


def finished(out: Path) -> int:
    path = out / "_job" / "shards.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def memory_mib(pid: int) -> tuple[float, float]:
    """Return the most memory that a process, and any process that it started, has held; 0 where it has ended."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        workers = [int(child) for child in children.read_text().split()]
    except OSError:
        workers = []
    return peak_mib(pid), max(map(peak_mib, workers), default=0.0)


def peak_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


@dataclass
class Part:
    """What one of the two commands did.

    Attributes:
        rows: answered after its first shard was finished.
        seconds: for these.
        early, late: the most memory of the command and of a worker, after two shards and at the end.
    """

    rows: int
    seconds: float
    early: tuple[float, float]
    late: tuple[float, float]


def command(options: argparse.Namespace, given: Path, out: Path, stop_at: int | None) -> Part:
    """Answer, and kill the command at so many finished shards."""
    arguments = ["predict", options.model, str(given / "*.parquet"), "--out", str(out),
                 "--workers", str(options.workers), "--shard-rows", str(options.shard_rows)]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "polytask", *arguments])
    begun = finished(out)
    first: tuple[float, int] | None = None  # from the first shard on: starting is no part of the rate
    early = late = (0.0, 0.0)
    while process.poll() is None:
        done = finished(out)
        if done > begun and first is None:
            first = time.perf_counter(), done
        now = memory_mib(process.pid)
        late = max(late[0], now[0]), max(late[1], now[1])
        early = late if done <= begun + 2 else early
        if stop_at is not None and done >= stop_at:
            process.kill()
        time.sleep(0.05)
    if stop_at is None and process.returncode:
        raise SystemExit(process.returncode)
    if stop_at is not None and process.returncode != -signal.SIGKILL:
        raise SystemExit("the command was over before it was killed; ask for more --rows")
    began, count = first or (time.perf_counter(), finished(out))
    return Part((finished(out) - count) * options.shard_rows, time.perf_counter() - began, early, late)


def answered(out: Path) -> list[str]:
    import json

    return [json.loads(line)["id"] for path in sorted(out.glob("*.jsonl")) for line in path.open(encoding="utf-8")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shard-rows", type=int, default=8192)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        given, out = Path(place) / "in", Path(place) / "out"
        write(given, options.rows)
        rate = in_memory(options.model, options.rows)
        print(f"in memory, 1 process, {os.cpu_count()} cores: {rate:,.0f} rows/s", flush=True)
        files = [min(FILE_ROWS, options.rows - start) for start in range(0, options.rows, FILE_ROWS)]
        shards = sum(-(-rows // options.shard_rows) for rows in files)
        command(options, given, out, shards // 2)
        before = finished(out)
        print(f"killed after {before} of {shards} shards", flush=True)
        part = command(options, given, out, None)
        own = part.rows / part.seconds
        print(
            f"folder, {options.workers} workers, after the kill: {own:,.0f} rows/s, {own / rate:.2f} of that in memory"
        )
        for name, early, late in zip(("the command", "a worker"), part.early, part.late, strict=True):
            print(f"memory of {name}: {early:,.0f} MiB after two shards, {late:,.0f} MiB at the end")
        ids = answered(out)
        moved = sum(one != f"r{number}" for number, one in enumerate(ids)) if len(ids) == options.rows else len(ids)
        print(
            f"rows {options.rows:,}: lost {options.rows - len(set(ids)):,}, doubled {len(ids) - len(set(ids)):,}, "
            f"out of order {moved:,}"
        )


if __name__ == "__main__":
    main()
