"""The command line: results to stdout, progress and messages to stderr.

Exit codes: 0 done, 1 our fault, 2 the input, 130 stopped after saving.
"""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer
import typer.core

from polytask.errors import Interrupted, PolytaskError, UserError, missing_extra, nearest
from polytask.launch import follow
from polytask.search.options import AutoOptions
from polytask.serving.options import ServeOptions
from polytask.version import __version__

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from polytask.data.windows import Long
    from polytask.options import Options
    from polytask.predict.predictor import Model

# Runs of each arm of a comparison.
MOST_SEEDS = 100

# Newer versions of typer bring a click of their own, so the class is taken from what typer shows of it.
_UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])


class _Commands(typer.core.TyperGroup):
    """The commands; an unknown option that is a value of the configuration is told as such."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        try:
            return super().invoke(ctx)
        except _UsageError as error:
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


app = typer.Typer(
    name="polytask",
    cls=_Commands,
    help="Train one text model for several tasks; choose what they share and when each one trains.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
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


def _allow(names: list[str] | None) -> list[str] | None:
    """Import extensions as soon as they are named: what follows may be about what they add."""
    from polytask.extensions import import_extensions

    import_extensions(names or (), place="--extension")
    return names


Extensions = Annotated[
    list[str] | None,
    typer.Option(
        "--extension", metavar="MODULE", callback=_allow, is_eager=True,
        help="Import this module with methods of your own; it runs code. May be repeated.",
    ),
]  # fmt: skip
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
PrecisionName = Annotated[
    str | None,
    typer.Option("--precision", help="auto, fp32 or bf16.", show_default="that in which the model was scored"),
]


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


def _with_options(options: type[Options], *names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, in place of `**given`, a flag for each field of a class of options: its name, help and default.

    Args:
        names: parameters of the command itself that come before the flags.
    """

    def flag(name: str, field: FieldInfo) -> inspect.Parameter:
        hints = [hint for hint in (int, float) if hint in (field.annotation, *get_args(field.annotation))]
        shown = "none" if field.default is None else str(field.default)
        said = field.description or name
        option = typer.Option(help=f"{said[:1].upper()}{said[1:].removesuffix(', ...')}.", show_default=shown)
        annotation = Annotated[(hints[0] if hints else str) | None, option]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [value for name, value in inspect.signature(command, eval_str=True).parameters.items() if name in names]
        flags = [flag(name, field) for name, field in options.model_fields.items()]
        command.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
        return command

    return decorate


@app.command()
def check(config: ConfigPath, overrides: Overrides = None, extension: Extensions = None) -> None:
    """Say what would run, and find everything that can be wrong before the first step."""
    del extension
    from polytask.preflight import check as run_check
    from polytask.tables import console, show_assembly

    show_assembly(run_check(config, overrides=overrides or []).assembly, console())


@app.command()
def train(
    config: ConfigPath,
    out: Annotated[Path, typer.Option(help="Folder of the run.", show_default=False)],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    processes: Annotated[int, typer.Option(min=1, help="Processes that train together.")] = 1,
    extension: Extensions = None,
    every: EveryMetric = False,
) -> None:
    """Train one model for all tasks, evaluate it, and save it in OUT/model."""
    del extension
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        from polytask.launch import launch

        raise typer.Exit(launch(sys.argv[1:], processes))
    from polytask.api import train as run_training
    from polytask.tables import console, show_scores, show_stages

    run = run_training(config, out, resume=resume, overrides=overrides or [])
    if run.scores:
        show_stages(run.stages, console())
        show_scores(run.scores, run.baselines, console(), run.intervals, every=every)
        say(f"model: {out / 'model'}")
        for line in next_steps(out):
            say(line)


