"""What a foreign folder may ask of transformers: plain weights and a plain tokenizer, never code, never any size.

transformers reads from a folder which class to build, and classes can be code from the folder or from the hub. Where it
is told nothing it asks on stdin, so every call says `trust_remote_code=False`; that alone is not enough, since the name
of a tokenizer's class may be any name of the package, `AutoModel` too, which is then called without it.
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
MOST_LAYERS = 1_000
MOST_NUMBER = 2**24
MOST_POSITIONS = 2**20
_MOST = {
    **dict.fromkeys(("num_hidden_layers", "n_layers", "num_layers"), MOST_LAYERS),
    **dict.fromkeys(("max_position_embeddings", "type_vocab_size", "num_labels"), MOST_POSITIONS),
}
# Sizes that are the sizes of tensors.
_SIZES = ("vocab_size", "hidden_size", "dim", "intermediate_size", "hidden_dim", "embedding_size")
_ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")
# Attention that is part of torch or transformers; polytask chooses its own whatever stands there.
_PLAIN_ATTENTION = frozenset(
    {"eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention", "polytask_sdpa"}
)
# What changes how weights are found or what the layers are.
_UNREAD = ("quantization_config", "transformers_weights", "fusion_config", "per_layer_config", "distributed_config")
# Of a checkpoint that holds an encoder and a decoder.
_PARTS = ("encoder", "decoder")
_DECODER = ("is_decoder", "is_encoder_decoder", "add_cross_attention")
_VERSIONED = re.compile(r"tokenizer\.[\w.]+\.json")
# Heads of pretraining and of other tasks, which stand beside the encoder in a checkpoint that names no prefix.
_HEADS = re.compile(
    r"^(pooler|cls|lm_head|classifier|qa_outputs|score|decoder|head|dense|pre_classifier|predictions|sop_classifier"
    r"|vocab_(transform|projector|layer_norm)|(lm|mask|discriminator|generator)_predictions|generator_lm_head)\."
)


def require_plain_encoder(settings: Mapping[str, Any], place: str) -> None:
    """Raise ModelError where an encoder's configuration asks for code, for other weights, or for absurd sizes.

    Args:
        settings: as config.json holds them.
        place: of the configuration, for the message.
    """
    name = settings.get("model_type")
    family = family_of(name)
    if family is None:
        raise ModelError(f"{place}: the family {name!r} is not supported; accepted: {', '.join(FAMILIES)}")
    _require_installed(str(name), family, place)
    _refuse_code(settings.get("auto_map"), ("AutoConfig", "AutoModel"), place)
    for key in _DECODER:
        if settings.get(key) and (family.alone is None or key != "is_encoder_decoder"):
            raise ModelError(f"{place}: {key}: found true, and this is for encoders; name one that reads both ways")
    _require_plain_settings(settings, place)
    for part in _PARTS if family.alone is not None else ():
        inner = settings.get(part)
        if inner is not None and not isinstance(inner, Mapping):
            raise ModelError(f"{place}: {part}: found {str(inner)[:100]!r}; expected the settings of the {part}")
        _require_plain_settings(inner or {}, f"{place}: {part}")


def _require_installed(name: str, family: Family, place: str) -> None:
    """Raise ModelError where the installed transformers lacks a family."""
    from transformers import CONFIG_MAPPING, __version__

    if name not in CONFIG_MAPPING:
        raise ModelError(
            f"{place}: the family {name!r} needs transformers {family.since} or newer, and {__version__} is installed; "
            f"pip install 'transformers>={family.since}'"
        )


def _require_plain_settings(settings: Mapping[str, Any], place: str) -> None:
    for key in _ATTENTION:
        _require_plain_attention(key, settings.get(key), place)
    for key in _UNREAD:
        if settings.get(key):
            raise ModelError(f"{place}: {key}: found, and polytask reads plain weights only; remove it, or save the "
                             "encoder without it")  # fmt: skip
    for key, number in _numbers(settings):
        most = _MOST.get(key, MOST_NUMBER)
        if abs(number) > most:
            raise ModelError(f"{place}: {key}: found {_short(number)}; expected a number up to {most:,}")


def _refuse_code(auto_map: Any, names: Collection[str], place: str) -> None:  # noqa: ANN401
    asked = auto_map if isinstance(auto_map, Mapping) else {"AutoTokenizer": auto_map} if auto_map else {}
    code = [str(asked[name]) for name in names if asked.get(name)]
    if code:
        raise ModelError(
            f"{place}: auto_map: asks for code of its own ({code[0][:100]}), which is never run; name an encoder that "
            "transformers knows, or remove auto_map where the files are plain ones of their family"
        )


def _require_plain_attention(key: str, value: Any, place: str) -> None:  # noqa: ANN401
    for name in value.values() if isinstance(value, Mapping) else (value,):
        if name is not None and name not in _PLAIN_ATTENTION:
            raise ModelError(
                f"{place}: {key}: found {str(name)[:100]!r}, which would be loaded as code; remove it "
                f"(accepted: {', '.join(sorted(_PLAIN_ATTENTION))}, and none of them changes anything here)"
            )


def _numbers(settings: Mapping[str, Any]) -> Iterator[tuple[str, int | float]]:
    for key, value in settings.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield key, value


def _short(number: float) -> str:
    return f"{number:,}" if abs(number) < 1e18 else f"a number of {len(str(number))} characters"


def require_plain_tokenizer(location: str) -> None:
    """Raise ModelError where a tokenizer's settings ask for code, or for files outside of its folder.

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
        beside = PretrainedConfig.get_config_dict(location)[0]
    except OSError:  # a tokenizer may stand alone
        return
    if beside:  # transformers builds the configuration on its way to the tokenizer
        require_plain_encoder(beside, location)
    _require_tokenizer_class(beside.get("tokenizer_class"), f"{location}: config.json")


