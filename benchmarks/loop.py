"""The loop that people write by hand for several tasks: one shared encoder, one task a step in turn, random batches."""

from __future__ import annotations

import random
from typing import Any

import torch

from polytask.assemble import assemble
from polytask.config import validate
from polytask.data.stream import DrawnRow

RATE = 5e-5
ROWS = 32


def train_loop(values: dict[str, Any], *, decay: bool) -> dict[str, dict[str, Any]]:
    """Train the tasks of a configuration in turn and return the main dev and test scores of the last model.

    Rows, model and scores are polytask's, so that nothing but the recipe differs; the dropout is the encoder's own.

    Args:
        decay: whether the rate falls linearly to 0; it is constant otherwise.
    """
    epochs, seed = values["train"]["epochs"], values["train"]["seed"]
    train = {"epochs": epochs, "seed": seed, "attention_dropout": None}
    assembly = assemble(validate({**values, "train": train}))
    model, sources, collator = assembly.model, assembly.sources["train"], assembly.collator()
    torch.manual_seed(seed)
    generator = random.Random(seed)
    steps = _in_turn({name: _batches(sources, name, int(epochs), generator) for name in assembly.tasks})
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for number, (name, rows) in enumerate(steps):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - number / len(steps)) if decay else RATE
        batch, task = collator.from_sources(sources, rows), assembly.tasks[name]
        targets = batch.targets[name]
        (task.loss(model(batch)[name], targets) / task.loss_denominator(targets)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    scorer, engine = assembly.scorer(), assembly.engine()
    scores = {split: scorer.scores(engine, assembly.sources[split]) for split in ("dev", "test")}
    return {
        split: {name: found[name][task.metric] for name, task in assembly.tasks.items()}
        for split, found in scores.items()
    }


def _batches(sources: Any, name: str, epochs: int, generator: random.Random) -> list[list[DrawnRow]]:
    rows = [
        DrawnRow(number, int(row), (name,))
        for number, source in enumerate(sources)
        if name in source.tasks
        for row in source.carries[name]
    ]
    found: list[list[DrawnRow]] = []
    for _ in range(epochs):
        generator.shuffle(rows)
        found += [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
    return found


def _in_turn(queues: dict[str, list[list[DrawnRow]]]) -> list[tuple[str, list[DrawnRow]]]:
    longest = max(map(len, queues.values()))
    return [(name, queue[place]) for place in range(longest) for name, queue in queues.items() if place < len(queue)]