@app.command()
def extend(
    model: ModelPath,
    config: ConfigPath,
    out: Annotated[Path, typer.Option(help="Folder of the new run.", show_default=False)],
    mode: Annotated[str, typer.Option(help="frozen: old answers stay; joint: everything trains.")] = "frozen",
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
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
    run = run_extension(model, config, out, mode=cast("Mode", mode), resume=resume, overrides=overrides or [])
    if run.scores:
        show_scores(run.scores, run.baselines, console(), run.intervals, every=every)
        show_before(run.before, run.scores, console(), every=every)
        notes = json.loads((out / "run.json").read_text("utf-8"))["notes"]
        for note in (note for note in notes if note.startswith("extend: ")):
            say(note)
        say(f"model: {out / 'model'}")


@app.command()
def evaluate(
    model: ModelPath,
    data: Annotated[list[str], typer.Option(help="A file for all tasks, or TASK=FILE; may be repeated.")],
    tasks: Tasks = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="With --json: print the scores and their 95 % intervals.")
    ] = False,
    every: EveryMetric = False,
    long: LongTexts = "truncate",
    written: Written = None,
    device: Device = "auto",
    precision: PrecisionName = None,
    extension: Extensions = None,
) -> None:
    """Score a model on new labelled files, with 95 % intervals from a bootstrap over their rows."""
    del extension
    from polytask.api import evaluate as run_evaluation
    from polytask.tables import console, show_scores

    chosen = None if tasks is None else split_names(tasks)
    how = read_long(long)
    ready = load_model(model, device, precision)
    files = read_written(written)
    found = run_evaluation(ready, read_files(data), tasks=chosen, long=how, files=files)
    if as_json:
        shown = {"scores": found.scores, "intervals": found.intervals} if intervals else found.scores
        typer.echo(json.dumps(shown, indent=1, ensure_ascii=False, allow_nan=False))
    else:
        show_scores({"score": found.scores}, {}, console(), {"score": found.intervals}, every=every)


@app.command()
def predict(
    model: ModelPath,
    file: Annotated[
        str,
        typer.Argument(help="Texts (one a line), jsonl, json, csv, tsv, parquet or CoNLL, also .gz; - reads stdin."),
    ] = "-",
    tasks: Tasks = None,
    long: LongTexts = "truncate",
    out: Annotated[Path | None, typer.Option(help="File for the answers, which appears when it is whole.")] = None,
    to: Annotated[
        str | None, typer.Option(help="jsonl, csv or parquet.", show_default="by the name of --out, or jsonl")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="COLUMN", help="Column of the text; twice for a pair of texts."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="COLUMN", help="Column that the answers keep beside id; may be repeated."),
    ] = None,
    written: Written = None,
    spans: Annotated[
        str | None, typer.Option(help="Write entities as annotations for doccano, label-studio, prodigy or spacy.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Write numbers with all their digits, as a file needs that is to teach.")
    ] = False,
    device: Device = "auto",
    precision: PrecisionName = None,
    extension: Extensions = None,
) -> None:
    """Answer texts: one JSON object a line, all tasks from one pass through the encoder."""
    del extension
    from polytask.predict.columns import Columns
    from polytask.predict.lines import answer_lines

    chosen = None if tasks is None else split_names(tasks)
    how = read_long(long)
    columns = Columns(tuple(text or ()), tuple(keep or ()))
    answer_lines(
        load_model(model, device, precision), file, chosen, long=how, out=out, to=to, spans=spans, columns=columns,
        written=read_written(written), exact=exact, say=say,
    )  # fmt: skip


@app.command()
def compose(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Two or more: FOLDER, or FOLDER:task,task for some of its tasks."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    extension: Extensions = None,
) -> None:
    """Put the tasks of several trained models into one; each answers exactly as it did, and equal parts run once."""
    del extension
    from polytask.artifact.composition import compose as run_compose

    typer.echo(run_compose(models, out))


