"""Commands that train one model."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from polytask.cli.app import TRAIN, app, say
from polytask.cli.arguments import (
    ConfigPath,
    EveryMetric,
    Extensions,
    ModelPath,
    Overrides,
)
from polytask.cli.next_steps import next_steps, score_notes
from polytask.errors import Interrupted, UserError, nearest
from polytask.regular import read_text
from polytask.restarts import Restarts

if TYPE_CHECKING:
    from polytask.run import Run


@app.command(rich_help_panel=TRAIN)
def train(
    config: ConfigPath,
    out: Annotated[Path, typer.Option(help="Folder of the run.", show_default=False)],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint.")] = False,
    processes: Annotated[int, typer.Option(min=1, help="Processes that train together.")] = 1,
    ray: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            show_default=False,
            help="Processes that train together on the Ray cluster at RAY_ADDRESS, or on a local one.",
        ),
    ] = None,
    restarts: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="K",
            help="Restart all processes from the last checkpoint if one is killed or loses its device; at most K "
            "times without a new checkpoint.",
        ),
    ] = 0,
    extension: Extensions = None,
    every: EveryMetric = False,
) -> None:
    """Train one model for all tasks, evaluate it, and save it in OUT/model."""
    del extension
    if restarts and "TORCHELASTIC_RUN_ID" in os.environ:
        raise UserError("--restarts: found under torchrun, which restarts by itself; give torchrun --max-restarts")
    if (ray is not None or processes > 1 or restarts) and "WORLD_SIZE" not in os.environ:
        restarter = Restarts(restarts, out, resume=resume)
        if ray is not None:
            raise typer.Exit(_train_on_ray(config, overrides or [], processes, ray, restarter))
        from polytask.launch import launch

        raise typer.Exit(restarter.run(lambda arguments: launch(arguments, processes), sys.argv[1:]))
    from polytask.api import train as run_training
    from polytask.tables import console, show_scores, show_stages

    run = _complete(out, lambda: run_training(config, out, resume=resume, overrides=overrides or []))
    if run.scores:
        show_stages(run.stages, console())
        show_scores(run.scores, run.baselines, console(), run.intervals, every=every)
        for note in score_notes(out):
            say(f"Note: {note}")
        say(f"model: {out / 'model'}")
        for line in next_steps(out, run.model.tasks.values()):
            say(line)


def _complete(out: Path, train: Callable[[], Run]) -> Run:
    """Train and return the run, also if a stop was requested after its last step: all is done then, so the code is 0.

    With another code a scheduler would start the command again, which refuses a complete run. Raises Interrupted if
    the run is not complete.
    """
    try:
        return train()
    except Interrupted as stopped:
        if stopped.run is None:
            raise
        return stopped.run
    except KeyboardInterrupt:  # the second Ctrl-C, or one before the first step
        if (out / "model").exists():
            raise Interrupted(f"stopped; the run is complete, and its model is in {out / 'model'}") from None
        raise Interrupted("stopped; go on with --resume, from the newest checkpoint if there is one") from None


def _train_on_ray(config: Path, overrides: Sequence[str], processes: int, workers: int, restarter: Restarts) -> int:
    """Run this command on Ray, and return its exit code; errors in the configuration are reported first."""
    from polytask.ray_cluster.session import require_ray

    if processes > 1:
        raise UserError("--ray and --processes: both set the number of processes that train together; give only one")
    require_ray()
    from polytask.config import load_config
    from polytask.ray_cluster.ranks import launch_on_ray

    device = load_config(config, overrides).train.device
    return launch_on_ray(sys.argv[1:], workers, restarter, on_gpus=device != "cpu")


@app.command(rich_help_panel=TRAIN)
def extend(
    model: ModelPath,
    config: ConfigPath,
    out: Annotated[Path, typer.Option(help="Folder of the new run.", show_default=False)],
    mode: Annotated[
        str, typer.Option(help="frozen: predictions of old tasks do not change; joint: everything trains.")
    ] = "frozen",
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint.")] = False,
    extension: Extensions = None,
    every: EveryMetric = False,
) -> None:
    """Add the tasks of a configuration to a trained model, and save both in OUT/model."""
    del extension
    from polytask.extension import Mode
    from polytask.extension import extend as run_extension
    from polytask.tables import console, show_before, show_scores

    if mode not in get_args(Mode):
        raise UserError(f"--mode: found {mode!r}; {nearest(mode, get_args(Mode))}")
    way = cast("Mode", mode)
    run = _complete(out, lambda: run_extension(model, config, out, mode=way, resume=resume, overrides=overrides or []))
    if run.scores:
        show_scores(run.scores, run.baselines, console(), run.intervals, every=every)
        show_before(run.before, run.scores, console(), every=every)
        notes = json.loads(read_text(out / "run.json"))["notes"]
        for note in (note for note in notes if note.startswith("extend: ")):
            say(note)
        say(f"model: {out / 'model'}")
