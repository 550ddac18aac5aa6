"""Checks of untrusted folders before transformers loads them: plain weights and tokenizers, no code, limited sizes.

transformers reads from a folder which class to build, and classes can be code from the folder or from the hub. By
default it asks on stdin, so every call passes `trust_remote_code=False`. That alone is not enough: the name of a
tokenizer class may be any name of the package, even `AutoModel`, which is then called without that argument.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from polytask.errors import ModelError
from polytask.model.family import FAMILIES, Family, family_of

# Limits of an encoder's configuration. Published encoders have up to 48 layers and 1,000,000 words.
MAX_LAYERS = 1_000
MAX_NUMBER = 2**24
MAX_POSITIONS = 2**20
_MAXIMA = {
    **dict.fromkeys(("num_hidden_layers", "n_layers", "num_layers"), MAX_LAYERS),
    **dict.fromkeys(("max_position_embeddings", "type_vocab_size", "num_labels"), MAX_POSITIONS),
}
# Settings that are dimensions of tensors.
_SIZES = ("vocab_size", "hidden_size", "dim", "intermediate_size", "hidden_dim", "embedding_size")
_ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")
# Attention that is part of torch or transformers; polytask ignores the setting and chooses its own.
_PLAIN_ATTENTION = frozenset(
    {"eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention", "polytask_sdpa"}
)
# Settings that change how weights are loaded or what the layers are.
_UNREAD = ("quantization_config", "transformers_weights", "fusion_config", "per_layer_config", "distributed_config")
# Nested settings of a checkpoint that holds an encoder and a decoder.
_PARTS = ("encoder", "decoder")
_DECODER = ("is_decoder", "is_encoder_decoder", "add_cross_attention")
_VERSIONED = re.compile(r"tokenizer\.[\w.]+\.json")
# Heads of pretraining and of other tasks, next to the encoder in a checkpoint without a prefix.
_HEADS = re.compile(
    r"^(pooler|cls|lm_head|classifier|qa_outputs|score|decoder|head|dense|pre_classifier|predictions|sop_classifier"
    r"|vocab_(transform|projector|layer_norm)|(lm|mask|discriminator|generator)_predictions|generator_lm_head)\."
)


def require_plain_encoder(settings: Mapping[str, Any], place: str) -> None:
    """Raise ModelError if an encoder's configuration asks for code, other weights, or absurd sizes.

    Args:
        settings: content of config.json.
        place: location of the configuration, for messages.
    """
    name = settings.get("model_type")
    family = family_of(name)
    if family is None:
        raise ModelError(f"{place}: the family {name!r} is not supported; accepted: {', '.join(FAMILIES)}")
    _require_installed(str(name), family, place)
    _refuse_code(settings.get("auto_map"), ("AutoConfig", "AutoModel"), place)
    for key in _DECODER:
        if settings.get(key) and (family.alone is None or key != "is_encoder_decoder"):
            raise ModelError(f"{place}: {key}: found true, but an encoder is needed; name a bidirectional one")
    _require_plain_settings(settings, place)
    for part in _PARTS if family.alone is not None else ():
        inner = settings.get(part)
        if inner is not None and not isinstance(inner, Mapping):
            raise ModelError(f"{place}: {part}: found {str(inner)[:100]!r}; expected the settings of the {part}")
        _require_plain_settings(inner or {}, f"{place}: {part}")


def _require_installed(name: str, family: Family, place: str) -> None:
    """Raise ModelError if the installed transformers does not have a family."""
    from transformers import CONFIG_MAPPING, __version__

    if name not in CONFIG_MAPPING:
        raise ModelError(
            f"{place}: the family {name!r} needs transformers {family.since} or newer, but {__version__} is installed; "
            f"pip install 'transformers>={family.since}'"
        )


def _require_plain_settings(settings: Mapping[str, Any], place: str) -> None:
    for key in _ATTENTION:
        _require_plain_attention(key, settings.get(key), place)
    for key in _UNREAD:
        if settings.get(key):
            raise ModelError(f"{place}: {key}: found, but polytask reads plain weights only; remove it, or save the "
                             "encoder without it")  # fmt: skip
    for key, number in _numbers(settings):
        maximum = _MAXIMA.get(key, MAX_NUMBER)
        if abs(number) > maximum:
            raise ModelError(f"{place}: {key}: found {_short(number)}; expected a number up to {maximum:,}")


def _refuse_code(auto_map: Any, names: Collection[str], place: str) -> None:  # noqa: ANN401
    classes = auto_map if isinstance(auto_map, Mapping) else {"AutoTokenizer": auto_map} if auto_map else {}
    code = [str(classes[name]) for name in names if classes.get(name)]
    if code:
        raise ModelError(
            f"{place}: auto_map: needs its own code ({code[0][:100]}), which is never run; name an encoder that "
            "transformers knows, or remove auto_map if the files are plain ones of their family"
        )


def _require_plain_attention(key: str, value: Any, place: str) -> None:  # noqa: ANN401
    for name in value.values() if isinstance(value, Mapping) else (value,):
        if name is not None and name not in _PLAIN_ATTENTION:
            raise ModelError(
                f"{place}: {key}: found {str(name)[:100]!r}, which would be loaded as code; remove it "
                f"(accepted: {', '.join(sorted(_PLAIN_ATTENTION))}; none of them has any effect here)"
            )


def _numbers(settings: Mapping[str, Any]) -> Iterator[tuple[str, int | float]]:
    for key, value in settings.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield key, value


def _short(number: float) -> str:
    return f"{number:,}" if abs(number) < 1e18 else f"a number of {len(str(number))} characters"


def require_plain_tokenizer(location: str) -> None:
    """Raise ModelError if a tokenizer's settings ask for code, or for files outside its folder.

    Args:
        location: a folder, or the id of a hub model.
    """
    from transformers import PretrainedConfig
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    settings = get_tokenizer_config(location)
    place = f"{location}: tokenizer_config.json"
    _refuse_code(settings.get("auto_map"), ("AutoTokenizer",), place)
    if settings.get("init_inputs"):
        raise ModelError(f"{place}: init_inputs: found; save the tokenizer again with save_pretrained")
    for name in settings.get("fast_tokenizer_files") or ():
        if not isinstance(name, str) or (_VERSIONED.fullmatch(name) is None and name != "tokenizer.json"):
            raise ModelError(f"{place}: fast_tokenizer_files: found {str(name)[:100]!r}; expected tokenizer.json")
    _require_tokenizer_class(settings.get("tokenizer_class"), place)
    try:
        config = PretrainedConfig.get_config_dict(location)[0]
    except OSError:  # there may be a tokenizer only
        return
    if config:  # transformers builds the configuration when it loads the tokenizer
        require_plain_encoder(config, location)
    _require_tokenizer_class(config.get("tokenizer_class"), f"{location}: config.json")


def _require_tokenizer_class(name: Any, place: str) -> None:  # noqa: ANN401
    """Raise ModelError unless the name is that of a fast tokenizer in transformers, or unknown there."""
    from transformers import PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    if name is None:
        return
    known = isinstance(name, str) and re.fullmatch(r"\w{1,100}", name) is not None and not name.startswith("Auto")
    kind: Any = tokenizer_class_from_name(name) if known else object
    plain = ("PreTrainedTokenizer", "PythonBackend")  # transformers loads these as fast ones
    if (
        kind is not None
        and name not in plain
        and not (isinstance(kind, type) and issubclass(kind, PreTrainedTokenizerFast))
    ):
        raise ModelError(
            f"{place}: tokenizer_class: found {str(name)[:100]!r}, which is no fast tokenizer of transformers; only "
            "these can find the words in a text; expected a name such as PreTrainedTokenizerFast"
        )


def require_no_adapter(location: str) -> None:
    """Raise ModelError if a folder has an adapter with or instead of an encoder: PEFT would load it silently."""
    from transformers.utils.import_utils import is_peft_available
    from transformers.utils.peft_utils import find_adapter_config_file

    if not is_peft_available():
        path = Path(location, "adapter_config.json")
        adapter = str(path) if path.is_file() else None
    else:
        adapter = find_adapter_config_file(location)
    if adapter is not None:
        raise ModelError(
            f"{location}: found an adapter (adapter_config.json), but an encoder is needed; merge it into the weights "
            "(merge_and_unload of peft), or remove the file"
        )


def require_sizes(settings: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], place: str) -> None:
    """Raise ModelError if a configuration has sizes that no tensor has, before memory is allocated for them.

    Args:
        shapes: shapes of the tensors in the file, by name.
    """
    known = {size for shape in shapes.values() for size in shape}
    inner = settings.get("encoder")
    if isinstance(inner, Mapping):  # a checkpoint that also holds a decoder
        require_sizes(inner, shapes, f"{place}: encoder")
        return
    for key in _SIZES:
        if key in settings and settings[key] not in known:
            raise ModelError(
                f"{place}: the weights do not fit the configuration: {key} is {settings[key]}, but no tensor has that "
                "size"
            )
    family = family_of(settings.get("model_type"))
    for key, maximum in _MAXIMA.items() if family is None or not family.one_set else ():
        if maximum == MAX_LAYERS and settings.get(key, 0) > len(shapes):
            raise ModelError(
                f"{place}: the weights do not fit the configuration: {key} is {settings[key]}, but there are "
                f"{len(shapes)} tensors"
            )


def shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a safetensors file, from its header. Raises ModelError for other files."""
    try:
        with safe_open(file, framework="numpy") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file}: not a safetensors file ({error}); copy it again") from None


