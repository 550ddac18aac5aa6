"""Commands for getting started: an example, a first configuration, and its check."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.app import BEGIN, app, say
from polytask.cli.arguments import (
    ConfigPath,
    Extensions,
    Overrides,
    Written,
    read_written,
)


@app.command(rich_help_panel=BEGIN)
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the data, the configuration and the run.")] = Path("quickstart"),
) -> None:
    """Train the bundled example (three tasks on the same texts) and predict three texts; needs no network."""
    from polytask.quickstart import quickstart as run_quickstart

    run_quickstart(out)


@app.command(rich_help_panel=BEGIN)
def init(
    files: Annotated[
        list[str], typer.Argument(help="Data files or folders; names such as train and test define the splits.")
    ],
    out: Annotated[Path, typer.Option(help="Configuration to write.")] = Path("config.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing configuration.")] = False,
    encoder: Annotated[
        str | None, typer.Option(help="Encoder: hub id or folder.", show_default="by the language of the texts")
    ] = None,
    written: Written = None,
) -> None:
    """Inspect data files, propose tasks, and write a configuration with the reasons as comments."""
    from polytask.init import init as write_start

    start = write_start(files, out, force=force, encoder=encoder, written=read_written(written))
    typer.echo(out)
    for name, kind in start.tasks.items():
        say(f"{name}: {kind}")
    for guess in start.guesses:
        say(guess)
    if start.left_out:
        say(f"left out, with reasons in the file: {', '.join(start.left_out)}")
    say(f"next: polytask check {shlex.quote(str(out))}")
    say(f"      polytask train {shlex.quote(str(out))} --out runs/first")


@app.command(rich_help_panel=BEGIN)
def check(config: ConfigPath, overrides: Overrides = None, extension: Extensions = None) -> None:
    """Show what would run, and find all problems before the first step."""
    del extension
    from polytask.preflight import check as run_check
    from polytask.tables import console, show_assembly

    show_assembly(run_check(config, overrides=overrides or []).assembly, console())


@app.command(rich_help_panel=BEGIN)
def schema(extension: Extensions = None) -> None:
    """Print the JSON schema of a configuration."""
    del extension
    from polytask.config import Config
    from polytask.extensions import import_allowed

    import_allowed()
    typer.echo(json.dumps(Config.model_json_schema(), indent=1))
