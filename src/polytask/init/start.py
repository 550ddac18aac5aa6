"""Writes a configuration for files that passes `polytask check`, or says why there is nothing to train."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polytask.config import load_config, validate
from polytask.data.paths import require_file
from polytask.data.prepare import read_tables
from polytask.errors import DataError, OutputError, UserError
from polytask.files import write_text
from polytask.init.language import choose_reader
from polytask.init.proposal import Proposal, TableOutline, outline
from polytask.init.sample import Sample, read_sample
from polytask.init.splits import DataSet, data_sets
from polytask.init.text import TaskDraft, as_yaml, scalar
from polytask.options import LabelledFileOptions, is_name, read_file_options
from polytask.regular import is_folder
from polytask.tasks.labels import cell_text, says_nothing
from polytask.terms import Split

# Shares of the training rows to hold out without a dev file; greater ones if there are few rows.
_SHARE, _SHARES_OF_FEW, _FEW_ROWS = 0.1, (0.2, 0.3, 0.5), 300
_FAR = f"..{os.sep}..{os.sep}.."
# Task types with one label of the row, for which -1 can stand for no label.
_ONE_LABEL = frozenset({"classification", "ordinal"})
# Names that only say that a column holds labels; the task then gets the name of the files.
_PLAIN_NAMES = frozenset({"label", "labels", "class", "target", "y", "annotation", "spans", "ner_tags"})
# Names that are just as generic for the only label column, but distinguish it if the same rows have other tasks.
_PLAIN_ALONE = frozenset({"tag", "tags", "category"})


@dataclass(frozen=True)
class InitResult:
    """The result of `init`.

    Attributes:
        path: path of the configuration.
        tasks: type of each task, by name.
        left_out: columns and tasks that are not in the configuration, with the reason.
        guesses: notes on guesses about the files' formats that may be wrong.
    """

    path: Path
    tasks: Mapping[str, str]
    left_out: Mapping[str, str]
    guesses: Sequence[str] = ()


@dataclass
class _Table:
    """A data set, a sample of each of its files, and the tasks proposed for it."""

    files: DataSet
    samples: dict[Split, list[Sample]]
    outline: TableOutline
    left_out: dict[str, str] = field(default_factory=dict[str, str])


def init(
    files: Sequence[str | Path],
    out: str | Path = "config.yaml",
    *,
    force: bool = False,
    encoder: str | None = None,
    written: Mapping[str, str] | None = None,
) -> InitResult:
    """Inspect data files, propose tasks, and write a configuration with the reasons as comments.

    Args:
        files: files or folders; names such as train, dev and test make splits, other files make other tasks.
        out: path of the configuration to write; paths in it are relative to its folder.
        force: whether to overwrite `out`.
        encoder: encoder to use in place of the one chosen by the texts' language.
        written: options about the files' format, as in `data` of a configuration: {"encoding": "cp1252"}.

    Raises UserError if a file cannot be read, there is nothing to train, or `out` already exists.
    """
    path = Path(out)
    for file in files:
        if not is_folder(file):
            require_file(Path(file))
    if path.exists() and not force:
        raise OutputError(f"{path}: the file already exists; name another one with --out, or add --force")
    if path.resolve() in {Path(file).resolve() for file in files}:
        raise OutputError(f"{path}: this is one of the data files; name another file with --out")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}; create it, or name another file with --out")
    file_options = read_file_options(LabelledFileOptions, written or {})
    if not files:
        raise DataError("found no file; name one, such as polytask init reviews.csv")
    tables = [_inspect(data_set, file_options) for data_set in data_sets([Path(file) for file in files])]
    base = path.parent.resolve()
    texts = [text for table in tables for text in table.outline.texts[:500]]
    reader = choose_reader(texts, encoder)
    head = {"encoder": _encoder(reader.encoder, base), "max_tokens": reader.max_tokens}
    drafts: list[TaskDraft] = []
    for table in tables:
        drafts += _verified(table, head, drafts, base, several=len(tables) > 1)
    left_out = {_place(table, name, tables): why for table in tables for name, why in table.left_out.items()}
    if not drafts:
        raise UserError(_nothing(files, left_out) + _shape_hint(tables))
    command = [
        *map(str, files),
        *(word for key, value in (written or {}).items() for word in ("--written", f"{key}={value}")),
    ]
    command += ["--encoder", encoder] if encoder is not None else []
    write_text(path, as_yaml(drafts, reader, head, left_out, command, path))
    load_config(path)
    samples = [sample for table in tables for listed in table.samples.values() for sample in listed]
    guesses = [*_alike(tables), *(sample.guess for sample in samples if sample.guess)]
    return InitResult(path, {draft.name: draft.options["type"] for draft in drafts}, left_out, guesses)


def _alike(tables: Sequence[_Table]) -> Iterator[str]:
    """Yield notes on files with the same columns, except for case, which may be parts of one data set."""
    first: dict[frozenset[str], str] = {}
    for table in tables:
        sample = table.samples["train"][0]
        columns = frozenset(name.strip().casefold() for name in sample.columns)
        if table.outline.proposals and columns in first:
            yield (
                f"{first[columns]} and {sample.path.name} have the same columns, and are tasks of their own here; if "
                "they are parts of one data set, list both in one task: train: [FILE, FILE], with equal column names"
            )
        first.setdefault(columns, sample.path.name)


def _encoder(name: str, base: Path) -> str:
    """Return an encoder's name, or its folder relative to the configuration."""
    return _path(Path(name), base) if is_folder(name) else name