def require_whole(report: Mapping[str, Any], names: Collection[str], prefix: str, place: str) -> None:
    """Raise ModelError unless a checkpoint holds exactly the encoder's weights, apart from its pooler.

    Missing weights would be random, and unexpected ones indicate that the configuration belongs to another model. Heads
    of pretraining and of other tasks may be in the checkpoint too.

    Args:
        report: transformers' loading report.
        names: names of the encoder's tensors.
        prefix: prefix of the encoder's tensors in checkpoints that also hold a head ("bert").
    """
    missing = sorted(name for name in report["missing_keys"] if not _is_pooler(name))
    unexpected = sorted(name for name in report["unexpected_keys"] if _belongs(name, names, prefix))
    shapes = sorted(str(mismatch[0]) for mismatch in report["mismatched_keys"])
    for verb, keys in (("lack", missing), ("have other shapes of", shapes), ("hold unknown", unexpected)):
        if keys:
            listed = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise ModelError(
                f"{place}: the weights do not fit the configuration: they {verb} {listed}; expected a checkpoint of "
                "this very encoder (compare config.json with the one that the weights came with)"
            )


def _is_pooler(name: str) -> bool:
    return name.startswith("pooler.") or ".pooler." in name


def _belongs(name: str, names: Collection[str], prefix: str) -> bool:
    """Whether an unexpected tensor looks like a part of the encoder."""
    inner = name.removeprefix(f"{prefix}.")
    if _is_pooler(name) or inner.endswith("position_ids"):
        return False
    if inner != name:
        return True
    return _HEADS.match(name) is None or name.partition(".")[0] in {own.partition(".")[0] for own in names}
