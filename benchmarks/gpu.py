"""Training and prediction on one device, beside a plain loop over the same batches and beside the device's own rate.

    python -m benchmarks.gpu                                      # a GPU, at most eight minutes
    python -m benchmarks.gpu --device cpu --shapes small --rows 8 --tokens 32   # what the tests run

First it measures the rate of matrix products, and checks that what it times is right: that rows without their padding
give the outputs and gradients of padded ones, and the plain loop the losses of polytask. It ends with 1 if they differ.
Then, for each shape of encoder (random weights) and each arm, in turn: tokens per second, the share of the measured
rate that the products of the encoder's layers reach, the greatest memory, and the ratio to the plain loop. Texts have
all `--tokens` tokens, and then from 5 to as many. One line of JSON per figure, so that a run that is cut short has
printed what it measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.random_base import random_job, write_encoder
from polytask.assemble import assemble
from polytask.assembly import Assembly
from polytask.config import validate
from polytask.data.batch import Batch, TaskRows
from polytask.data.stream import DrawnRow
from polytask.model.device import autocast, computes_bf16, peak_mib
from polytask.training.distribution import World
from polytask.training.events import Events

# Layers, width, heads.
SHAPES = {"small": (2, 64, 2), "minilm": (6, 384, 12), "base": (12, 768, 12), "large": (24, 1024, 16)}
ARMS: dict[str, dict[str, Any]] = {
    "global, sum": {"sharing": {"strategy": "global"}, "balance": {"method": "sum"}},
    "global, default": {"sharing": {"strategy": "global"}},
    "global, aligned_mtl": {"sharing": {"strategy": "global"}, "balance": {"method": "aligned_mtl"}},
    "partial, sum": {"sharing": {"strategy": "partial", "shared_layers": 1}, "balance": {"method": "sum"}},
}
TASKS = 3
WARM, UPDATES = 4, 8


def wait(device: torch.device) -> None:
    """Wait until the device has computed everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(device: torch.device, call: Callable[[], object], times: int) -> float:
    """Return the time of a call, the median of five series of calls."""
    found: list[float] = []
    for _ in range(5):
        wait(device)
        began = time.perf_counter()
        for _ in range(times):
            call()
        wait(device)
        found.append((time.perf_counter() - began) / times)
    return statistics.median(found)


def rate_of(device: torch.device) -> float:
    """Return the rate of matrix products in the precision in which the encoder trains, in operations per second."""
    kind = torch.bfloat16 if computes_bf16(device, "auto") else torch.float32
    best = 0.0
    for size in (4096, 8192) if device.type == "cuda" else (512, 1024):
        left, right = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
        torch.matmul(left, right)
        best = max(best, 2 * size**3 / seconds(device, lambda a=left, b=right: torch.matmul(a, b), 5))
    return best


@dataclass
class Job:
    """An encoder's shape, and texts: all of the same length, or of many lengths."""

    values: dict[str, Any]
    layers: int
    width: int

    def assembled(self, arm: dict[str, Any]) -> Assembly:
        return assemble(validate({**self.values, **arm}))

    def operations(self, lengths: list[int]) -> float:
        """Return the operations of the layers' products for texts, in one forward pass; padding counts nothing."""
        weights = 12 * self.layers * self.width**2
        scores = 4 * self.layers * self.width
        return 2.0 * weights * sum(lengths) + scores * sum(length**2 for length in lengths)


class Plain(nn.Module):
    """The stock encoder and a linear head per task on the mean of the token states."""

    def __init__(self, job: Job, assembly: Assembly) -> None:
        super().__init__()
        from transformers import AutoModel

        self.encoder = AutoModel.from_pretrained(
            job.values["encoder"], add_pooling_layer=False, trust_remote_code=False, attention_probs_dropout_prob=0.0
        )
        sizes = {name: task.answer_size for name, task in assembly.tasks.items()}
        self.heads = nn.ModuleDict({name: nn.Linear(job.width, size) for name, size in sizes.items()})

    def losses(self, batch: Batch, device: torch.device) -> torch.Tensor:
        outputs: dict[str, list[torch.Tensor]] = {name: [] for name in batch.targets}
        with autocast(device, "auto"):
            for chunk in batch.chunks:
                states = self.encoder(chunk.ids, chunk.mask, token_type_ids=chunk.type_ids).last_hidden_state
                for name, rows in chunk.tasks.items():
                    weight = chunk.mask[rows.rows].unsqueeze(-1)
                    pooled = (states[rows.rows] * weight).sum(1) / weight.sum(1)
                    outputs[name].append(self.heads[name](F.dropout(pooled, 0.1, self.training)))
        return torch.stack([F.cross_entropy(torch.cat(outputs[name]).float(), batch.targets[name]) for name in outputs])


def lengths_of(batches: list[Batch]) -> list[int]:
    return [length for batch in batches for chunk in batch.chunks for length in chunk.lengths]


def plain_update(job: Job, assembly: Assembly, batches: list[Batch], device: torch.device) -> Callable[[], object]:
    """Return what makes an update of the plain loop, over these batches in turn."""
    model = Plain(job, assembly).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    state = {"at": 0}

    def update() -> None:
        batch = batches[state["at"] % len(batches)]
        state["at"] += 1
        model.losses(batch, device).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return update


def own_update(job: Job, arm: dict[str, Any]) -> Callable[[], object]:
    """Return what makes an update as `polytask train` does, rows drawn and collated."""
    trainer = job.assembled(arm).trainer(World(0, 1), None, Events(None))

    def update() -> None:
        trainer.update()
        trainer.state.step += 1

    return update