def _path(path: Path, base: Path) -> str:
    """Return a path relative to the configuration's folder, or an absolute path if it is far from it."""
    relative = os.path.relpath(path.resolve(), base)
    return str(path.resolve()) if relative.startswith(_FAR) else relative


def _inspect(files: DataSet, options: LabelledFileOptions) -> _Table:
    samples: dict[Split, list[Sample]] = {
        split: [read_sample(path, options) for path in listed] for split, listed in files.files.items()
    }
    proposed = outline(samples["train"][0])
    return _Table(files, samples, proposed, dict(proposed.left_out))


def _place(table: _Table, column: str, tables: Sequence[_Table]) -> str:
    return column if len(tables) == 1 else f"{table.samples['train'][0].path.name}, {column}"


def _nothing(files: Sequence[str | Path], left_out: Mapping[str, str]) -> str:
    names = ", ".join(str(file) for file in files)
    listed = "; ".join(f"{scalar(name)}: {' '.join(why.split())}" for name, why in list(left_out.items())[:20])
    return (
        f"{names}: found nothing to train; a task needs a column of texts (or tokens) and one of labels "
        f"({listed or 'there are no columns'})"
    )


def _shape_hint(tables: Sequence[_Table]) -> str:
    """Return what to do about a JSON file that holds one object instead of rows; "" if there is none."""
    samples = [sample for table in tables for listed in table.samples.values() for sample in listed]
    single = next((sample.path for sample in samples if sample.format == "json" and sample.count == 1), None)
    if single is None:
        return ""
    return f"; {single.name} holds a single object: write a list of objects, one for each row"


def _verified(
    table: _Table, head: Mapping[str, Any], before: Sequence[TaskDraft], base: Path, *, several: bool
) -> list[TaskDraft]:
    """Return the drafts of a table's tasks with which all rows can be read; record why others are left out."""
    count = sum(sample.count for sample in table.samples["train"])
    shares = _SHARES_OF_FEW if count < _FEW_ROWS else (_SHARE,)
    best: tuple[list[TaskDraft], dict[str, str]] = ([], {})
    for share in shares:
        drafts = _drafts(table, share, before, base, several=several)
        readable, refused = _readable(drafts, head, base)
        if len(readable) > len(best[0]) or not best[1]:
            best = readable, refused
        if len(readable) == len(drafts):
            break
    table.left_out |= best[1]
    return best[0]


def _readable(
    drafts: Sequence[TaskDraft], head: Mapping[str, Any], base: Path
) -> tuple[list[TaskDraft], dict[str, str]]:
    """Return the drafts that can be read together, and the reasons why others cannot."""
    if not drafts or _error(drafts, head, base) is None:
        return list(drafts), {}
    readable: list[TaskDraft] = []
    refused: dict[str, str] = {}
    for draft in drafts:
        error = _error([*readable, draft], head, base)
        if error is None:
            readable.append(draft)
        else:
            refused[draft.column] = f"could not be read as a {draft.options['type']} task: {error}"
    return readable, refused


def _error(drafts: Sequence[TaskDraft], head: Mapping[str, Any], base: Path) -> str | None:
    """Return the error that `polytask check` would raise for tasks, if any."""
    values = {**head, "tasks": {draft.name: {**draft.options, "data": draft.data} for draft in drafts}}
    try:
        read_tables(validate(values, base=base).tasks)
    except UserError as error:
        return str(error)
    return None


