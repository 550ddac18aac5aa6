"""Rows, and a full disk, that several tests use."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest


@cache
def _corpus() -> list[dict[str, Any]]:
    from polytask.corpus import texts

    return [text.row() for text in texts()]


def corpus_rows(count: int) -> list[dict[str, Any]]:
    """Rows of the bundled corpus, from all of its files."""
    return deepcopy(_corpus()[:: len(_corpus()) // count][:count])


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as jsonl."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def write_corpus(folder: Path) -> None:
    """Write the files of the quickstart with every third of their rows."""
    from polytask import corpus

    corpus.write_files(folder)
    for path in folder.iterdir():
        path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[::3]), "utf-8")


def small_job(folder: Path, encoder: Path, rows: int = 48, shared: bool = True, **train: Any) -> dict[str, Any]:
    """Return the values of a small three-task configuration on corpus rows, whose files are written into a folder.

    Args:
        shared: whether the tasks have one file, whose rows carry the labels of several, or a file each.
        train: options of training.
    """
    found = corpus_rows(rows)
    files: dict[str, dict[str, str]] = {}
    for name in ("sentiment", "topic", "entities"):
        stem = "all" if shared else name
        part = found if shared else found[len(files) :: 3]
        half = len(part) // 2
        for split, chosen in (("train", part[:half]), ("dev", part[half:]), ("test", part[half:])):
            write_jsonl(folder / f"{stem}-{split}.jsonl", chosen)
        files[name] = {split: str(folder / f"{stem}-{split}.jsonl") for split in ("train", "dev", "test")}
    return {
        "encoder": str(encoder),
        "max_tokens": 48,
        "tasks": {
            "sentiment": {"type": "classification", "data": files["sentiment"], "label": "sentiment"},
            "topic": {"type": "classification", "data": files["topic"], "label": "topic"},
            "entities": {"type": "tagging", "data": files["entities"]},
        },
        "train": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "seed": 5, "precision": "fp32", **train},
    }


def close(found: Any, expected: Any) -> bool:
    """Say whether two answers, whose numbers have six digits, are equal but for rounding."""
    if isinstance(found, dict):
        return found.keys() == expected.keys() and all(close(found[key], expected[key]) for key in found)
    if isinstance(found, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return found == pytest.approx(expected, abs=5e-6) if isinstance(found, float) else found == expected


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let the system refuse to write more into any file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