def check(job: Job, device: torch.device) -> None:
    """Exit with 1 unless padding changes nothing, and the plain loop's losses are polytask's for the same weights."""
    assembly = job.assembled(ARMS["global, sum"])
    trainer = assembly.trainer(World(0, 1), None, Events(None))
    model = trainer.parts.model.eval()
    batch = trainer.rows.batches(trainer.rows.draw())[0]
    found: dict[bool, tuple[torch.Tensor, torch.Tensor]] = {}
    for packs in (True, False):
        for trunk in model.trunks:
            trunk.packs = packs
        model.zero_grad()
        with autocast(device, "auto"):
            outputs = model(batch)
        losses = torch.stack([F.cross_entropy(outputs[name], batch.targets[name]) for name in batch.targets])
        losses.sum().backward()
        vector = torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])
        found[packs] = losses.detach(), vector
    plain = Plain(job, assembly).to(device).eval()
    for name, head in plain.heads.items():
        own = next(module for module in model.head(name).modules() if isinstance(module, nn.Linear))
        head.load_state_dict(own.state_dict())
    with torch.no_grad():
        expected = plain.losses(batch, device)
    (packed, gradient), (padded, other) = found[True], found[False]
    differences = {
        "losses without padding": float((packed - padded).abs().max()),
        "gradient without padding": float((gradient - other).norm() / other.norm()),
        "losses of the plain loop": float((packed - expected).abs().max()),
    }
    limit = 0.03 if computes_bf16(device, "auto") else 1e-3
    print(json.dumps({"differences": differences, "limit": limit}), flush=True)
    wrong = [name for name, value in differences.items() if not value < limit]
    if wrong:
        sys.exit(f"{', '.join(wrong)}: differ by more than {limit}; what follows would time something else")


def measure(job: Job, names: dict[str, Any], device: torch.device, rate: float) -> None:
    """Print each arm's figures, and those of prediction."""
    base = job.assembled(ARMS["global, sum"])
    trainer = base.trainer(World(0, 1), None, Events(None))
    # The plain loop pads: its batches are cut where that costs less than padding.
    sources, collator = base.sources["train"], base.collator()
    batches = [collator.from_sources(sources, trainer.rows.draw()).to(device) for _ in range(UPDATES)]
    del trainer
    tokens = sum(lengths_of(batches)) / UPDATES
    work = 3 * job.operations(lengths_of(batches)) / UPDATES
    plain: float | None = None
    for name in ("plain loop", *ARMS):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        update = plain_update(job, base, batches, device) if name == "plain loop" else own_update(job, ARMS[name])
        for _ in range(WARM):
            update()
        spent = seconds(device, update, UPDATES)
        plain = spent if plain is None else plain
        figures: dict[str, float] = {
            "tokens_per_second": round(tokens / spent),
            "of_rate": round(work / spent / rate, 3),
            "of_plain": round(plain / spent, 3),
        }
        if device.type == "cuda":
            figures["peak_mib"] = peak_mib(device) or 0.0
        print(json.dumps({**names, "arm": name, **figures}), flush=True)
    predict(job, base, names, device, rate)


def predict(job: Job, assembly: Assembly, names: dict[str, Any], device: torch.device, rate: float) -> None:
    """Print the figures of prediction: the heads of all tasks for each text, beside the stock encoder alone."""
    model = assembly.model.to(device).eval()
    sources = assembly.sources["train"]
    some = [DrawnRow(0, row, (next(iter(assembly.tasks)),)) for row in range(min(64, len(sources[0].lengths)))]
    batch = assembly.collator().from_sources(sources, some)
    every = [
        replace(chunk, tasks={name: TaskRows(torch.arange(len(chunk.ids)), None) for name in assembly.tasks})
        for chunk in batch.chunks
    ]
    batch = replace(batch, chunks=tuple(every)).to(device)
    plain = Plain(job, assembly).to(device).eval()
    lengths = lengths_of([batch])

    def stock() -> None:
        for chunk in batch.chunks:
            plain.encoder(chunk.ids, chunk.mask, token_type_ids=chunk.type_ids)

    with torch.inference_mode(), autocast(device, "auto"):
        times = {}
        for name, call in (("stock encoder", stock), ("polytask", lambda: model(batch))):
            call()
            times[name] = seconds(device, call, UPDATES)
    for name, spent in times.items():
        figures = {
            "tokens_per_second": round(sum(lengths) / spent),
            "of_rate": round(job.operations(lengths) / spent / rate, 3),
            "of_stock": round(times["stock encoder"] / spent, 3),
        }
        print(json.dumps({**names, "predicts": name, **figures}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=["minilm", "base", "large"])
    parser.add_argument("--rows", type=int, default=96, help="rows per update")
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no GPU; --device cpu checks the script, and measures this processor")
    device = torch.device(options.device)
    rate = rate_of(device)
    about = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(json.dumps({"device": about, "torch": torch.__version__, "operations_per_second": round(rate)}), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.shapes:
            layers, width, heads = SHAPES[name]
            encoder = write_encoder(Path(folder, name), layers, width, heads)
            for kind, least in (("full", None), ("many", 5)):
                place = Path(folder, f"{name}-{kind}")
                place.mkdir()
                count = 2 * options.rows * (UPDATES + WARM)
                values = random_job(
                    place,
                    encoder,
                    tasks=TASKS,
                    rows=count // TASKS,
                    words=options.tokens,
                    tokens=options.tokens,
                    least=least,
                )
                train = {"batch_size": options.rows, "epochs": 50, "device": options.device}
                job = Job({**values, "train": train}, layers, width)
                if kind == "many":
                    check(job, device)
                measure(job, {"shape": name, "lengths": kind}, device, rate)


if __name__ == "__main__":
    main()