@app.command()
def export(
    model: ModelPath,
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    to: Annotated[
        str,
        typer.Option(
            help="model: polytask's own; onnx: one graph; hf, sentence-transformers: a folder a task that these load."
        ),
    ] = "model",
    tasks: Tasks = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload to this repository of the hub.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="With --push: make new repositories private.")] = False,
    quantize: Annotated[str | None, typer.Option(help="onnx: int8, for smaller and faster weights.")] = None,
    max_loss: Annotated[
        float | None, typer.Option(help="onnx: points (hundredths) of its metric that a task may lose to int8.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="onnx: labelled rows to compare on: a file for all tasks, or TASK=FILE.")
    ] = None,
    extension: Extensions = None,
) -> None:
    """Write a trained model with fewer tasks, or in the form of other programs; print the folders."""
    del extension
    from polytask.exports import export as run_export

    chosen = None if tasks is None else split_names(tasks)
    options = {
        "push": push,
        "private": private or None,
        "quantize": quantize,
        "max_loss": max_loss,
        "data": read_files(data) if data else None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    found = run_export(model, out, to=to, tasks=chosen, **given)
    for note in (*found.notes, *(f"uploaded: {place}" for place in found.pushed)):
        say(note)
    for folder in found.folders.values():
        typer.echo(folder)


@app.command()
def compare(
    config: Annotated[
        Path, typer.Argument(help="Configuration (YAML); with --to also a comparison's folder.", show_default=False)
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
        typer.Option("--arm", metavar="NAME=PATH=VALUE", help="A variant; the same name adds a value to it."),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="PATH=A,B", help="Every combination of the values is an arm; may be repeated."),
    ] = None,
    arms_file: Annotated[
        Path | None, typer.Option(help="YAML file with the options of each arm by its name.", show_default=False)
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Print the table as csv, latex or markdown.", show_default=False)
    ] = None,
    seeds: Annotated[str, typer.Option(help="How many, from train.seed on; or a list: 13,14,15.")] = "3",
    floor: Annotated[float, typer.Option(help="Points (hundredths) of its metric that a task may lose.")] = 0.5,
    jobs: Annotated[int, typer.Option(help="Runs that train at once.")] = 1,
    overrides: Overrides = None,
    extension: Extensions = None,
) -> None:
    """Train single models and joint ones under one budget, and say for each task whether sharing pays off."""
    del extension
    from polytask.comparison import compare as run_comparison
    from polytask.comparison.arms import read_named
    from polytask.comparison.table import print_table, read_format, show_comparison
    from polytask.tables import console

    written = read_format(to)
    if out is None:
        if arms or arm or grid or arms_file or overrides:
            raise UserError(
                "--out: name the folder of the comparison; without it only --to is taken, for what is there"
            )
        print_table(config, written)
        return
    found = run_comparison(
        config, out, arms=None if arms is None else split_names(arms), named=read_named(arm or []), grid=grid,
        arms_file=arms_file, seeds=read_seeds(seeds), floor=floor, jobs=jobs, overrides=overrides or [],
    )  # fmt: skip
    if written is None:
        show_comparison(found, console())
    else:
        print_table(out, written)
        for note in found.record["notes"]:
            say(f"To know: {note}")
    say(f"{found.trained} runs trained, {found.reused} reused; all figures: {out / 'comparison.json'}")


@app.command()
@_with_options(AutoOptions, "config", "out", "overrides", "extension")
def auto(
    config: ConfigPath,
    out: Annotated[Path, typer.Option(help="Folder of the search; what lies there is reused.", show_default=False)],
    overrides: Overrides = None,
    extension: Extensions = None,
    **given: Any,  # noqa: ANN401
) -> None:
    """Find the best plan within a budget: one model, as small as may be, in which no task is worse than its own."""
    del extension
    from polytask.search.search import auto as run_search
    from polytask.search.table import show_search
    from polytask.tables import console

    found = run_search(config, out, overrides=overrides or [], **given)
    show_search(found, console())
    for line in next_steps(out):
        say(line)


@app.command()
def tune(
    config: ConfigPath,
    out: Annotated[
        Path, typer.Option(help="Folder of the search; trials that lie there count, and go on.", show_default=False)
    ],
    search: Annotated[
        list[str],
        typer.Option(
            metavar="PATH=VALUES",
            help="An option and its values: log:1e-5:1e-3, int:0:6, 1:5 or A,B. May be repeated.",
            show_default=False,
        ),
    ],
    trials: Annotated[int, typer.Option(help="How many trials there are to be in all.")] = 20,
    jobs: Annotated[int, typer.Option(help="Trials that train at once.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Of the suggestions.", show_default="train.seed")] = None,
    prune: Annotated[bool, typer.Option(help="End trials early that are worse than the median.")] = True,
    keep: Annotated[int, typer.Option(help="Models that are kept, those of the best trials.")] = 3,
    overrides: Overrides = None,
    extension: Extensions = None,
) -> None:
    """Search hyper-parameters for the best dev score; the best trial's configuration and model are in OUT."""
    del extension
    from polytask.tables import console
    from polytask.tuning import tune as run_tuning
    from polytask.tuning.table import show_tuning

    tuning = run_tuning(
        config, out, search=search, trials=trials, jobs=jobs, seed=seed, prune=prune, keep=keep,
        overrides=overrides or [],
    )  # fmt: skip
    show_tuning(tuning, console())
    say(f"best configuration: {tuning.config}; its model: {tuning.model}")
    say(f"next: polytask report {shlex.quote(str(out))}  # one page: what mattered, and every trial")


@app.command(hidden=True)
def tune_trial(folder: Annotated[Path, typer.Argument()], number: Annotated[int, typer.Argument()]) -> None:
    """Train one trial of a search; `polytask tune --jobs` starts it."""
    from polytask.tuning.crew import work_on_trial

    work_on_trial(folder, number)


