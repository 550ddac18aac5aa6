"""Composition of several model folders into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from polytask.artifact.folder import Bundle, load_bundle, save_bundle
from polytask.artifact.pruning import pruned
from polytask.data.tokens import Tokenization
from polytask.errors import ConfigError, OutputError
from polytask.inputs import folder_of, folders_in
from polytask.model.composition import composed
from polytask.regular import is_there
from polytask.tasks import Task, head_specs

# Settings of an encoder's configuration that do not affect its outputs.
_NO_MATTER = frozenset(
    {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "id2label", "label2id",
     "use_cache", "gradient_checkpointing", "problem_type"}
)  # fmt: skip


def compose(sources: Sequence[str | PathLike[str]], out: str | PathLike[str]) -> Path:
    """Write one model folder with the tasks of several; each task's answers stay exactly the same.

    Parts with equal weights, such as a frozen trunk shared by two extensions, are stored and run once.

    Args:
        sources: folders of models or runs, or runs; `FOLDER:task,task` takes some of the tasks.
        out: the folder to write, which must not exist yet.

    Raises:
        ConfigError: if two sources have a task of the same name, or differ in the tokenizer, `max_tokens`, the
            encoder's shape or the precision.
        ModelError: if a source cannot be loaded.
        OutputError: if `out` exists, or cannot be written.
    """
    folder = folder_of(out, "out")
    if is_there(folder):
        raise OutputError(f"{folder}: the folder exists; name another one")
    folders = folders_in(sources, "sources")
    if len(folders) < 2:
        raise ConfigError(f"found {len(folders)} source; name two or more model folders: FOLDER or FOLDER:task,task")
    named = [_read(fspath(folder_of(source, "sources"))) for source in folders]
    _require_own_names(named)
    for name, bundle in named[1:]:
        _require_alike(*named[0], name, bundle)
    save_bundle(folder, join([bundle for _, bundle in named]))
    return folder


def join(bundles: Sequence[Bundle]) -> Bundle:
    """Return one bundle with the tasks of several that agree in tokenizer, encoder shape and precision.

    A task that several of them have, with equal weights, is taken from the first.
    """
    first, tasks = bundles[0], dict[str, Task]()
    for bundle in bundles:
        tasks |= {name: task for name, task in bundle.tasks.items() if name not in tasks}
    model = composed([bundle.model for bundle in bundles], head_specs(tasks))
    about = _about([bundle.about for bundle in bundles])
    return Bundle(model, tasks, first.tokenizer, first.max_tokens, first.precision, about)


def _read(source: str) -> tuple[str, Bundle]:
    """Read FOLDER or FOLDER:task,task."""
    folder, _, tasks = (source, "", "") if is_there(source) else source.rpartition(":")
    if not folder:
        folder, tasks = source, ""
    bundle = load_bundle(Path(folder))
    if not tasks:
        return folder, bundle
    try:
        return folder, pruned(bundle, [task.strip() for task in tasks.split(",") if task.strip()])
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _require_own_names(named: Sequence[tuple[str, Bundle]]) -> None:
    seen: dict[str, str] = {}
    for folder, bundle in named:
        for task in bundle.tasks:
            if task in seen:
                raise ConfigError(
                    f"{folder}: it has a task {task!r}, and so has {seen[task]}; take it from one of them, and list "
                    "the tasks to take from the other after a colon, such as FOLDER:task,task"
                )
            seen[task] = folder


def _require_alike(first: str, base: Bundle, name: str, added: Bundle) -> None:
    """Raise ConfigError if two models cannot be composed."""
    if base.max_tokens != added.max_tokens:
        _refuse(first, name, "max_tokens", base.max_tokens, added.max_tokens)
    if base.precision != added.precision:
        _refuse(first, name, "the precision", base.precision, added.precision)
    mine, theirs = _shape(base), _shape(added)
    for key in sorted(mine.keys() | theirs.keys()):
        if mine.get(key) != theirs.get(key):
            _refuse(first, name, f"the encoder's {key}", mine.get(key), theirs.get(key))
    tokens = [Tokenization.of(bundle.tokenizer, bundle.max_tokens).fingerprint for bundle in (base, added)]
    if tokens[0] != tokens[1]:
        raise ConfigError(
            f"{name}: its tokenizer differs from that of {first} (fingerprints {tokens[1][:12]} and {tokens[0][:12]}); "
            "models can be composed if they read the same tokens: train both from the same encoder"
        )


def _refuse(first: str, name: str, setting: str, expected: object, value: object) -> None:
    raise ConfigError(
        f"{name}: {setting}: found {value!r}, and {first} has {expected!r}; models can be composed if these are equal: "
        "train one of them again with the other's value"
    )


def _shape(bundle: Bundle) -> dict[str, Any]:
    config: dict[str, Any] = bundle.model.config.to_dict()
    return {key: value for key, value in config.items() if key not in _NO_MATTER and "dropout" not in key}


def _about(abouts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the models' information by task; everything else is taken from the first model."""
    merged = dict(abouts[0])
    merged["data"] = {task: data for about in abouts for task, data in about.get("data", {}).items()}
    splits = dict.fromkeys(split for about in abouts for split in about.get("scores", {}))
    merged["scores"] = {
        split: {task: scores for about in abouts for task, scores in about.get("scores", {}).get(split, {}).items()}
        for split in splits
    }
    return merged
