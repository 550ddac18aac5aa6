"""Rows of texts that belong together, and runs of tasks on them with a tiny encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from samples import corpus_rows

Rows = list[dict[str, Any]]


def pairs(count: int, *, start: int = 0, negatives: bool = False) -> Rows:
    """Return texts of the corpus beside their own second halves, which share words with them, and those of others."""
    texts = [row["text"] for row in corpus_rows(start + count + 1)][start:]
    halves = [" ".join(text.split()[len(text.split()) // 2 :]) for text in texts]
    rows: Rows = [{"text": text, "positive": half} for text, half in zip(texts[:count], halves, strict=False)]
    for row, half in zip(rows if negatives else [], halves[1:], strict=False):
        row["negative"] = half
    return rows


def scored(count: int, *, start: int = 0) -> Rows:
    """Return pairs with a score: how many words of the text the other one has."""
    rows = pairs(count, start=start)
    for number, row in enumerate(rows):
        words = row["text"].split()
        row["positive"] = " ".join(words[number % 4 * len(words) // 4 :]) or row["text"]
        row["score"] = 1.0 - number % 4 / 4
    return rows


def config(
    encoder: Path, rows: Rows, dev: Rows, *, others: dict[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    """Return the configuration of a run with one embedding task; `train` holds options of training."""
    train = {"epochs": 2, "batch_size": 8, "device": "cpu", "precision": "fp32", **options.pop("train", {})}
    task = {"type": "embedding", "data": {"train": rows, "dev": dev, "test": dev}, **options}
    return {
        "encoder": str(encoder), "max_tokens": 32, "tasks": {"near": task, **(others or {})}, "train": train,
    }  # fmt: skip
