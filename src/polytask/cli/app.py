"""The application that the commands are added to, and its messages."""

from __future__ import annotations

import os
import re
import shlex
from typing import Annotated, Any, cast

import typer
import typer.core

from polytask.errors import UserError
from polytask.version import __version__

# The groups in which `polytask --help` lists the commands.
BEGIN, TRAIN, CHOOSE, USE = "Begin", "Train", "Choose what the tasks share", "Use a trained model"

# Newer versions of typer bundle click, so the class is taken from typer's public API.
_UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])


class _Commands(typer.core.TyperGroup):
    """The commands; for an unknown option that exists in the configuration, the error suggests --set."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        command = super().get_command(ctx, cmd_name)
        for param in [] if command is None else command.params:
            if getattr(param, "is_flag", False):
                param.metavar = " "  # a flag takes no value, whatever its type
        return command

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            _explain_missing_parameter(error)
            option, command = getattr(error, "option_name", None), getattr(error, "ctx", None)
            if command is None or "overrides" not in {param.name for param in command.command.params}:
                raise
            _explain_bare_values(error)
            if option is None:
                raise
            from polytask.config.explain import path_like, paths_of

            name = str(option).lstrip("-").replace("-", "_")
            path = next(iter(paths_of(name)), None) or path_like(name)
            if path is None:
                raise
            raise UserError(
                f"{option}: no such option; set values of the configuration by their path: --set {path}=VALUE"
            ) from None


def _explain_missing_parameter(error: Any) -> None:  # noqa: ANN401
    """Add the help of a missing parameter to the error message."""
    meaning = getattr(getattr(error, "param", None), "help", None)
    if type(error).__name__ == "MissingParameter" and meaning and not error.message:
        error.message = f"It is: {meaning}"


def _explain_bare_values(error: Any) -> None:  # noqa: ANN401
    """Raise UserError for values of the configuration that were given without --set."""
    extra = re.fullmatch(r"Got unexpected extra argument\S* \((.*)\)", str(error.message), re.DOTALL)
    values = re.findall(r"[\w.]+=.*?(?=\s[\w.]+=|$)", extra[1], re.DOTALL) if extra else []
    if values:
        given = " ".join(f"--set {shlex.quote(value)}" for value in values)
        raise UserError(f"{', '.join(values)}: values of the configuration are given with --set: {given}") from None


app = typer.Typer(
    name="polytask",
    cls=_Commands,
    help="Train one text model for several tasks; choose what they share and when each one trains.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"polytask {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Train one text model for several tasks; choose what they share and when each one trains."""
    del version


def say(text: str) -> None:
    """Print a message to stderr; with several processes, only the first one prints."""
    from polytask.terminal import visible

    if os.environ.get("RANK", "0") == "0":
        typer.echo(visible(text), err=True)
