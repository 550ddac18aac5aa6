"""Texts a second for three tasks: one shared pass against three models, in torch and ONNX Runtime.

    polytask train examples/three_tasks.yaml --out runs/three
    python -m benchmarks.prediction --model runs/three/model --data ../shared/data --out runs/shipped

The model is exported to `--out` first, as three Hugging Face folders and as ONNX in fp32 and int8, unless they are
there. Then all ways answer the same AG News test texts in turn, round by round, on the same number of threads. The
three models are the exported ones, so they compute what the shared one does. Printed are medians over rounds, and how
often polytask's forms answer alike.

* three pipelines: `transformers.pipeline`, one text after another, as its page shows it.
* three models, loop: batches of 32 in the order of the texts, padded to the longest, labels by argmax.
* one model, loop: the same with one encoder and three heads, written by hand; in order, and grouped by length.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

import polytask
from polytask.data.groups import groups_by_length
from polytask.predict.predictor import Model

BATCH = 32
TASKS = ("sentiment", "topic", "entities")
FILES = {"sentiment": "imdb/dev.jsonl", "topic": "ag_news/dev.jsonl", "entities": "wnut17/dev.conll"}
Way = Callable[[Sequence[str]], Any]


def export_all(model: Path, data: Path, out: Path) -> None:
    """Export the model in every form that is not there yet."""
    dev = {task: str(data / name) for task, name in FILES.items()}
    forms: dict[str, dict[str, Any]] = {
        "hf": {"to": "hf"},
        "onnx": {"to": "onnx"},
        "int8": {"to": "onnx", "quantize": "int8", "data": dev, "max_loss": 2.0},
    }
    for name, options in forms.items():
        if not (out / name).exists():
            polytask.export(model, out / name, **options)


def pipelines(folder: Path) -> Way:
    """Return three pipelines of transformers, one after another."""
    from transformers import pipeline

    made = [
        pipeline("token-classification" if task == "entities" else "text-classification", str(folder / task))
        for task in TASKS
    ]
    return lambda texts: [[one(text) for one in made] for text in texts]


class Loop:
    """What people write: batches of texts, padded, through one encoder and its heads."""

    def __init__(self, folders: Sequence[Path], precision: str = "fp32") -> None:
        from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folders[0], trust_remote_code=False)
        kinds = [
            AutoModelForTokenClassification if folder.name == "entities" else AutoModelForSequenceClassification
            for folder in folders
        ]
        self.models = [
            kind.from_pretrained(folder, trust_remote_code=False).eval()
            for kind, folder in zip(kinds, folders, strict=True)
        ]
        if precision == "bf16":
            self.models = [model.to(torch.bfloat16) for model in self.models]

    def apart(self, texts: Sequence[str]) -> list[Any]:
        """Every model reads every batch."""
        return [
            model(**self._tokens(batch)).logits.argmax(-1).tolist() for batch in batches(texts) for model in self.models
        ]

    def together(self, texts: Sequence[str]) -> list[Any]:
        """One encoder reads a batch, and three heads read its states."""
        return [self._shared(self._tokens(batch)) for batch in batches(texts)]

    def grouped(self, texts: Sequence[str]) -> list[Any]:
        """As `together`, with texts of similar length in a batch."""
        ids = self.tokenizer(list(texts), truncation=True, max_length=128)["input_ids"]
        found: list[Any] = []
        for group in groups_by_length([len(one) for one in ids]):
            for batch in batches(sorted(group, key=lambda index: len(ids[index]))):
                padded = self.tokenizer.pad({"input_ids": [ids[index] for index in batch]}, return_tensors="pt")
                found.append(self._shared(padded))
        return found

    def _tokens(self, batch: Sequence[str]) -> Any:
        return self.tokenizer(list(batch), truncation=True, max_length=128, padding=True, return_tensors="pt")

    def _shared(self, tokens: Any) -> list[Any]:
        first, second, words = self.models
        states = first.bert(**tokens).last_hidden_state
        pooled = [first.bert.pooler(states), second.bert.pooler(states)]
        logits = [first.classifier(pooled[0]), second.classifier(pooled[1]), words.classifier(states)]
        return [one.argmax(-1).tolist() for one in logits]


def batches(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def ways_of(model: Path, out: Path) -> dict[str, Way]:
    """Return every way to answer texts, by name."""
    folders = [out / "hf" / task for task in TASKS]
    plain, half = Loop(folders), Loop(folders, "bf16")

    def answer(found: Model) -> Way:
        return lambda texts: found.predict(texts)

    return {
        "three pipelines, fp32": pipelines(out / "hf"),
        "three models, loop, fp32": plain.apart,
        "three models, loop, bf16": half.apart,
        "one model, loop, fp32": plain.together,
        "one model, loop, grouped, fp32": plain.grouped,
        "one model, loop, grouped, bf16": half.grouped,
        "polytask, fp32": answer(polytask.load(model, precision="fp32")),
        "polytask, bf16": answer(polytask.load(model, precision="bf16")),
        "polytask, ONNX fp32": answer(polytask.load(out / "onnx")),
        "polytask, ONNX int8": answer(polytask.load(out / "int8")),
    }


def seconds(way: Way, texts: Sequence[str]) -> float:
    began = time.perf_counter()
    with torch.inference_mode():
        way(texts)
    return time.perf_counter() - began


def agreement(exact: list[dict[str, Any]], found: list[dict[str, Any]]) -> tuple[list[float], float]:
    """Return for each task the share of texts that are answered alike, and the greatest difference of a probability."""
    alike = [
        statistics.mean(said(one[task]) == said(other[task]) for one, other in zip(exact, found, strict=True))
        for task in TASKS
    ]
    pairs = (
        (one[task]["probabilities"], other[task]["probabilities"])
        for one, other in zip(exact, found, strict=True)
        for task in ("sentiment", "topic")
    )
    return alike, max(abs(value - other[label]) for one, other in pairs for label, value in one.items())


def print_agreement(own: dict[str, Way], texts: Sequence[str]) -> None:
    """Compare the forms of a model with float32, and bfloat16 texts one at a time with those in batches."""
    found = {name: way(texts) for name, way in own.items()}
    found["bf16, one text at a time"] = [answer for text in texts for answer in own["bf16"]([text])]
    print("\n| answered alike | sentiment | topic | entities | greatest difference of a probability |")
    print("|---|---|---|---|---|")
    for name, answers in list(found.items())[1:]:
        against = "bf16" if name.startswith("bf16,") else "fp32"
        alike, difference = agreement(found[against], answers)
        shares = " | ".join(f"{100 * share:.1f} %" for share in alike)
        print(f"| {name}, and {against} | {shares} | {difference:.4f} |")


def said(answer: Any) -> Any:
    """Return what a task says, without its numbers."""
    if isinstance(answer, list):
        return [(entity["label"], entity["start"], entity["end"]) for entity in answer]
    return answer["label"]


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("runs/three/model"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/shipped"))
    parser.add_argument("--ways", nargs="+", help="words of the ways to take, such as bf16; by default all")
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    export_all(options.model, options.data, options.out)
    lines = (options.data / "ag_news" / "test.jsonl").read_text("utf-8").splitlines()[: options.texts]
    texts = [json.loads(line)["text"] for line in lines]
    ways = ways_of(options.model, options.out)
    if options.ways:
        ways = {name: way for name, way in ways.items() if any(word in name for word in options.ways)}
    for way in ways.values():
        seconds(way, texts[:64])
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            taken[name].append(seconds(way, texts))
    single: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(2):  # way by way: the idle threads of one library spin on while the next one runs
        for name, way in ways.items():
            single[name] += [1000 * seconds(way, [text]) for text in texts[:100]]
    print(f"{options.texts} texts, {options.rounds} rounds, {options.threads} threads\n")
    first = next(iter(ways)) if options.ways else "three models, loop, fp32"
    print(f"| way | texts/s | to {first} | one text: p50 ms | p99 ms |\n|---|---|---|---|---|")
    base = statistics.median(taken[first])
    for name, found in taken.items():
        middle = statistics.median(found)
        low, high = np.quantile(single[name], [0.5, 0.99])
        print(f"| {name} | {len(texts) / middle:.0f} | {base / middle:.2f} | {low:.1f} | {high:.1f} |")
    own = {name.removeprefix("polytask, "): way for name, way in ways.items() if name.startswith("polytask")}
    if len(own) == 4:
        print_agreement(own, texts)
    three = sum(folder_bytes(options.out / "hf" / task) for task in TASKS)
    print("\n| folder | MB | of three models |\n|---|---|---|")
    for name, folder in {"polytask": options.model, "ONNX": options.out / "onnx", "int8": options.out / "int8"}.items():
        size = folder_bytes(folder)
        print(f"| {name} | {size / 1e6:.1f} | {size / three:.3f} |")


if __name__ == "__main__":
    main()
