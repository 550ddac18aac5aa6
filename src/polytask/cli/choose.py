"""Commands that train many models to find what the tasks should share, and the report page."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from polytask.cli.app import CHOOSE, app, say
from polytask.cli.arguments import (
    ConfigPath,
    Extensions,
    Overrides,
    read_seeds,
    with_options,
)
from polytask.cli.next_steps import next_steps
from polytask.errors import Interrupted, UserError
from polytask.inputs import split_names
from polytask.search.options import AutoOptions


@contextmanager
def _continued() -> Generator[None]:
    """Tell how to go on after a Ctrl-C between runs, or the second one in a run, which stops a command at once."""
    try:
        yield
    except KeyboardInterrupt:
        from polytask.crew import GO_ON

        raise Interrupted(f"stopped; {GO_ON}") from None


@app.command(rich_help_panel=CHOOSE)
@with_options(AutoOptions, "config", "out", "overrides", "extension")
def auto(
    config: ConfigPath,
    out: Annotated[
        Path, typer.Option(help="Folder of the search; finished runs in it are reused.", show_default=False)
    ],
    overrides: Overrides = None,
    extension: Extensions = None,
    **given: Any,  # noqa: ANN401
) -> None:
    """Find the smallest model within a budget in which no task is worse than its own single model."""
    del extension
    from polytask.artifact.description import read_description
    from polytask.search.search import auto as run_search
    from polytask.search.table import show_search
    from polytask.tables import console

    with _continued():
        result = run_search(config, out, overrides=overrides or [], **given)
    show_search(result, console())
    for line in next_steps(out, read_description(result.model).tasks.values()):
        say(line)


@app.command(rich_help_panel=CHOOSE)
def compare(
    config: Annotated[
        Path,
        typer.Argument(
            help="Configuration file (YAML); with --to also the folder of a comparison.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the comparison; complete runs in it are reused.", show_default=False)
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="single, global, config, independent, pairs, distill, or names of --arm.",
            show_default="single,global,config; with --grid or --arms-file single",
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            metavar="NAME=PATH=VALUE",
            help="A variant of the configuration; repeat the name to set more values.",
        ),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid", metavar="PATH=A,B", help="Values of an option; every combination is an arm. May be repeated."
        ),
    ] = None,
    arms_file: Annotated[
        Path | None, typer.Option(help="YAML file with the options of each arm by name.", show_default=False)
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Print the table as csv, latex or markdown.", show_default=False)
    ] = None,
    seeds: Annotated[str, typer.Option(help="Number of seeds, starting from train.seed; or a list: 13,14,15.")] = "3",
    folds: Annotated[
        int,
        typer.Option(
            metavar="K",
            help="Cross-validation: train each model K times, each time without one of K folds of the training rows, "
            "and compare on these folds.",
            show_default="test rows",
        ),
    ] = 0,
    floor: Annotated[
        float, typer.Option(help="Points (hundredths) of its metric that a task may lose against its single model.")
    ] = 0.5,
    jobs: Annotated[int, typer.Option(help="Runs to train at the same time.")] = 1,
    ray: Annotated[
        bool, typer.Option("--ray", help="Train the runs on the Ray cluster at RAY_ADDRESS, or on a local one.")
    ] = False,
    overrides: Overrides = None,
    extension: Extensions = None,
) -> None:
    """Train single and joint models under the same budget, and report for each task whether sharing pays off."""
    del extension
    from polytask.comparison import compare as run_comparison
    from polytask.comparison.arms import read_named
    from polytask.comparison.table import print_table, read_format, show_comparison
    from polytask.tables import console

    written = read_format(to)
    if out is None:
        if arms or arm or grid or arms_file or overrides:
            raise UserError(
                "--out: name the folder of the comparison; without it only --to is accepted, for an existing comparison"
            )
        print_table(config, written)
        return
    with _continued():
        comparison = run_comparison(
            config, out, arms=None if arms is None else split_names(arms), named=read_named(arm or []), grid=grid,
            arms_file=arms_file, seeds=read_seeds(seeds), folds=folds, floor=floor, jobs=jobs, ray=ray,
            overrides=overrides or [],
        )  # fmt: skip
    if written is None:
        show_comparison(comparison, console())
    else:
        print_table(out, written)
        for note in comparison.record["notes"]:
            say(f"Note: {note}")
    say(f"{comparison.trained} runs trained, {comparison.reused} reused; all figures: {out / 'comparison.json'}")


@app.command(rich_help_panel=CHOOSE)
def relate(
    config: ConfigPath,
    out: Annotated[Path | None, typer.Option(help="Folder for relatedness.json and affinity.json.")] = None,
    comparison: Annotated[
        Path | None, typer.Option(help="Folder of a comparison of the same tasks, to see which measures predicted it.")
    ] = None,
    overrides: Overrides = None,
    extension: Extensions = None,
) -> None:
    """Measure how related the tasks are, in one short probe run (at most a quarter of a joint run)."""
    del extension
    from polytask.probe import relate as run_probe
    from polytask.probe.table import show_relatedness
    from polytask.tables import console

    show_relatedness(run_probe(config, out, comparison, overrides=overrides or []), console())
    if out is not None:
        say(f"to use the plan: sharing: {{strategy: from_affinity, file: {out / 'affinity.json'}}}")


@app.command(rich_help_panel=CHOOSE)
def tune(
    config: ConfigPath,
    out: Annotated[
        Path, typer.Option(help="Folder of the search; trials in it count, and are continued.", show_default=False)
    ],
    search: Annotated[
        list[str],
        typer.Option(
            metavar="PATH=VALUES",
            help="An option and its values: log:1e-5:1e-3, int:0:6, 1:5 or A,B. May be repeated.",
            show_default=False,
        ),
    ],
    trials: Annotated[int, typer.Option(help="Total number of trials.")] = 20,
    jobs: Annotated[int, typer.Option(help="Trials to train at the same time.")] = 1,
    ray: Annotated[
        bool, typer.Option("--ray", help="Train the trials on the Ray cluster at RAY_ADDRESS, or on a local one.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of the suggestions.", show_default="train.seed")] = None,
    prune: Annotated[bool, typer.Option(help="Stop trials early that are worse than the median.")] = True,
    keep: Annotated[int, typer.Option(help="Number of models to keep, those of the best trials.")] = 3,
    overrides: Overrides = None,
    extension: Extensions = None,
) -> None:
    """Search for the hyper-parameters with the best dev score; write the configuration and model of the best to OUT."""
    del extension
    from polytask.tables import console
    from polytask.tuning import tune as run_tuning
    from polytask.tuning.table import show_tuning

    with _continued():
        tuning = run_tuning(
            config, out, search=search, trials=trials, jobs=jobs, seed=seed, prune=prune, keep=keep, ray=ray,
            overrides=overrides or [],
        )  # fmt: skip
    show_tuning(tuning, console())
    say(f"best configuration: {tuning.config}; its model: {tuning.model}")
    say(f"next: polytask report {shlex.quote(str(out))}  # one page: important options, and all trials")


@app.command(hidden=True)
def tune_trial(folder: Annotated[Path, typer.Argument()], number: Annotated[int, typer.Argument()]) -> None:
    """Train one trial of a search; started by `polytask tune --jobs`."""
    from polytask.tuning.crew import work_on_trial

    work_on_trial(folder, number)


@app.command(rich_help_panel=CHOOSE)
def report(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder of a run, a comparison, a search (auto, tune) or relatedness.", show_default=False),
    ],
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Serve the page on this machine, and update it with the folder until Ctrl-C."),
    ] = False,
    port: Annotated[
        int | None, typer.Option(help="Port for --watch.", show_default="a free one", min=0, max=65535)
    ] = None,
) -> None:
    """Write FOLDER/report.html, one page that needs no network, and print its path."""
    from polytask.page import report as write_report
    from polytask.page.live import watch as serve_report

    if watch:
        serve_report(folder, port or 0, typer.echo)
    elif port is not None:
        raise UserError("--port: found without --watch; only --watch uses a port")
    else:
        typer.echo(write_report(folder))
