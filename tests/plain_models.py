"""Bundles of every family and sharing by hand, with tasks that the plain classes can hold."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from families import WORDS
from polytask.artifact.bundle import Bundle
from polytask.tasks import TASKS, Task, head_specs
from samples import corpus_rows
from stacks import stack


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of the tiny encoders' vocabulary: frequent words of the corpus."""
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    seen = " ".join(row["text"] for row in corpus_rows(100)).split()
    words = sorted(set(seen), key=lambda word: (-seen.count(word), word))[: WORDS - len(special)]
    backend = Tokenizer(WordLevel({word: index for index, word in enumerate([*special, *words])}, "[UNK]"))
    backend.pre_tokenizer = Whitespace()
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("unk", "pad", "cls", "sep", "mask")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in zip(names, special, strict=True)},
    )


def task(name: str, kind: str, fitted: dict[str, Any], **options: Any) -> Task:
    return TASKS[kind].from_json(name, {"type": kind, "options": {"type": kind, **options}, "fitted": fitted})


def tasks(pooling: str = "cls") -> dict[str, Task]:
    """Return tasks of every type, of the levels that `stacks.HEADS` gives their names."""
    five = [f"class {index}" for index in range(5)]
    return {
        "a": task("a", "classification", {"classes": five, "counts": [3, 2, 1, 1, 1]}, pooling=pooling),
        "b": task("b", "tagging", {"tagset": ["O", "B-X", "I-X"], "counts": [5, 2, 1], "bio": True}),
        "c": task("c", "regression", {"mean": 3.5, "deviation": 2.25}, pooling=pooling),
        "d": task("d", "tagging", {"tagset": ["NOUN", "VERB"], "counts": [2, 1], "bio": False}),
    }


def bundle(sharing: dict[str, Any], family: str = "bert", *, pooling: str = "cls", **more: Any) -> Bundle:
    """Return a bundle whose weights all differ."""
    found = tasks(pooling)
    model = stack(sharing, family, seed=11, specs=head_specs(found), **more)
    return Bundle(model, found, tokenizer(), 24, "fp32", {"encoder": "tiny"})
