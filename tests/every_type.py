"""A job with a task of every type on rows of many empty cells, for what each of them has to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polytask.tasks import TASKS
from samples import corpus_rows, write_jsonl

Values = dict[str, Any]
STARS = [1, 2, 3, 5]
WEIGHED = ("stars", "kind", "marks", "size", "chain", "best", "mentions", "words")


def rows(count: int = 48) -> list[Values]:
    """Rows with cells for every type, many of which are empty."""
    found: list[Values] = []
    for at, row in enumerate(row for row in corpus_rows(count * 2) if "tags" in row and " " in row["text"]):
        text, first = row["text"], row["text"].index(" ")
        cells = {
            "id": f"r{at}", "text": text, "tokens": row["tokens"], "weight": [1, 2, 0.5, 0][at % 4],
            "stars": STARS[at % 4] if at % 3 else None,
            "kind": ["a", "b", {"a": 0.7, "c": 0.3}][at % 3] if at % 4 else None,
            "marks": [["p"], ["p", "q"], [], {"p": 0.6, "q": 0.2}][at % 4] if at % 5 else None,
            "size": min(len(text) / 30, 4.0),
            "tags": row["tags"] if at % 3 != 1 else None,
            "spans": [[0, first, "FIRST"], [0, len(text) // 2, "HALF"]][: at % 3],
            "topic": ["PlayMusic", "get_weather"][at % 2],
            "positive": text[:first] if at % 2 else None,
            "menu": ["tea", "a cup of coffee", text[:first]] if at % 3 else ["tea", "water"],
            "drink": ["water", "tea", text[:first], None][at % 3 if at % 4 else 3],
        }  # fmt: skip
        found.append({name: cell for name, cell in cells.items() if cell is not None})
    return found[:count]


def job_of_every_type(home: Path, encoder: Path) -> Values:
    """Write training and dev rows into a folder, and return the configuration."""
    data = {
        split: str(write_jsonl(home / f"{split}.jsonl", part))
        for split, part in (("train", rows()[:32]), ("dev", rows()[32:]))
    }
    tasks: dict[str, Values] = {
        "stars": {"type": "ordinal", "label": "stars", "levels": STARS},
        "kind": {"type": "classification", "label": "kind"},
        "marks": {"type": "multilabel", "label": "marks"},
        "size": {"type": "regression", "label": "size", "range": [0, 4]},
        "chain": {"type": "tagging", "crf": True},
        "best": {"type": "tagging", "decode": "viterbi"},
        "mentions": {"type": "spans", "size": 8, "max_span": 9},
        "topic": {"type": "matching", "label": "topic", "labels": {"Weather": "rain and snow"}},
        "drink": {"type": "matching", "label": "drink", "options": "menu"},
        "near": {"type": "embedding", "sizes": [8]},
        "words": {"type": "mlm"},
    }
    for name, task in tasks.items():
        task |= {"data": data, **({"label_weight": "weight"} if name in WEIGHED else {})}
    assert {task["type"] for task in tasks.values()} == set(TASKS)
    train = {
        "max_steps": 8,
        "batch_size": 8,
        "learning_rate": 5e-3,
        "seed": 5,
        "precision": "fp32",
        "evaluations_per_epoch": 2,
    }
    return {"encoder": str(encoder), "max_tokens": 48, "tasks": tasks, "train": train}
