"""Write and read a model folder: safetensors, JSON and tokenizer files, each with its hash; no pickle anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from polytask.artifact.bundle import Bundle
from polytask.artifact.card import model_card
from polytask.artifact.description import CARD, WEIGHTS, Description, read_description, write_description
from polytask.errors import ModelError
from polytask.files import new_folder
from polytask.model.encoder import Backbone
from polytask.model.loading import forget_attention, load_tokenizer, quiet
from polytask.model.multitask import MultiTaskModel
from polytask.model.trust import require_plain_encoder, require_sizes, shapes_in
from polytask.model.word_tables import equal_tables, share_tables, table_names
from polytask.sharing.sharing import Sharing
from polytask.signals import uninterrupted
from polytask.tasks import head_specs
from polytask.tasks.cells import brief
from polytask.terms import HeadSpec

# Key of the word embeddings that are not in the file of weights, each with the equal ones that are.
EQUAL = "equal_tables"
# Errors of building a model from an invalid description.
_UNFIT = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, SafetensorError)


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write a model folder, completely or not at all. Raises OutputError if it exists or cannot be written."""
    with new_folder(folder) as temporary:
        equal = equal_tables(bundle.model)
        weights = {
            name: value.detach().cpu().contiguous()
            for name, value in bundle.model.state_dict().items()
            if name not in equal
        }
        save_file(weights, temporary / WEIGHTS["torch"], metadata={"format": "pt"})
        bundle.tokenizer.save_pretrained(temporary)
        (temporary / CARD).write_text(model_card(bundle), "utf-8")
        content = {**bundle.to_json(), "encoder": bundle.model.config.to_dict(), "precision": bundle.precision}
        write_description(temporary, "torch", {**content, EQUAL: equal} if equal else content)


def load_bundle(folder: Path) -> Bundle:
    """Read a model folder. Raises ModelError if it is none, has been altered, or belongs to another version."""
    return load_described(read_description(folder))


def load_described(description: Description) -> Bundle:
    """Load the model of a folder whose description has been read."""
    folder = description.folder
    if description.runtime != "torch":
        raise ModelError(
            f"{folder}: found a model for {description.runtime}, and this needs one for torch; name the folder that it "
            "was exported from"
        )
    file = folder / WEIGHTS["torch"]
    try:
        heads = head_specs(description.tasks)
        sharing = Sharing.from_json(description.data["sharing"])
        require_plain_encoder(description.data["encoder"], f"{folder}: encoder")
        shapes = shapes_in(file)
        require_sizes(description.data["encoder"], shapes, f"{folder}: encoder")
        require_parts(sharing, heads, len(shapes), folder)
        equal = description.data.get(EQUAL, {})
        with torch.device("meta"):  # without memory, to compare the described shapes with the stored ones
            described = MultiTaskModel(Backbone.build(_config_of(description.data["encoder"])), sharing, heads)
        require_tables(equal, described, shapes, folder)
        shapes |= {name: shapes[same] for name, same in equal.items()}
        require_shapes({name: tuple(value.shape) for name, value in described.state_dict().items()}, shapes, folder)
        backbone = Backbone.build(_config_of(description.data["encoder"]))
        if description.max_tokens > backbone.longest:
            raise ModelError(
                f"{folder}: max_tokens: found {description.max_tokens}; the encoder reads {backbone.longest}"
            )
        model = MultiTaskModel(backbone, sharing, heads)
        with uninterrupted():
            weights = load_file(file)
        require_finite(weights, file)
        model.load_state_dict({**weights, **{name: weights[same] for name, same in equal.items()}})
        share_tables(model, equal)
    except _UNFIT as error:
        raise ModelError(f"{folder}: the description and the weights do not fit together ({error})") from None
    tokenizer = load_tokenizer(str(folder))
    return Bundle(
        model.eval(), description.tasks, tokenizer, description.max_tokens, description.precision, description.about
    )


def require_parts(sharing: Sharing, heads: Mapping[str, HeadSpec], tensors: int, folder: Path) -> None:
    """Raise ModelError if a description has more parts than there are tensors, before any part is built."""
    mixtures = [one.mixing for one in (sharing, *sharing.trunks) if one.mixing is not None]
    found = [(name, int(count)) for mixing in mixtures for name, count in mixing.options.items()]
    asked = {name: count for name, count in sorted(found, key=lambda one: one[1]) if name.endswith("experts")}
    asked |= {"tasks": len(heads), "parts of layers": sum(map(len, sharing.plan.levels))}
    for name, count in asked.items():
        if count > tensors:
            raise ModelError(f"{folder}: sharing: found {count} {name}, and the weights are {tensors} tensors")
    listed = sorted(task for trunk in sharing.trunks for task in trunk.plan.tasks)
    if set(sharing.plan.tasks) != set(heads) or (sharing.trunks and listed != sorted(heads)):
        raise ModelError(f"{folder}: sharing: its tasks are not those of the model; copy the folder again")


def require_tables(equal: Any, asked: MultiTaskModel, there: Mapping[str, tuple[int, ...]], folder: Path) -> None:  # noqa: ANN401
    """Raise ModelError unless each table of word embeddings missing in the file equals one that is there."""
    tables = set(table_names(asked))
    if not isinstance(equal, dict) or not all(
        name in tables and name not in there and same in tables and same in there for name, same in equal.items()
    ):
        raise ModelError(
            f"{folder}: {EQUAL}: found {brief(equal)}; expected word embeddings that are not in the file of weights, "
            "each with the name of some that are; copy the folder again"
        )


def require_shapes(asked: Mapping[str, tuple[int, ...]], there: Mapping[str, tuple[int, ...]], folder: Path) -> None:
    """Raise ModelError unless the file of weights holds the described tensors."""
    odd = sorted(name for name in asked.keys() | there.keys() if asked.get(name) != there.get(name))
    if odd:
        name = odd[0]
        raise ModelError(
            f"{folder}: the description and the weights do not fit together ({name}: described {asked.get(name)}, "
            f"found {there.get(name)}; {len(odd)} tensors differ); copy the folder again"
        )


def require_finite(weights: Mapping[str, torch.Tensor], file: Path) -> None:
    """Raise ModelError if weights are not finite: such a model would return meaningless answers."""
    for name, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f"{file}: {name} holds values that are not finite: the training diverged; train it again")


def _config_of(data: dict[str, Any]) -> Any:  # noqa: ANN401
    from transformers import AutoConfig

    with quiet():
        config = AutoConfig.for_model(**data)
    forget_attention(config)
    return config
