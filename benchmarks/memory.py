"""The memory of an update in which a method compares the tasks' gradients, beside that of the sum.

    python -m benchmarks.memory --tasks 8 --batch 32 --words 120 --tokens 128

An encoder of BERT's base size with random weights, and tasks with rows of their own. Each arm makes two updates in a
process of its own. What is printed is the greatest resident memory (Linux' VmHWM) during the updates, without what the
process held before the model was built: weights, gradients, AdamW's state, activations.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.random_base import random_job, write_encoder
from benchmarks.training import assembled

UPDATES = 2
ARMS: dict[str, dict[str, Any]] = {
    "sum": {"method": "sum"},
    "aligned_mtl": {"method": "aligned_mtl"},
    "aligned_mtl, gradient_precision: bf16": {"method": "aligned_mtl", "gradient_precision": "bf16"},
}


def resident_mib(name: str) -> float:
    """Return a figure of this process: VmRSS now, VmHWM at most since it was set back."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def run_arm(values: dict[str, Any]) -> None:
    """Make the updates, and print what they held."""
    import torch

    from polytask.training.distribution import World
    from polytask.training.events import Events

    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "2")))
    assembly = assembled(values)
    built = sum(one.numel() * one.element_size() for one in assembly.model.parameters()) / 2**20
    before = resident_mib("VmRSS") - built
    trainer = assembly.trainer(World(0, 1), None, Events(None))
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    for _ in range(UPDATES):
        trainer.update()
        trainer.state.step += 1
    print(json.dumps({"mib": resident_mib("VmHWM") - before, "weights": built}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--words", type=int, default=120)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--precision", nargs="+", default=["bf16", "fp32"])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--arm", type=Path, help="of a process that this one starts")
    arguments = parser.parse_args()
    if arguments.arm is not None:
        run_arm(json.loads(arguments.arm.read_text("utf-8")))
        return
    print("| precision | method | MiB | / sum |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        encoder = write_encoder(folder / "encoder", arguments.layers)
        rows = arguments.batch * UPDATES // arguments.tasks + 1
        job = random_job(
            folder, encoder, tasks=arguments.tasks, rows=rows, words=arguments.words, tokens=arguments.tokens
        )
        for precision in arguments.precision:
            job["train"] = {"precision": precision, "batch_size": arguments.batch, "max_steps": UPDATES, "epochs": 10}
            plain = 0.0
            for arm in arguments.arms:
                path = folder / "arm.json"
                path.write_text(json.dumps({**job, "balance": ARMS[arm]}), "utf-8")
                command = [sys.executable, "-m", "benchmarks.memory", "--arm", str(path)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                mib = json.loads(done.stdout.strip().splitlines()[-1])["mib"]
                plain = plain or mib
                print(f"| {precision} | {arm} | {mib:,.0f} | {mib / plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
