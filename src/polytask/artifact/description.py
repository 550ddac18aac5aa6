"""What a model folder says of itself, verified: form, tasks, and the hash of every file. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from polytask.data.cache import file_digest
from polytask.errors import ModelError, nearest
from polytask.files import write_json
from polytask.tasks import TASKS, Task
from polytask.terms import Precision

FORM = 3
# An earlier form, in which every family had the heads of bert: it is read where they are the same today.
BERT_HEADS = 2
FILE = "polytask.json"
Runtime: TypeAlias = Literal["torch", "onnx"]
# What holds the weights, by what runs them.
WEIGHTS: dict[Runtime, str] = {"torch": "model.safetensors", "onnx": "model.onnx"}


@dataclass(frozen=True)
class Description:
    """What a model folder holds.

    Attributes:
        precision: in which the scores were made; bf16 and auto may differ from fp32 in the third decimal.
        about: scores, versions and the encoder's name: for people.
        data: all that polytask.json says.
    """

    folder: Path
    runtime: Runtime
    tasks: Mapping[str, Task]
    max_tokens: int
    precision: Precision
    about: Mapping[str, Any]
    data: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Hash of the weights."""
        return str(self.data["sha256"][WEIGHTS[self.runtime]])


def read_description(folder: Path) -> Description:
    """Read what a model folder holds. Raises ModelError when it is not one, was altered, or is of another version."""
    data = _verified(folder)
    try:
        tasks = {name: TASKS[task["type"]].from_json(name, task) for name, task in data["tasks"].items()}
        runtime: Runtime = data.get("runtime", "torch")
        found = Description(folder, runtime, tasks, int(data["max_tokens"]), data["precision"], data["about"], data)
        weights = found.digest if runtime in WEIGHTS else ""
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder}: the description cannot be read ({error}); copy the whole folder again") from None
    if not weights:
        raise ModelError(f"{folder}: found the runtime {runtime!r}; {nearest(str(runtime), WEIGHTS)}")
    return found


def write_description(folder: Path, runtime: Runtime, said: Mapping[str, Any]) -> None:
    """Write polytask.json into a folder that holds all else: what is said of the model, and the hash of every file."""
    hashes = {file.name: file_digest(file) for file in sorted(folder.iterdir())}
    write_json(folder / FILE, {"form": FORM, "runtime": runtime, **said, "sha256": hashes})


def _verified(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    if not path.is_file():
        inner = folder / "model" / FILE
        hint = f"; did you mean {inner.parent}?" if inner.is_file() else ""
        raise ModelError(f"{folder}: not a model folder, {FILE} is missing{hint}")
    try:
        data = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error}); copy the folder again") from None
    form = data.get("form") if isinstance(data, dict) else None
    if form not in (FORM, BERT_HEADS):
        raise ModelError(
            f"{folder}: written in form {form!r}, and this version of polytask reads form {FORM}; "
            "load it with the version that wrote it"
        )
    hashes = data.get("sha256")
    if not isinstance(hashes, dict) or not hashes:
        raise ModelError(f"{path}: the files' hashes are missing; copy the folder again")
    for name, expected in hashes.items():
        file = folder / name
        if Path(name).name != name:
            raise ModelError(f"{path}: the file name {name!r} leaves the folder")
        if not file.is_file():
            raise ModelError(f"{file}: missing; copy the whole folder again")
        if file_digest(file) != expected:
            raise ModelError(f"{file}: the content is not what was saved (sha256 differs); copy the folder again")
    return data
