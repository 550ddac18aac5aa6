"""The bundled example: writes its data and configuration, then trains on them like any other run."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from polytask.api import train
from polytask.corpus import write_files
from polytask.errors import OutputError
from polytask.tables import console, show_answer, show_scores

SAMPLES = (
    "A wonderful novel: Maria Costa writes about Lisbon with warmth, and I read it in one night.",
    "The phone died after two days, and the shop in Leeds would not take it back. Never again.",
    "Trains between Lyon and Turin resume on Monday, the operator said.",
)


def quickstart(out: Path) -> None:
    """Write OUT/data and OUT/config.yaml, train into OUT/run, print scores and three answers.

    Raises OutputError if OUT exists already, MissingExtra if the packaged encoder is not installed.
    """
    if out.is_file():
        raise OutputError(f"{out}: there is a file of that name; name a folder with --out")
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out}: the folder exists and is not empty; name another one with --out")
    write_files(out / "data")
    config = out / "config.yaml"
    config.write_text(quickstart_config(), "utf-8")
    run = train(config, out / "run")
    screen = console()
    show_scores(run.scores, run.baselines, screen)
    for text, predictions in zip(SAMPLES, run.model.predict(SAMPLES), strict=True):
        screen.print()
        show_answer(text, predictions, screen)
    screen.print(f"\nThe data, the configuration and the model are in {out}. Try:")
    screen.print(f'  echo "Your text." | polytask predict {out}/run/model', soft_wrap=True)


def quickstart_config() -> str:
    """Return the bundled configuration; its paths are relative to the folder it is written to."""
    return files("polytask.corpus").joinpath("quickstart.yaml").read_text("utf-8")
