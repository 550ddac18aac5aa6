"""Commands that use trained models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from polytask.cli.app import USE, app, say
from polytask.cli.arguments import (
    Device,
    EveryMetric,
    Extensions,
    LongTexts,
    ModelPath,
    PrecisionName,
    Tasks,
    Written,
    load_model,
    read_files,
    read_long,
    read_written,
    with_options,
)
from polytask.cli.many_files import are_many, read_folder
from polytask.inputs import split_names
from polytask.serving.options import ServeOptions

if TYPE_CHECKING:
    from polytask.terms import Precision


@app.command(rich_help_panel=USE)
def predict(
    model: ModelPath,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Texts (one per line), jsonl, json, csv, tsv, parquet or CoNLL, also .gz; - reads stdin. For several "
            "files, a folder or a pattern, --out is a folder.",
            show_default="-",
        ),
    ] = None,
    tasks: Tasks = None,
    long: LongTexts = "truncate",
    out: Annotated[
        Path | None,
        typer.Option(help="File for the predictions, which appears when it is complete; for several files, a folder."),
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="jsonl, csv or parquet.", show_default="by the name of --out, or jsonl")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="COLUMN", help="Column of the text; give it twice for a pair of texts."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep", metavar="COLUMN", help="Column to copy to the predictions, in addition to id; may be repeated."
        ),
    ] = None,
    written: Written = None,
    labels: Annotated[
        Path | None, typer.Option(help="YAML file with labels and their texts, for tasks of type matching.")
    ] = None,
    spans: Annotated[
        str | None, typer.Option(help="Write entities as annotations for doccano, label-studio, prodigy or spacy.")
    ] = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Write numbers with all digits, as needed for a file that serves as a teacher."),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            show_default="1",
            help="Processes that predict into the folder --out; if killed, run the same command to continue.",
        ),
    ] = None,
    shard_rows: Annotated[
        int | None,
        typer.Option(min=1, max=10_000_000, show_default="8192", help="Number of rows per file in the folder --out."),
    ] = None,
    ray: Annotated[
        bool,
        typer.Option("--ray", help="Run the workers as actors on the Ray cluster at RAY_ADDRESS, or on a local one."),
    ] = False,
    device: Device = "auto",
    precision: PrecisionName = None,
    extension: Extensions = None,
) -> None:
    """Predict texts: one JSON object per line, all tasks from one pass through the encoder."""
    from polytask.cli.label_file import read_labels
    from polytask.predict.columns import Columns

    chosen = None if tasks is None else split_names(tasks)
    long_texts = read_long(long)
    columns = Columns(tuple(text or ()), tuple(keep or ()))
    names = files or ["-"]
    if workers is not None or shard_rows is not None or ray or are_many(names):
        from polytask.batch.job import SHARD_ROWS, PredictionJob, predict_files
        from polytask.batch.worker import WorkOptions

        folder, form = read_folder(out, to, spans)
        work = WorkOptions(
            str(model), form, None if chosen is None else tuple(chosen), long_texts, columns,
            None if labels is None else read_labels(labels), exact, device, cast("Precision | None", precision),
            tuple(extension or ()),
        )  # fmt: skip
        job = PredictionJob(
            tuple(names), folder, work, read_written(written), workers or 1, shard_rows or SHARD_ROWS, ray
        )
        predict_files(job, say)
        return
    from polytask.predict.lines import answer_lines

    loaded = load_model(model, device, precision)
    if labels is not None:
        loaded = loaded.with_labels(read_labels(labels))
    answer_lines(
        loaded, names[0], chosen, long=long_texts, out=out, to=to, spans=spans, columns=columns,
        written=read_written(written), exact=exact, say=say,
    )  # fmt: skip


@app.command(rich_help_panel=USE)
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
    """Score a model on new labelled files, with 95 % intervals (bootstrap over the rows), and note what seems wrong."""
    del extension
    from polytask.api import evaluate as run_evaluation
    from polytask.tables import console, show_scores

    chosen = None if tasks is None else split_names(tasks)
    long_texts = read_long(long)
    loaded = load_model(model, device, precision)
    files = read_written(written)
    evaluation = run_evaluation(loaded, read_files(data), tasks=chosen, long=long_texts, files=files)
    if as_json:
        output = {"scores": evaluation.scores, "intervals": evaluation.intervals} if intervals else evaluation.scores
        typer.echo(json.dumps(output, indent=1, ensure_ascii=False, allow_nan=False))
    else:
        intervals_by_split = {"score": evaluation.intervals}
        show_scores({"score": evaluation.scores}, {}, console(), intervals_by_split, rows=evaluation.rows, every=every)
    for note in evaluation.notes:
        say(f"Note: {note.place}: {note.message}")


@app.command(rich_help_panel=USE)
@with_options(ServeOptions, "model", "api_key_file", "extension")
def serve(
    model: ModelPath,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with the API key; or set POLYTASK_API_KEY.", show_default="no key")
    ] = None,
    extension: Extensions = None,
    **given: Any,  # noqa: ANN401
) -> None:
    """Serve predictions over HTTP, with a page to try the model; SIGTERM lets running requests finish."""
    del extension
    from polytask.serving import read_options, serve_model

    serve_model(model, read_options(given, api_key_file))


@app.command(rich_help_panel=USE)
def export(
    model: ModelPath,
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    to: Annotated[
        str,
        typer.Option(
            help="model: polytask's own format; onnx: one graph; triton: that graph as a model repository; "
            "hf, sentence-transformers: one folder per task for these libraries."
        ),
    ] = "model",
    tasks: Tasks = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload to this repository on the Hugging Face Hub.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="With --push: make new repositories private.")] = False,
    quantize: Annotated[str | None, typer.Option(help="onnx, triton: int8, for a smaller and faster model.")] = None,
    max_loss: Annotated[
        float | None, typer.Option(help="onnx, triton: points (hundredths) of its metric that a task may lose to int8.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="onnx, triton: labelled rows for the comparison: a file for all tasks, or TASK=FILE."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="triton: the model's name on the server [default: polytask].")
    ] = None,
    max_batch_size: Annotated[
        int | None, typer.Option(help="triton: maximum number of rows per batch [default: 64].")
    ] = None,
    extension: Extensions = None,
) -> None:
    """Write a trained model with fewer tasks, or in the format of other programs; print the folders."""
    del extension
    from polytask.exports import export as run_export

    chosen = None if tasks is None else split_names(tasks)
    options = {
        "push": push,
        "private": private or None,
        "quantize": quantize,
        "max_loss": max_loss,
        "data": read_files(data) if data else None,
        "name": name,
        "max_batch_size": max_batch_size,
    }
    given = {key: value for key, value in options.items() if value is not None}
    exported = run_export(model, out, to=to, tasks=chosen, **given)
    for note in (*exported.notes, *(f"uploaded: {place}" for place in exported.pushed)):
        say(note)
    for folder in exported.folders.values():
        typer.echo(folder)


@app.command(rich_help_panel=USE)
def compose(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Two or more: FOLDER, or FOLDER:task,task for some of its tasks."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    extension: Extensions = None,
) -> None:
    """Combine the tasks of several trained models into one; predictions do not change, and equal parts run once."""
    del extension
    from polytask.artifact.composition import compose as run_compose

    typer.echo(run_compose(models, out))
