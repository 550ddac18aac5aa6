"""The verified description of a model folder: form, tasks, and the hash of every file. Needs no torch."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from polytask.data.cache import file_digest
from polytask.errors import ConfigError, ModelError, nearest
from polytask.extensions import import_allowed, require_imported
from polytask.files import new_folder, reason, write_json
from polytask.heads import POOLINGS
from polytask.inputs import folder_of
from polytask.regular import is_file, is_folder, is_there, read_text
from polytask.tasks import METRICS, TASKS, Task, require_readable
from polytask.tasks.cells import brief
from polytask.terms import Precision

FORM = 4
FILE = "polytask.json"
# A file in the folder of a run whose model was deleted after it was scored.
NOT_KEPT = "model-not-kept.txt"
Runtime: TypeAlias = Literal["torch", "onnx"]
# The file with the weights, by runtime.
WEIGHTS: dict[Runtime, str] = {"torch": "model.safetensors", "onnx": "model.onnx"}
TOKENIZER = "tokenizer.json"
# The model card is for people, who edit it: it is never opened, and has no hash.
CARD = "README.md"
# Bytes of polytask.json, which names every label and every file; ten thousand labels take 1 MB.
MOST_BYTES = 64 * 2**20
MOST_TOKENS = 2**20
# Files that people and programs put next to a model and that polytask never opens; all others must be listed.
_BYSTANDERS = frozenset({".md", ".html", ".pdf", ".png", ".jpg", ".svg"})
# A task's name becomes a file's name in an export, and a module's in the network.
_UNSAFE_NAME = re.compile(r"^\s*$|[\x00-\x1f/\\.:]")


@dataclass(frozen=True)
class Description:
    """The description of a model folder.

    Attributes:
        precision: precision of the scored predictions; bf16 and auto may differ from fp32 in the third decimal.
        about: scores, versions and the encoder's name, for information only.
        data: content of polytask.json.
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
    """Read the description of a model folder, or of the one in a run's folder.

    Raises ModelError if it is not a model folder, has been altered, or belongs to another version.
    """
    folder = model_folder(folder)
    data = _verified(folder)
    import_allowed()
    _require_extensions(folder, data)
    try:
        tasks = {name: TASKS[task["type"]].from_json(name, task) for name, task in data["tasks"].items()}
        runtime: Runtime = data.get("runtime", "torch")
        description = Description(
            folder, runtime, tasks, data["max_tokens"], data["precision"], dict(data["about"]), data
        )
        fault = _fault(description)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"{folder}: the description cannot be read ({error}); copy the whole folder again") from None
    except ConfigError as error:
        raise ModelError(f"{folder / FILE}: {error}") from None
    if fault is not None:
        raise ModelError(f"{folder / FILE}: {fault}")
    return description


def _require_extensions(folder: Path, data: Mapping[str, Any]) -> None:
    """Raise ModelError if a model needs task types that are not registered: the folder only names their modules."""
    needed = data.get("extensions", [])
    if not isinstance(needed, list):
        raise ModelError(f"{folder / FILE}: extensions: found {str(needed)[:100]!r}; expected a list of modules")
    require_imported(needed, str(folder), ModelError)
    tasks = data.get("tasks")
    for name, task in tasks.items() if isinstance(tasks, dict) else ():
        kind = task.get("type") if isinstance(task, dict) else None
        if isinstance(kind, str) and kind not in TASKS:
            suffix = f", and {', '.join(needed)} did not register it" if needed else ""
            raise ModelError(f"{folder}: {name}: found the type {kind[:100]!r}{suffix}; {nearest(kind, TASKS)}")


def extensions_of(tasks: Mapping[str, Task]) -> set[str]:
    """Return the modules that tasks need, in addition to polytask, for prediction and their main metric."""
    modules = {TASKS.extensions.get(task.type_name) for task in tasks.values()}
    modules |= {POOLINGS.extensions.get(task.options.pooling) for task in tasks.values()}
    modules |= {METRICS[task.level].extensions.get(task.metric) for task in tasks.values()}
    return {module for module in modules if module is not None}


def model_folder(path: str | PathLike[str]) -> Path:
    """Return the model folder of a path, which may be the folder of a run. Raises ConfigError if it is no path."""
    folder = folder_of(path, "model")
    inner = folder / "model"
    return inner if is_folder(inner) and not is_file(folder / FILE) else folder


def _hint(folder: Path) -> str:
    """Describe a folder that is not a model folder, and what to do."""
    if not is_there(folder):
        return ": no such folder"
    if is_folder(folder / "checkpoints"):
        return "; it is the folder of an unfinished run: continue it with `polytask train CONFIG --out RUN --resume`"
    if is_file(folder / NOT_KEPT):
        return "; the model of this run was deleted to save space; polytask train RUN/config.yaml --out DIR repeats it"
    inner = sorted(found.parent for found in folder.glob(f"*/{FILE}")) or sorted(
        found.parents[1] for found in folder.glob(f"*/model/{FILE}")
    )
    return f"; did you mean {inner[0]}?" if inner else "; name the folder of a finished run, or a model folder"