def _drafts(table: _Table, share: float, before: Sequence[TaskDraft], base: Path, *, several: bool) -> list[TaskDraft]:
    names = {draft.name for draft in before}
    drafts: list[TaskDraft] = []
    plain = _PLAIN_NAMES if len(table.outline.proposals) > 1 else _PLAIN_NAMES | _PLAIN_ALONE
    for proposal in table.outline.proposals:
        name = _task_name(
            proposal.column, table.files.name, names, plain=proposal.column.lower() in plain, several=several
        )
        names.add(name)
        data, notes = _data(table, proposal, share, base)
        drafts.append(TaskDraft(name, proposal.column, proposal.options, data, proposal.why, tuple(notes)))
    return drafts


def _data(table: _Table, proposal: Proposal, share: float, base: Path) -> tuple[dict[str, Any], list[str]]:
    """Return a task's `data` section, and notes for the user."""
    data: dict[str, Any] = {}
    notes = [
        *table.files.notes,
        *(sample.guess for listed in table.samples.values() for sample in listed if sample.guess),
    ]
    for split, listed in table.samples.items():
        lacking = next((why for sample in listed if (why := _lacks(sample, proposal))), "")
        if split == "train" or not lacking:
            paths = [_path(sample.path, base) for sample in listed]
            data[split] = paths[0] if len(paths) == 1 else paths
        else:
            notes.append(f"{listed[0].path.name} is left out: {lacking}")
    by_column = table.outline.splits if set(data) == {"train"} else None
    if by_column is not None:
        column, named = by_column
        data |= {split: data["train"] for split in named}
        notes.append(f"the column {column!r} names the rows of each split")
    if "dev" not in data:
        data["dev"] = share
        notes.append(f"{100 * share:.0f} % of the training rows are held out to choose the model by")
    if "test" not in data:
        notes.append("without a test file there are only dev scores, and the model is chosen by them")
    sample = table.samples["train"][0]
    options = {key: value for key, value in sample.written.to_key().items() if value}
    options |= proposal.written
    if table.outline.sentence is not None:
        options["sentence"] = table.outline.sentence
    if by_column is not None:
        options["split_column"] = by_column[0]
    order: tuple[Split, ...] = ("train", "dev", "test")
    return {**{split: data[split] for split in order if split in data}, **options}, notes


def _lacks(sample: Sample, proposal: Proposal) -> str:
    """Return why a file cannot be a split of a task; "" if it can."""
    needed = [*proposal.columns, *proposal.inputs]
    missing = [name for name in needed if name not in sample.columns]
    if missing:
        return f"it has no column {missing[0]}"
    label = proposal.columns[-1]
    options = validate({"encoder": "x", "tasks": {"x": proposal.options}}).tasks["x"]
    if all(says_nothing(row.get(label), options) for row in sample.rows):
        return f"none of its rows has a {label}"
    if options.type in _ONE_LABEL and {cell_text(row.get(label)) for row in sample.rows} == {"-1"}:
        return f"the {label} of every row is -1, which stands for no label"
    return ""


def _task_name(column: str, files: str, names: set[str], *, plain: bool, several: bool) -> str:
    """Return the name of a task: that of its column, or that of the files if the column's name is generic (plain)."""
    column_slug, files_slug = _slug(column), _slug(files)
    name = files_slug if plain and files_slug else column_slug or files_slug or "task"
    if several and not plain and name in names and files_slug:
        name = f"{files_slug}_{name}"[:100]
    return next(candidate for candidate in _numbered(name) if candidate not in names)


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1


def _slug(text: str) -> str:
    """Return a valid task name similar to a text; "" if the text has no letters.

    >>> _slug("Star rating (1-5)"), _slug("1st"), _slug("情感")
    ('Star_rating_1-5', 'st', '情感')
    """
    slug = unicodedata.normalize("NFC", text)
    slug = "".join(
        character if unicodedata.category(character)[0] in "LMN" or character in "-_" else "_" for character in slug
    )
    slug = re.sub(r"_{2,}", "_", slug)
    slug = slug.lstrip("".join(character for character in slug if not character.isalpha())).rstrip("_-")
    while len(slug.encode()) > 100:
        slug = slug[:-1]
    return slug if is_name(slug) else ""
