"""Write and read a model folder: safetensors, JSON and tokenizer files, each with its hash; no pickle anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from polytask.artifact.card import model_card
from polytask.artifact.description import BERT_HEADS, WEIGHTS, Description, read_description, write_description
from polytask.errors import ModelError
from polytask.files import new_folder
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

    def to_json(self) -> dict[str, Any]:
        """Return what its description says wherever it runs."""
        return {
            "about": dict(self.about),
            "max_tokens": self.max_tokens,
            "sharing": self.model.sharing.to_json(),
            "tasks": {name: task.to_json() for name, task in self.tasks.items()},
        }


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write a model folder, whole or not at all. Raises OutputError when it exists or cannot be written."""
    with new_folder(folder, SafetensorError) as temporary:
        weights = {name: value.detach().cpu().contiguous() for name, value in bundle.model.state_dict().items()}
        save_file(weights, temporary / WEIGHTS["torch"], metadata={"format": "pt"})
        bundle.tokenizer.save_pretrained(temporary)
        (temporary / "README.md").write_text(model_card(bundle), "utf-8")
        said = {**bundle.to_json(), "encoder": bundle.model.config.to_dict(), "precision": bundle.precision}
        write_description(temporary, "torch", said)


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
