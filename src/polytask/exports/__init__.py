"""Export of a trained model, with fewer tasks, or in the formats of other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from polytask.artifact.description import model_folder
from polytask.errors import ConfigError, OutputError, nearest
from polytask.exports.exporter import Exported, Exporter
from polytask.exports.hf import HfExport
from polytask.exports.model import ModelExport
from polytask.exports.onnx import OnnxExport
from polytask.exports.sentence_transformers import SentenceTransformersExport
from polytask.exports.triton import TritonExport
from polytask.inputs import folder_of, names_in
from polytask.registry import Table
from polytask.regular import is_file, is_there

_FORMS: dict[str, type[Exporter]] = {
    "model": ModelExport,
    "hf": HfExport,
    "onnx": OnnxExport,
    "sentence-transformers": SentenceTransformersExport,
    "triton": TritonExport,
}
EXPORTS = Table("export", _FORMS, base=Exporter)

__all__ = ["EXPORTS", "Exported", "Exporter", "export"]


def export(
    model: str | PathLike[str],
    out: str | PathLike[str],
    *,
    to: str = "model",
    tasks: Sequence[str] | None = None,
    **options: Any,  # noqa: ANN401
) -> Exported:
    """Export a model folder, or the model of a run's folder.

    Args:
        model: a model folder, the folder of a run, or a run that was written into one.
        out: the folder to write, which must not exist yet.
        to: a name in the table EXPORTS.
        tasks: names of the tasks to export, as a list or as a text with commas; all by default.
        options: options of the exporter.

    Raises:
        ConfigError: there is no such export, task or option.
        ModelError: the model cannot be loaded, or cannot be represented in this format.
        OutputError: `out` exists, cannot be written, or cannot be uploaded (in this case it has been written).
    """
    source, folder = folder_of(model, "model"), folder_of(out, "out")
    names = None if tasks is None else names_in(tasks, "tasks")
    exporter = exporter_of(to, _with_run(source, options))
    if is_there(folder):
        raise OutputError(f"{folder}: the folder exists; name another one")
    from polytask.artifact.folder import load_bundle
    from polytask.artifact.pruning import pruned

    bundle = load_bundle(source)
    exported = exporter.write(bundle if names is None else pruned(bundle, names), folder)
    if exporter.push is None:
        return exported
    from polytask.exports.push import push

    return replace(exported, pushed=tuple(push(exported.folders, exporter.push, private=exporter.private)))


def _with_run(model: Path, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the run of a model, for its labelled dev rows, if int8 needs labels and none are given."""
    if not options.get("quantize") or options.get("data") or options.get("run"):
        return options
    run_folders = [folder for folder in (model, model.parent) if model_folder(folder) != folder]
    if (
        not run_folders
        or not is_file(run_folders[0] / "config.yaml")
        or model_folder(run_folders[0]) != model_folder(model)
    ):
        return options
    return {**options, "run": str(run_folders[0])}


def exporter_of(to: str, options: Mapping[str, Any]) -> Exporter:
    """Build an exporter from its options. Raises ConfigError for an unknown option or an invalid value."""
    if to not in EXPORTS:
        raise ConfigError(f"to: found {to!r}; {nearest(to, EXPORTS)}")
    for option in options:
        if option not in EXPORTS[to].model_fields:
            raise ConfigError(f"{option}: {_readers(option, to)}")
    try:
        return EXPORTS[to].model_validate(dict(options))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = first["loc"][0] if first["loc"] else to
        message = first["msg"].removeprefix("Value error, ")
        prefix = "" if message.startswith("found") else f"found {first['input']!r}; "
        raise ConfigError(f"{place}: {prefix}{message}") from None


def _readers(option: str, to: str) -> str:
    """Describe which exports have an option that the chosen one does not have."""
    readers = [name for name, exporter in EXPORTS.items() if option in exporter.model_fields]
    if readers:
        have = "do" if len(readers) > 1 else "does"
        return f"the export to {to!r} does not have this option; only {' and '.join(readers)} {have}"
    accepted = EXPORTS[to].model_fields
    return f"unknown option of the export to {to!r}; {nearest(option, accepted)}"