def _fault(description: Description) -> str | None:
    """Return what is invalid in a description, or None. Raises ConfigError for tasks that read missing ones."""
    if description.runtime not in WEIGHTS:
        return f"found the runtime {brief(description.runtime)}; {nearest(brief(description.runtime), WEIGHTS)}"
    for name in (WEIGHTS[description.runtime], TOKENIZER):
        if name not in description.data["sha256"]:
            return f"the hash of {name} is missing; copy the folder again"
    if description.precision not in get_args(Precision):
        near = nearest(str(description.precision)[:100], get_args(Precision))
        return f"precision: found {brief(description.precision)}; {near}"
    most = description.max_tokens
    if not isinstance(most, int) or isinstance(most, bool) or not 4 <= most <= MOST_TOKENS:  # pyright: ignore[reportUnnecessaryIsInstance]
        return f"max_tokens: found {brief(most)}; expected a whole number from 4 to {MOST_TOKENS:,}"
    if not description.tasks:
        return "tasks: found none"
    for name in description.tasks:
        if _UNSAFE_NAME.search(name):
            return f"tasks: found the name {name[:100]!r}; a name has no dot, colon, slash or control character"
    options = {name: task.options for name, task in description.tasks.items()}
    require_readable(options, {name: task.level for name, task in description.tasks.items()})
    return None


def write_description(folder: Path, runtime: Runtime, content: Mapping[str, Any]) -> None:
    """Write polytask.json into an otherwise complete folder: the description, and hashes of all files but the card."""
    hashes = {file.name: file_digest(file) for file in sorted(folder.iterdir()) if file.name != CARD}
    write_json(folder / FILE, {"form": FORM, "runtime": runtime, **content, "sha256": hashes})


def copy_model(description: Description, out: Path) -> None:
    """Copy a model folder, with the files that it names. Raises OutputError, ModelError when it changed since."""
    with new_folder(out) as temporary:
        card = [CARD] if is_file(description.folder / CARD) else []
        for name in (*description.data["sha256"], FILE, *card):
            shutil.copyfile(description.folder / name, temporary / name)
        if _verified(temporary)["sha256"] != description.data["sha256"]:
            raise ModelError(f"{description.folder}: the folder changed since the model was loaded; load it again")


def _verified(folder: Path) -> dict[str, Any]:
    """Return the content of polytask.json. Raises ModelError if a file of the folder is not what was saved."""
    try:
        return _verify(folder)
    except OSError as error:
        raise ModelError(
            f"{error.filename or folder}: cannot be read ({reason(error)}); its owner can make it readable "
            f"(chmod -R a+rX {folder}); or copy the whole folder again"
        ) from None


def _verify(folder: Path) -> dict[str, Any]:
    if is_folder(folder) and not os.access(folder, os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    path = folder / FILE
    if not is_file(path):
        raise ModelError(f"{folder}: not a model folder, {FILE} is missing{_hint(folder)}")
    data = _read(path)
    form = data.get("form") if isinstance(data, dict) else None
    if form != FORM:
        raise ModelError(
            f"{folder}: written in form {brief(form)}, and this version of polytask reads form {FORM}; "
            "load it with the version that saved it"
        )
    hashes = data.get("sha256")
    if not isinstance(hashes, dict) or not hashes:
        raise ModelError(f"{path}: the files' hashes are missing; copy the folder again")
    hashes.pop(CARD, None)
    for name, expected in hashes.items():
        file = folder / name
        if Path(name).name != name:
            raise ModelError(f"{path}: the file name {brief(name)} leaves the folder")
        if not is_file(file):
            raise ModelError(f"{file}: missing; copy the whole folder again")
        if file_digest(file) != expected:
            raise ModelError(f"{file}: the content differs from what was saved (sha256); copy the folder again")
    _refuse_others(folder, hashes)
    return data


def _read(path: Path) -> Any:  # noqa: ANN401
    if path.stat().st_size > MOST_BYTES:
        raise ModelError(f"{path}: found {path.stat().st_size:,} bytes; at most {MOST_BYTES:,} are read")
    try:
        return json.loads(read_text(path), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON ({error}); copy the folder again") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _refuse_others(folder: Path, listed: Mapping[str, str]) -> None:
    """Raise ModelError if the folder holds files that are not listed: a library could open them by name."""
    for entry in sorted(folder.iterdir()):
        name = entry.name
        if name in listed or name == FILE or name.startswith(".") or entry.suffix.lower() in _BYSTANDERS:
            continue
        raise ModelError(
            f"{entry}: not listed in {FILE}, so it was not saved with the model; move it out of the folder, or copy "
            "the folder again"
        )
