"""How soon /health answers while large bodies are refused: eight connections send them without a pause.

    python -m benchmarks.health --model quickstart/run/model

It starts a server of its own on this machine. Each body is sent for some seconds; what is printed are milliseconds.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

ATTACKERS = 8
# Bodies of about a megabyte: what is no text, texts that are too many, one that is too long, and many columns.
BODIES = {
    "numbers": b'{"texts": [' + b"1, " * 349_000 + b"1]}",
    "texts": b'{"texts": [' + b'"",' * 349_000 + b'""]}',
    "one text": b'{"texts": ["' + b"\\u4e2d" * 174_000 + b'"]}',
    "columns": b'{"texts": [{' + b",".join(b'"%d":""' % n for n in range(90_000)) + b"}]}",
}


def send(port: int, body: bytes, over: threading.Event, refused: list[bytes]) -> None:
    """Send a body again and again until it is over."""
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    while not over.is_set():
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60) as opened:
            while not over.is_set():
                opened.sendall(head % len(body) + body)
                answer = opened.recv(65_536)
                if not answer:
                    break
                if answer.startswith(b"HTTP/"):
                    refused.append(answer[9:12])


def health_ms(port: int) -> float:
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as opened:
        opened.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert opened.recv(65_536).startswith(b"HTTP/1.1 200")
    return 1000 * (time.perf_counter() - began)


@contextmanager
def attack(port: int, body: bytes) -> Generator[list[bytes]]:
    """Send a body over several connections for a block, which begins a second later; give the codes of the answers."""
    over, refused = threading.Event(), list[bytes]()
    threads = [threading.Thread(target=send, args=(port, body, over, refused)) for _ in range(ATTACKERS)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    try:
        yield refused
    finally:
        over.set()
        for thread in threads:
            thread.join()


def measured(port: int, seconds: float) -> list[float]:
    times: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        times.append(health_ms(port))
        time.sleep(0.02)
    return sorted(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "polytask", "serve", str(options.model), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                with suppress(OSError):
                    health_ms(port)
                    break
                time.sleep(0.2)
            print("| body | median | 95 % | worst | bodies refused |\n|---|---|---|---|---|")
            for name, body in BODIES.items():
                with attack(port, body) as refused:
                    times = measured(port, options.seconds)
                most = times[int(0.95 * len(times))]
                figures = " | ".join(f"{value:.0f} ms" for value in (statistics.median(times), most, times[-1]))
                print(f"| {name} | {figures} | {len(refused)} |", flush=True)
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