def _require_tokenizer_class(name: Any, place: str) -> None:  # noqa: ANN401
    """Raise ModelError unless transformers knows the name as that of a fast tokenizer, or does not know it at all."""
    from transformers import PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    if name is None:
        return
    known = isinstance(name, str) and re.fullmatch(r"\w{1,100}", name) is not None and not name.startswith("Auto")
    kind: Any = tokenizer_class_from_name(name) if known else object
    plain = ("PreTrainedTokenizer", "PythonBackend")  # transformers reads these as fast ones
    if (
        kind is not None
        and name not in plain
        and not (isinstance(kind, type) and issubclass(kind, PreTrainedTokenizerFast))
    ):
        raise ModelError(
            f"{place}: tokenizer_class: found {str(name)[:100]!r}, which is no fast tokenizer of transformers; only "
            "these find the words in a text; expected a name such as PreTrainedTokenizerFast"
        )


def require_no_adapter(location: str) -> None:
    """Raise ModelError where an adapter lies beside an encoder, or in its place: PEFT would load it unasked."""
    from transformers.utils.import_utils import is_peft_available
    from transformers.utils.peft_utils import find_adapter_config_file

    if not is_peft_available():
        here = Path(location, "adapter_config.json")
        found = str(here) if here.is_file() else None
    else:
        found = find_adapter_config_file(location)
    if found is not None:
        raise ModelError(
            f"{location}: found an adapter (adapter_config.json), and an encoder is wanted; merge it into the weights "
            "(merge_and_unload of peft), or remove the file"
        )


def require_sizes(settings: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], place: str) -> None:
    """Raise ModelError where a configuration names sizes that no tensor has, before memory is taken for them.

    Args:
        shapes: of the tensors in the file, by name.
    """
    known = {size for shape in shapes.values() for size in shape}
    inner = settings.get("encoder")
    if isinstance(inner, Mapping):  # of a checkpoint that holds a decoder as well
        require_sizes(inner, shapes, f"{place}: encoder")
        return
    for key in _SIZES:
        if key in settings and settings[key] not in known:
            raise ModelError(
                f"{place}: the weights do not fit the configuration: {key} is {settings[key]}, and no tensor has that "
                "size"
            )
    family = family_of(settings.get("model_type"))
    for key, most in _MOST.items() if family is None or not family.one_set else ():
        if most == MOST_LAYERS and settings.get(key, 0) > len(shapes):
            raise ModelError(
                f"{place}: the weights do not fit the configuration: {key} is {settings[key]}, and there are "
                f"{len(shapes)} tensors"
            )


def shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a safetensors file, from its header. Raises ModelError for another file."""
    try:
        with safe_open(file, framework="numpy") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file}: not a safetensors file ({error}); copy it again") from None


def require_whole(report: Mapping[str, Any], names: Collection[str], prefix: str, place: str) -> None:
    """Raise ModelError unless a checkpoint holds what the encoder is made of, its pooler aside, and nothing more of it.

    What is missing would be trained from random numbers, and what is left over says that the configuration is another
    model's. Heads of pretraining and of other tasks may stand beside the encoder.

    Args:
        report: transformers' own, of loading.
        names: the encoder's tensors.
        prefix: before the encoder's tensors in checkpoints that hold a head as well ("bert").
    """
    missing = sorted(name for name in report["missing_keys"] if not _is_pooler(name))
    odd = sorted(name for name in report["unexpected_keys"] if _belongs(name, names, prefix))
    shapes = sorted(str(found[0]) for found in report["mismatched_keys"])
    for told, found in (("lack", missing), ("have other shapes of", shapes), ("hold unknown", odd)):
        if found:
            listed = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
            raise ModelError(
                f"{place}: the weights do not fit the configuration: they {told} {listed}; expected a checkpoint of "
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