@app.command()
def report(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder of a run, a comparison, a search (auto, tune) or relatedness.", show_default=False),
    ],
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve the page on this machine, and follow the folder until Ctrl-C.")
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
        raise UserError("--port: found without --watch, which alone listens on a port")
    else:
        typer.echo(write_report(folder))


@app.command()
def relate(
    config: ConfigPath,
    out: Annotated[Path | None, typer.Option(help="Folder for relatedness.json and affinity.json.")] = None,
    comparison: Annotated[
        Path | None, typer.Option(help="Folder of a comparison of the same tasks, to see what foretold it.")
    ] = None,
    overrides: Overrides = None,
    extension: Extensions = None,
) -> None:
    """Say how related the tasks are, from one short probe run (at most a quarter of a joint run)."""
    del extension
    from polytask.probe import relate as run_probe
    from polytask.probe.table import show_relatedness
    from polytask.tables import console

    show_relatedness(run_probe(config, out, comparison, overrides=overrides or []), console())
    if out is not None:
        say(f"to use the plan: sharing: {{strategy: from_affinity, file: {out / 'affinity.json'}}}")


@app.command()
@_with_options(ServeOptions, "model", "api_key_file", "extension")
def serve(
    model: ModelPath,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with the API key; or set POLYTASK_API_KEY.", show_default="no key")
    ] = None,
    extension: Extensions = None,
    **given: Any,  # noqa: ANN401
) -> None:
    """Answer texts over HTTP, with a page to try the model on; SIGTERM lets running requests finish."""
    del extension
    from polytask.serving import read_options, serve_model

    serve_model(model, read_options(given, api_key_file))


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the data, the configuration and the run.")] = Path("quickstart"),
) -> None:
    """Train the bundled example (three tasks on the same texts) and answer three texts; needs no network."""
    from polytask.quickstart import quickstart as run_quickstart

    run_quickstart(out)


@app.command()
def init(
    files: Annotated[
        list[str], typer.Argument(help="Data files or folders; names such as train and test make splits.")
    ],
    out: Annotated[Path, typer.Option(help="Configuration to write.")] = Path("config.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite it.")] = False,
    encoder: Annotated[
        str | None, typer.Option(help="Encoder: hub id or folder.", show_default="by the texts' language")
    ] = None,
    written: Written = None,
) -> None:
    """Look at data files, propose tasks, and write a configuration with the reasons as comments."""
    from polytask.init import init as write_start

    start = write_start(files, out, force=force, encoder=encoder, written=read_written(written))
    typer.echo(out)
    for name, kind in start.tasks.items():
        say(f"{name}: {kind}")
    if start.left_out:
        say(f"left out, with reasons in the file: {', '.join(start.left_out)}")
    say(f"next: polytask check {shlex.quote(str(out))}")
    say(f"      polytask train {shlex.quote(str(out))} --out runs/first")


@app.command()
def schema(extension: Extensions = None) -> None:
    """Print the JSON schema of a configuration."""
    del extension
    from polytask.config import Config
    from polytask.extensions import import_allowed

    import_allowed()
    typer.echo(json.dumps(Config.model_json_schema(), indent=1))


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


def next_steps(run: Path) -> list[str]:
    """Return what to do with a trained run, three lines to be copied."""
    place = shlex.quote(str(run))
    return [
        f"next: polytask report {place}  # one page: scores, errors, curves",
        f"      echo 'Your text.' | polytask predict {place}",
        f"      polytask serve {place}  # a page and an HTTP API at http://127.0.0.1:8000",
    ]


def say(text: str) -> None:
    """Print a message to stderr; of several processes only the first one speaks."""
    from polytask.terminal import visible

    if os.environ.get("RANK", "0") == "0":
        typer.echo(visible(text), err=True)


def main() -> None:
    """Run the command line with the exit codes of the contract."""
    follow()
    try:
        app()
    except UserError as error:
        say(f"error: {error}")
        sys.exit(2)
    except ModuleNotFoundError as error:
        found = missing_extra(error, "this command")
        if found is None:
            raise
        say(f"error: {found}")
        sys.exit(2)
    except Interrupted as error:
        say(str(error))
        sys.exit(130)
    except PolytaskError as error:
        say(f"error: {error}")
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # what the system refuses, where no message of its own says what to do
        place = "" if error.filename is None else f"{error.filename}: "
        say(f"error: {place}{error.strerror or error}")
        sys.exit(2 if place else 1)
    except KeyboardInterrupt:
        sys.exit(130)
