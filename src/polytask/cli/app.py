"""The application that commands are added to, and how it speaks."""

from __future__ import annotations

import os
from typing import Annotated, Any, cast

import typer
import typer.core

from polytask.errors import UserError
from polytask.version import __version__

# The groups in which `polytask --help` lists the commands.
BEGIN, TRAIN, CHOOSE, USE = "Begin", "Train", "Choose what the tasks share", "Use a trained model"

# Newer versions of typer bring a click of their own, so the class is taken from what typer shows of it.
_UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])


class _Commands(typer.core.TyperGroup):
    """The commands; an unknown option that is a value of the configuration is told as such."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        found = super().get_command(ctx, cmd_name)
        for one in [] if found is None else found.params:
            if getattr(one, "is_flag", False):
                one.metavar = " "  # a flag takes no value, whatever its type
        return found

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            _tell_what_is_missing(error)
            option, command = getattr(error, "option_name", None), getattr(error, "ctx", None)
            if option is None or command is None or "overrides" not in {one.name for one in command.command.params}:
                raise
            from polytask.config.explain import path_like, paths_of

            name = str(option).lstrip("-").replace("-", "_")
            path = next(iter(paths_of(name)), None) or path_like(name)
            if path is None:
                raise
            raise UserError(
                f"{option}: no such option; what the configuration holds is set by its path: --set {path}=VALUE"
            ) from None


def _tell_what_is_missing(error: Any) -> None:  # noqa: ANN401
    """Add to the message that a parameter is missing what it is for, as its help says."""
    meaning = getattr(getattr(error, "param", None), "help", None)
    if type(error).__name__ == "MissingParameter" and meaning and not error.message:
        error.message = f"It is: {meaning}"


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
    """Print a message to stderr; of several processes only the first one speaks."""
    from polytask.terminal import visible

    if os.environ.get("RANK", "0") == "0":
        typer.echo(visible(text), err=True)
