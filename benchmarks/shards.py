"""What a process holds of an encoder of BERT's base size while it trains, with and without `train.fsdp`.

    python -m benchmarks.shards --processes 1 2 4

Processes on this machine (gloo) make one update of the default balancer. Bytes of the tensors that a process has itself
are counted: parameters, their gradients before the update, and AdamW's state after it. Activations, and what is
gathered for a moment, come on top; the greatest module that is gathered at a time is told.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.random_base import random_job, write_encoder
from benchmarks.training import assembled

MIB = 2**20


def run_process(values: dict[str, Any]) -> None:
    """Make an update as one of the processes, and write what this one holds beside the first process's answer."""
    import torch

    from polytask.model.shards import local_part
    from polytask.training.distribution import join_world
    from polytask.training.events import Events

    torch.set_num_threads(1)
    with join_world(torch.device("cpu")) as world:
        assembly = assembled(values)
        greatest = max(
            sum(one.nbytes for one in unit.parameters())
            for encoder in assembly.model.trunks
            for unit in encoder.units()
        )
        trainer = assembly.trainer(world, None, Events(None))
        parameters = list(trainer.parts.model.parameters())
        update, gradients = trainer.state.optimizer.step, []

        def step() -> None:
            gradients.append(sum(local_part(one.grad).nbytes for one in parameters if one.grad is not None))
            update()

        trainer.state.optimizer.step = step
        trainer.update()
        states = [value for one in parameters for value in trainer.state.optimizer.state[one].values()]
        own = [
            sum(local_part(one).nbytes for one in parameters), gradients[0],
            sum(local_part(one).nbytes for one in states),
        ]  # fmt: skip
        held = [max(found) for found in zip(*world.gather(own), strict=True)]
        if world.is_main:
            print(json.dumps({"held": held, "greatest": greatest}))


def run(path: Path, processes: int) -> dict[str, Any]:
    """Start the processes of an update, and return what the one holds that holds most."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    world = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.shards", "--job", str(path)],
            env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    told = [process.communicate()[0] for process in started]
    assert not any(process.returncode for process in started)
    return json.loads(told[0].strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--job", type=Path, help="of a process that this one starts")
    arguments = parser.parse_args()
    if arguments.job is not None:
        run_process(json.loads(arguments.job.read_text("utf-8")))
        return
    print("| processes | train.fsdp | parameters, MiB | gradients, MiB | AdamW, MiB | together | / one process |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        encoder = write_encoder(folder / "encoder", arguments.layers)
        job = random_job(folder, encoder, tasks=2, rows=8, words=8, tokens=16)
        alone, greatest = 0.0, 0
        for processes in arguments.processes:
            for fsdp in (False, True) if processes > 1 else (False,):
                job["train"] = {"precision": "fp32", "batch_size": 8, "max_steps": 1, "fsdp": fsdp}
                path = folder / "job.json"
                path.write_text(json.dumps(job), "utf-8")
                found = run(path, processes)
                held, greatest = [part / MIB for part in found["held"]], found["greatest"]
                alone = alone or sum(held)
                columns = " | ".join(f"{value:,.0f}" for value in (*held, sum(held)))
                print(f"| {processes} | {str(fsdp).lower()} | {columns} | {sum(held) / alone:.2f} |", flush=True)
        print(f"\nThe greatest module that is gathered at a time: {greatest / MIB:,.0f} MiB.")


if __name__ == "__main__":
    main()
