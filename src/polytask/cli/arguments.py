"""Arguments shared by several commands, and functions that parse their values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from polytask.errors import UserError, nearest
from polytask.inputs import split_names
from polytask.regular import is_there

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from polytask.data.windows import Long
    from polytask.options import Options
    from polytask.predict.predictor import Model

# Maximum number of runs of each arm of a comparison.
MOST_SEEDS = 100


def allow_extensions(names: list[str] | None) -> list[str] | None:
    """Import extensions as soon as they are named: later arguments may refer to what they add."""
    from polytask.extensions import import_extensions

    import_extensions(names or (), place="--extension")
    return names


ConfigPath = Annotated[Path, typer.Argument(help="Configuration file (YAML).", show_default=False)]
ModelPath = Annotated[Path, typer.Argument(help="Folder of a run, or model folder.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a value, such as train.epochs=1."),
]
Tasks = Annotated[
    list[str] | None, typer.Option("--tasks", metavar="A,B", help="Use only these tasks; may be repeated.")
]
Written = Annotated[
    list[str] | None,
    typer.Option("--written", metavar="KEY=VALUE", help="Option for reading the files, such as separator=;"),
]
EveryMetric = Annotated[bool, typer.Option("--all", help="Show all metrics instead of the main one only.")]
LongTexts = Annotated[
    str,
    typer.Option(
        "--long", help="How to handle long texts: truncate, or windows to read the whole text in overlapping parts."
    ),
]
Extensions = Annotated[
    list[str] | None,
    typer.Option(
        "--extension", metavar="MODULE", callback=allow_extensions, is_eager=True,
        help="Import a module with your own methods; runs its code. May be repeated.",
    ),
]  # fmt: skip
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
PrecisionName = Annotated[
    str | None,
    typer.Option("--precision", help="auto, fp32 or bf16.", show_default="the precision the model was scored in"),
]


def with_options(options: type[Options], *names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace the `**given` of a command by flags for all fields of an options class, with name, help and default.

    Args:
        options: the options class.
        names: parameters of the command itself, which come before the flags.
    """

    kind = inspect.Parameter.KEYWORD_ONLY

    def flag(name: str, field: FieldInfo) -> inspect.Parameter:
        hints = [hint for hint in (int, float) if hint in (field.annotation, *get_args(field.annotation))]
        default = "" if field.default is None else f" (default: {field.default})"
        description = field.description or name
        # The parameter's own default is None, which marks a flag that was not given.
        sentence = f"{description[:1].upper()}{description[1:].removesuffix(', ...')}"
        if field.annotation is bool:
            option = typer.Option(f"--{name}", help=f"{sentence}.", show_default=False)
            return inspect.Parameter(name, kind, default=None, annotation=Annotated[bool | None, option])
        option = typer.Option(help=f"{sentence}{default}.", show_default=False)
        annotation = Annotated[(hints[0] if hints else str) | None, option]
        return inspect.Parameter(name, kind, default=None, annotation=annotation)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters = [
            value for name, value in inspect.signature(command, eval_str=True).parameters.items() if name in names
        ]
        flags = [flag(name, field) for name, field in options.model_fields.items()]
        command.__signature__ = inspect.Signature([*parameters, *flags])  # type: ignore[attr-defined]
        return command

    return decorate


def load_model(folder: Path, device: str, precision: str | None) -> Model:
    """Load a model folder with the values of a command line. Raises UserError for a bad folder, device or precision."""
    from polytask.predict.load import load
    from polytask.terms import Precision

    return load(folder, device, cast("Precision | None", precision))


def read_tasks(items: Iterable[str] | None) -> list[str] | None:
    """Return the names in the lists of --tasks, each once; None if the option was not given."""
    return list(dict.fromkeys(name for item in items for name in split_names(item))) if items else None


def read_files(items: Iterable[str], tasks: Callable[[], Container[str]]) -> dict[str, list[str]]:
    """Parse arguments of the form TASK=FILE, or FILE for all tasks; several files of a task are read as one.

    Args:
        tasks: returns the names of the model's tasks, which tell TASK=FILE from a path that contains `=`.
    """
    files: dict[str, list[str]] = {}
    for item in items:
        name, equals, path = item.partition("=")
        names_task = equals and not any(mark in name for mark in "/\\")
        if names_task and name != "all" and is_there(item):
            names_task = name in tasks()
        files.setdefault(name if names_task else "all", []).append(path if names_task else item)
    return files


def read_written(items: Iterable[str] | None) -> dict[str, str]:
    """Parse KEY=VALUE options for reading files."""
    return {key: value for key, _, value in (item.partition("=") for item in items or ())}


def read_long(text: str) -> Long:
    """Parse the handling of long texts. Raises UserError for an unknown value."""
    from polytask.data.windows import Long

    if text not in get_args(Long):
        raise UserError(f"--long: found {text!r}; {nearest(text, get_args(Long))}")
    return cast("Long", text)


def read_seeds(text: str) -> int | list[int]:
    """Parse a number of seeds, or a list of seeds. Raises UserError for anything else."""
    try:
        seeds = [int(item) for item in split_names(text)]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or ("," not in text and seeds[0] > MOST_SEEDS):
        raise UserError(
            f"--seeds: found {text[:100]!r}; expected a number of seeds, such as 3 (at most {MOST_SEEDS}), or a "
            "list such as 13,14,15"
        )
    return seeds if "," in text else seeds[0]
