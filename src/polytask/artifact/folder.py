"""Write and read a model folder: safetensors, JSON and tokenizer files, each with its hash; no pickle anywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from polytask.artifact.card import model_card
from polytask.data.cache import file_digest
from polytask.errors import ModelError, OutputError
from polytask.model.encoder import Backbone
from polytask.model.heads import changed_since_form_2
from polytask.model.multitask import MultiTaskModel
from polytask.model.origin import load_tokenizer, quiet
from polytask.sharing.sharing import Sharing
from polytask.tasks import TASKS, Task, head_specs
from polytask.terms import HeadSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORM = 3
# In form 2 every family had the heads of bert.
_EARLIER = 2
_DESCRIPTION = "polytask.json"
_WEIGHTS = "model.safetensors"


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
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Contents:
    """What a model folder holds.

    Attributes:
        digest: hash of the weights.
    """

    folder: Path
    tasks: Mapping[str, Task]
    max_tokens: int
    precision: Literal["auto", "fp32", "bf16"]
    digest: str


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write a model folder, whole or not at all. Raises OutputError when it exists or cannot be written."""
    if folder.exists():
        raise OutputError(f"{folder}: the folder exists; name another one")
    temporary = folder.with_name(f".writing-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        weights = {name: value.detach().cpu().contiguous() for name, value in bundle.model.state_dict().items()}
        save_file(weights, temporary / _WEIGHTS, metadata={"format": "pt"})
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
        (temporary / _DESCRIPTION).write_text(text + "\n", "utf-8")
        temporary.replace(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise OutputError(f"{folder}: the model cannot be written ({error})") from None


def load_bundle(folder: Path) -> Bundle:
    """Read a model folder. Raises ModelError when it is not one, was altered, or is of another version."""
    description = _describe(folder)
    try:
        tasks = {name: TASKS[data["type"]].from_json(name, data) for name, data in description["tasks"].items()}
        if description["form"] == _EARLIER:
            require_same_heads(folder, description["encoder"]["model_type"], head_specs(tasks))
        sharing = Sharing.from_json(description["sharing"])
        backbone = Backbone.build(_config_of(description["encoder"]))
        model = MultiTaskModel(backbone, sharing, head_specs(tasks))
        model.load_state_dict(load_file(folder / _WEIGHTS))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: the description and the weights do not fit together ({error})") from None
    tokenizer = load_tokenizer(str(folder))
    rest = (description["max_tokens"], description["precision"], description["about"])
    return Bundle(model.eval(), tasks, tokenizer, *rest)


def read_contents(folder: Path) -> Contents:
    """Read what a model folder holds, without its weights. Raises ModelError as `load_bundle` does."""
    description = _describe(folder)
    try:
        tasks = {name: TASKS[data["type"]].from_json(name, data) for name, data in description["tasks"].items()}
        rest = (description["max_tokens"], description["precision"], description["sha256"][_WEIGHTS])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder}: the description cannot be read ({error})") from None
    return Contents(folder, tasks, *rest)


def _describe(folder: Path) -> dict[str, Any]:
    path = folder / _DESCRIPTION
    if not path.is_file():
        inner = folder / "model" / _DESCRIPTION
        hint = f"; did you mean {inner.parent}?" if inner.is_file() else ""
        raise ModelError(f"{folder}: not a model folder, {_DESCRIPTION} is missing{hint}")
    try:
        description = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error})") from None
    if description.get("form") not in (FORM, _EARLIER):
        raise ModelError(
            f"{folder}: written in form {description.get('form')!r}, and this version of polytask reads form {FORM}; "
            "load it with the version that wrote it"
        )
    for name, expected in description["sha256"].items():
        file = folder / name
        if Path(name).name != name:
            raise ModelError(f"{path}: the file name {name!r} leaves the folder")
        if not file.is_file():
            raise ModelError(f"{file}: missing; copy the whole folder again")
        if file_digest(file) != expected:
            raise ModelError(f"{file}: the content is not what was saved (sha256 differs); copy the folder again")
    return description


def require_same_heads(folder: Path, family: str, heads: Mapping[str, HeadSpec]) -> None:
    """Raise ModelError where heads of form 2 are not those of today: a dense layer and tanh before cls heads only."""
    changed = [task for task, spec in heads.items() if changed_since_form_2(family, spec)]
    if changed:
        raise ModelError(
            f"{folder}: written in form {_EARLIER}, in which the heads of {family} were not yet those of its own "
            f"classes; this concerns {', '.join(changed)}: train the model again, or load it with the version that "
            "wrote it"
        )


def _config_of(data: dict[str, Any]) -> Any:  # noqa: ANN401
    from transformers import AutoConfig

    with quiet():
        return AutoConfig.for_model(**data)
