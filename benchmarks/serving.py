"""The server under load: requests a second and their times at 1, 32 and 64 clients, with and without micro-batches.

The server runs as its own process, as a user starts it, and the clients as another one: each keeps one connection open
and sends one AG News test text a request, the next as soon as the last was answered.

    python -m benchmarks.serving --model quickstart/run/model --data ../shared/data
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Load:
    """What one load found.

    Attributes:
        rate: requests a second.
        p50, p99: milliseconds.
        errors: requests that were not answered with 200.
    """

    rate: float
    p50: float
    p99: float
    errors: int


async def client(
    port: int, bodies: Iterator[bytes], begins: float, ends: float, times: list[float], errors: list[str]
) -> None:
    """Ask one text after another over one connection until the end; count those that began after the warm-up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    while (began := time.perf_counter()) < ends:
        body = next(bodies)
        writer.write(head % len(body) + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        content = await reader.readexactly(length)
        if began < begins:
            continue
        if answer.startswith(b"HTTP/1.1 200") and content.startswith(b'{"predictions":[{'):
            times.append(time.perf_counter() - began)
        else:
            errors.append(answer.split(b"\r\n")[0].decode())
    writer.close()
    await writer.wait_closed()


async def load(port: int, texts: Sequence[str], clients: int, seconds: float) -> Load:
    """Put the server under the load of some clients, after two seconds that are not counted."""
    bodies = cycle(json.dumps({"texts": [text]}).encode() for text in texts)
    times: list[float] = []
    errors: list[str] = []
    begins = time.perf_counter() + 2
    await asyncio.gather(*(client(port, bodies, begins, begins + seconds, times, errors) for _ in range(clients)))
    cuts = statistics.quantiles(times, n=100) if len(times) > 1 else [float("nan")] * 99
    return Load(len(times) / (time.perf_counter() - begins), 1000 * cuts[49], 1000 * cuts[98], len(errors))


@contextmanager
def serving(model: Path, *flags: str) -> Generator[int]:
    """Start `polytask serve` on a free port, and stop it."""
    command = [sys.executable, "-m", "polytask", "serve", str(model), "--port", "0", *flags]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert started.stderr is not None
    try:
        lines = (json.loads(line) for line in started.stderr)
        told: dict[str, Any] = next(line for line in lines if line["event"] == "listening")
        # The log of the requests is drained as a log collector would; in a process, as it would cost the clients time.
        drain = subprocess.Popen(["cat"], stdin=started.stderr, stdout=subprocess.DEVNULL)
        yield int(told["url"].rpartition(":")[2])
        started.terminate()
        started.wait(30)
        drain.wait(30)
    finally:
        started.kill()
        started.wait()
        started.stderr.close()


def read_texts(data: Path, count: int) -> list[str]:
    """Return the first texts of the AG News test file."""
    with (data / "ag_news" / "test.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in islice(lines, count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a model folder, torch or ONNX")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--clients", default="1,32,64", help="how many at once, by commas")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each load that are counted")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    texts = read_texts(arguments.data, 2000)
    numbers = [int(number) for number in arguments.clients.split(",")]
    if arguments.port is not None:  # the process of the clients
        found = asyncio.run(load(arguments.port, texts, numbers[0], arguments.seconds))
        print(json.dumps(vars(found)))
        return
    print("| server | clients | requests/s | p50 ms | p99 ms | errors | against 1 client |")
    print("|---|---|---|---|---|---|---|")
    for name, flags in (("micro-batches", ()), ("one request at a time", ("--batch-texts", "1"))):
        with serving(arguments.model, *flags) as port:
            alone: float | None = None
            for clients in numbers:
                command = [sys.executable, "-m", "benchmarks.serving", "--model", str(arguments.model)]
                command += ["--data", str(arguments.data), "--seconds", str(arguments.seconds)]
                command += ["--clients", str(clients), "--port", str(port)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found = Load(**json.loads(done.stdout))
                alone = alone or found.rate
                times = f"{found.p50:.1f} | {found.p99:.1f} | {found.errors} | {found.rate / alone:.2f}"
                print(f"| {name} | {clients} | {found.rate:.0f} | {times} |", flush=True)


if __name__ == "__main__":
    main()
