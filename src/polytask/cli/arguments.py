"""Arguments that several commands take, and how their values are read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from polytask.errors import UserError, nearest

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from polytask.data.windows import Long
    from polytask.options import Options
    from polytask.predict.predictor import Model

# Runs of each arm of a comparison.
MOST_SEEDS = 100


def allow_extensions(names: list[str] | None) -> list[str] | None:
    """Import extensions as soon as they are named: what follows may be about what they add."""
    from polytask.extensions import import_extensions

    import_extensions(names or (), place="--extension")
    return names


ConfigPath = Annotated[Path, typer.Argument(help="Configuration (YAML).", show_default=False)]
ModelPath = Annotated[Path, typer.Argument(help="Folder of a run, or model folder.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a value, such as train.epochs=1."),
]
Tasks = Annotated[str | None, typer.Option("--tasks", metavar="A,B", help="Only these tasks.")]
Written = Annotated[
    list[str] | None,
    typer.Option("--written", metavar="KEY=VALUE", help="How the files are written, such as separator=;"),
]
EveryMetric = Annotated[bool, typer.Option("--all", help="Show every metric, not the main one alone.")]
LongTexts = Annotated[
    str, typer.Option("--long", help="Texts that are too long: truncate, or windows: read all in overlapping parts.")
]
Extensions = Annotated[
    list[str] | None,
    typer.Option(
        "--extension", metavar="MODULE", callback=allow_extensions, is_eager=True,
        help="Import this module with methods of your own; it runs code. May be repeated.",
    ),
]  # fmt: skip
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
PrecisionName = Annotated[
    str | None,
    typer.Option("--precision", help="auto, fp32 or bf16.", show_default="that in which the model was scored"),
]


def with_options(options: type[Options], *names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, in place of `**given`, a flag for each field of a class of options: its name, help and default.

    Args:
        names: parameters of the command itself that come before the flags.
    """

    kind = inspect.Parameter.KEYWORD_ONLY

    def flag(name: str, field: FieldInfo) -> inspect.Parameter:
        hints = [hint for hint in (int, float) if hint in (field.annotation, *get_args(field.annotation))]
        shown = "" if field.default is None else f" (default: {field.default})"
        said = field.description or name
        # The parameter's own default is None, by which a flag that was not given is told.
        told = f"{said[:1].upper()}{said[1:].removesuffix(', ...')}"
        if field.annotation is bool:
            option = typer.Option(f"--{name}", help=f"{told}.", show_default=False)
            return inspect.Parameter(name, kind, default=None, annotation=Annotated[bool | None, option])
        option = typer.Option(help=f"{told}{shown}.", show_default=False)
        annotation = Annotated[(hints[0] if hints else str) | None, option]
        return inspect.Parameter(name, kind, default=None, annotation=annotation)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [value for name, value in inspect.signature(command, eval_str=True).parameters.items() if name in names]
        flags = [flag(name, field) for name, field in options.model_fields.items()]
        command.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
        return command

    return decorate


def load_model(folder: Path, device: str, precision: str | None) -> Model:
    """Load a model folder for what a command line says. Raises UserError for a bad folder, device or precision."""
    from polytask.predict.load import load
    from polytask.terms import Precision

    return load(folder, device, cast("Precision | None", precision))


def split_names(text: str) -> list[str]:
    """Split names joined by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def read_files(items: Iterable[str]) -> dict[str, str]:
    """Read TASK=FILE, or a file for all tasks."""
    files: dict[str, str] = {}
    for item in items:
        name, equals, path = item.partition("=")
        files.update({name: path} if equals else {"all": item})
    return files


def read_written(items: Iterable[str] | None) -> dict[str, str]:
    """Read KEY=VALUE of how files are written."""
    return {key: value for key, _, value in (item.partition("=") for item in items or ())}


def read_long(text: str) -> Long:
    """Read what becomes of long texts. Raises UserError for an unknown way."""
    from polytask.data.windows import Long

    if text not in get_args(Long):
        raise UserError(f"--long: found {text!r}; {nearest(text, get_args(Long))}")
    return cast("Long", text)


def read_seeds(text: str) -> int | list[int]:
    """Read how many seeds, or which. Raises UserError when it is neither."""
    try:
        found = [int(item) for item in split_names(text)]
    except ValueError:
        found = []
    if not found or min(found) < 0 or ("," not in text and found[0] > MOST_SEEDS):
        raise UserError(
            f"--seeds: found {text[:100]!r}; expected how many, such as 3 (at most {MOST_SEEDS}), or a list such as "
            "13,14,15"
        )
    return found if "," in text else found[0]
