"""Write and read a model folder: safetensors, JSON and tokenizer files, each with its hash; no pickle anywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from polytask.artifact.card import model_card
from polytask.artifact.description import BERT_HEADS, FILE, FORM, WEIGHTS, Description, read_description
from polytask.data.cache import file_digest
from polytask.errors import ModelError, OutputError
from polytask.model.encoder import Backbone
from polytask.model.heads import changed_since_form_2
from polytask.model.multitask import MultiTaskModel
from polytask.model.origin import load_tokenizer, quiet
from polytask.sharing.sharing import Sharing
from polytask.tasks import Task, head_specs
from polytask.terms import HeadSpec, Precision

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Bundle:
    """A trained model with all that prediction needs.

    Attributes:
        precision: in which the scores were made; bf16 and auto may differ from fp32 in the third decimal.
        about: scores, versions and the encoder's name: for people, not read back.
    """

    model: MultiTaskModel
    tasks: Mapping[str, Task]
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int
    precision: Precision = "auto"
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write a model folder, whole or not at all. Raises OutputError when it exists or cannot be written."""
    if folder.exists():
        raise OutputError(f"{folder}: the folder exists; name another one")
    temporary = folder.with_name(f".writing-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        weights = {name: value.detach().cpu().contiguous() for name, value in bundle.model.state_dict().items()}
        save_file(weights, temporary / WEIGHTS["torch"], metadata={"format": "pt"})
        bundle.tokenizer.save_pretrained(temporary)
        (temporary / "README.md").write_text(model_card(bundle), "utf-8")
        files = {file.name: file_digest(file) for file in sorted(temporary.iterdir())}
        description = {
            "form": FORM,
            "about": dict(bundle.about),
            "encoder": bundle.model.config.to_dict(),
            "max_tokens": bundle.max_tokens,
            "precision": bundle.precision,
            "sharing": bundle.model.sharing.to_json(),
            "tasks": {name: task.to_json() for name, task in bundle.tasks.items()},
            "sha256": files,
        }
        text = json.dumps(description, indent=1, ensure_ascii=False)
        (temporary / FILE).write_text(text + "\n", "utf-8")
        temporary.replace(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise OutputError(f"{folder}: the model cannot be written ({error})") from None


def load_bundle(folder: Path) -> Bundle:
    """Read a model folder. Raises ModelError when it is not one, was altered, or is of another version."""
    return load_described(read_description(folder))


def load_described(found: Description) -> Bundle:
    """Read the model of a folder whose description was read."""
    folder = found.folder
    if found.runtime != "torch":
        raise ModelError(
            f"{folder}: found a model for {found.runtime}, and this needs one for torch; name the folder that it was "
            "exported from"
        )
    try:
        heads = head_specs(found.tasks)
        if found.data["form"] == BERT_HEADS:
            require_same_heads(folder, found.data["encoder"]["model_type"], heads)
        sharing = Sharing.from_json(found.data["sharing"])
        backbone = Backbone.build(_config_of(found.data["encoder"]))
        model = MultiTaskModel(backbone, sharing, heads)
        model.load_state_dict(load_file(folder / WEIGHTS["torch"]))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: the description and the weights do not fit together ({error})") from None
    tokenizer = load_tokenizer(str(folder))
    return Bundle(model.eval(), found.tasks, tokenizer, found.max_tokens, found.precision, found.about)


def require_same_heads(folder: Path, family: str, heads: Mapping[str, HeadSpec]) -> None:
    """Raise ModelError where heads of form 2 are not those of today: a dense layer and tanh before cls heads only."""
    changed = [task for task, spec in heads.items() if changed_since_form_2(family, spec)]
    if changed:
        raise ModelError(
            f"{folder}: written in form {BERT_HEADS}, in which the heads of {family} were not yet those of its own "
            f"classes; this concerns {', '.join(changed)}: train the model again, or load it with the version that "
            "wrote it"
        )


def _config_of(data: dict[str, Any]) -> Any:  # noqa: ANN401
    from transformers import AutoConfig

    with quiet():
        return AutoConfig.for_model(**data)
