"""From files to a configuration that `polytask check` passes, or the reasons why there is nothing to train."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polytask.config import load_config, validate
from polytask.data.prepare import read_tables
from polytask.errors import DataError, OutputError, UserError
from polytask.files import write_text
from polytask.init.language import choose_reader
from polytask.init.proposal import Proposal, TableOutline, outline
from polytask.init.sample import Sample, read_sample
from polytask.init.splits import DataSet, data_sets
from polytask.init.text import TaskDraft, as_yaml, scalar
from polytask.options import FileOptions, is_name, read_file_options
from polytask.regular import is_folder
from polytask.tasks.labels import says_nothing
from polytask.terms import Split

# Shares of the training rows to hold out where there is no dev file: of few rows a greater one.
_SHARE, _SHARES_OF_FEW, _FEW_ROWS = 0.1, (0.2, 0.3, 0.5), 300
_FAR = f"..{os.sep}..{os.sep}.."
# Names that say only that a column holds the labels; the task is then called as the files are.
_PLAIN_NAMES = frozenset({"label", "labels", "class", "target", "y", "annotation", "spans", "ner_tags"})
# Names that say no more where they hold the only labels, and beside other tasks of the same rows tell which these are.
_PLAIN_ALONE = frozenset({"tag", "tags", "category"})


@dataclass(frozen=True)
class InitResult:
    """What was written.

    Attributes:
        path: of the configuration.
        tasks: by name, the type of each.
        left_out: columns and tasks that are not in it, with the reason.
        guesses: what may have been seen wrong of how the files are written.
    """

    path: Path
    tasks: Mapping[str, str]
    left_out: Mapping[str, str]
    guesses: Sequence[str] = ()


@dataclass
class _Table:
    """A data set, a sample of each of its files, and what it is proposed for."""

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
    """Look at data files, propose tasks, and write a configuration with the reasons as comments.

    Args:
        files: files or folders; names such as train, dev and test make splits, others further tasks.
        out: the configuration to write; paths in it are relative to its folder.
        force: overwrite it.
        encoder: in place of the one that is chosen by the texts' language.
        written: how the files are written, as beside the paths of a configuration: {"encoding": "cp1252"}.

    Raises UserError: a file cannot be read, there is nothing to train, or `out` is there already.
    """
    path = Path(out)
    if path.exists() and not force:
        raise OutputError(f"{path}: there is a file of that name; name another one with --out, or add --force")
    if path.resolve() in {Path(file).resolve() for file in files}:
        raise OutputError(f"{path}: this is one of the data files; name another file with --out")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}; make it, or name another file with --out")
    given = read_file_options(written or {})
    if not files:
        raise DataError("no file was given; name one, such as polytask init reviews.csv")
    tables = [_look(found, given) for found in data_sets([Path(file) for file in files])]
    base = path.parent.resolve()
    texts = [text for table in tables for text in table.outline.texts[:500]]
    reader = choose_reader(texts, encoder)
    head = {"encoder": _encoder(reader.encoder, base), "max_tokens": reader.max_tokens}
    drafts: list[TaskDraft] = []
    for table in tables:
        drafts += _verified(table, head, drafts, base, several=len(tables) > 1)
    left_out = {_place(table, name, tables): why for table in tables for name, why in table.left_out.items()}
    if not drafts:
        raise UserError(_nothing(files, left_out))
    command = [
        *map(str, files),
        *(word for key, value in (written or {}).items() for word in ("--written", f"{key}={value}")),
    ]
    command += ["--encoder", encoder] if encoder is not None else []
    write_text(path, as_yaml(drafts, reader, head, left_out, command, path))
    load_config(path)
    samples = [sample for table in tables for listed in table.samples.values() for sample in listed]
    guesses = [sample.guess for sample in samples if sample.guess]
    return InitResult(path, {draft.name: draft.options["type"] for draft in drafts}, left_out, guesses)


def _encoder(name: str, base: Path) -> str:
    """Return an encoder's name, or its folder relative to the configuration."""
    return _path(Path(name), base) if is_folder(name) else name


def _path(path: Path, base: Path) -> str:
    """Return a path relative to the configuration's folder, or whole where it lies far from it."""
    relative = os.path.relpath(path.resolve(), base)
    return str(path.resolve()) if relative.startswith(_FAR) else relative


def _look(files: DataSet, options: FileOptions) -> _Table:
    samples: dict[Split, list[Sample]] = {
        split: [read_sample(path, options) for path in listed] for split, listed in files.files.items()
    }
    found = outline(samples["train"][0])
    return _Table(files, samples, found, dict(found.left_out))


def _place(table: _Table, column: str, tables: Sequence[_Table]) -> str:
    return column if len(tables) == 1 else f"{table.samples['train'][0].path.name}, {column}"


def _nothing(files: Sequence[str | Path], left_out: Mapping[str, str]) -> str:
    names = ", ".join(str(file) for file in files)
    listed = "; ".join(f"{scalar(name)}: {' '.join(why.split())}" for name, why in list(left_out.items())[:20])
    return (
        f"{names}: nothing to train was found; a task needs a column of texts (or tokens) and one of labels "
        f"({listed or 'there are no columns'})"
    )


def _verified(
    table: _Table, head: Mapping[str, Any], before: Sequence[TaskDraft], base: Path, *, several: bool
) -> list[TaskDraft]:
    """Return the drafts of a table's tasks with which all rows can be read; the reasons of the others are kept."""
    count = sum(sample.count for sample in table.samples["train"])
    shares = _SHARES_OF_FEW if count < _FEW_ROWS else (_SHARE,)
    best: tuple[list[TaskDraft], dict[str, str]] = ([], {})
    for share in shares:
        drafts = _drafts(table, share, before, base, several=several)
        kept, refused = _readable(drafts, head, base)
        if len(kept) > len(best[0]) or not best[1]:
            best = kept, refused
        if len(kept) == len(drafts):
            break
    table.left_out |= best[1]
    return best[0]


def _readable(
    drafts: Sequence[TaskDraft], head: Mapping[str, Any], base: Path
) -> tuple[list[TaskDraft], dict[str, str]]:
    """Return the drafts that can be read together, and why others cannot."""
    if not drafts or _error(drafts, head, base) is None:
        return list(drafts), {}
    kept: list[TaskDraft] = []
    refused: dict[str, str] = {}
    for draft in drafts:
        error = _error([*kept, draft], head, base)
        if error is None:
            kept.append(draft)
        else:
            refused[draft.column] = f"could not be read as a {draft.options['type']} task: {error}"
    return kept, refused


def _error(drafts: Sequence[TaskDraft], head: Mapping[str, Any], base: Path) -> str | None:
    """Return what keeps tasks from being read, as `polytask check` would find it."""
    values = {**head, "tasks": {draft.name: {**draft.options, "data": draft.data} for draft in drafts}}
    try:
        read_tables(validate(values, base=base).tasks)
    except UserError as error:
        return str(error)
    return None


def _drafts(table: _Table, share: float, before: Sequence[TaskDraft], base: Path, *, several: bool) -> list[TaskDraft]:
    taken = {draft.name for draft in before}
    found: list[TaskDraft] = []
    plain = _PLAIN_NAMES if len(table.outline.proposals) > 1 else _PLAIN_NAMES | _PLAIN_ALONE
    for proposal in table.outline.proposals:
        name = _task_name(
            proposal.column, table.files.name, taken, plain=proposal.column.lower() in plain, several=several
        )
        taken.add(name)
        data, notes = _data(table, proposal, share, base)
        found.append(TaskDraft(name, proposal.column, proposal.options, data, proposal.why, tuple(notes)))
    return found


def _data(table: _Table, proposal: Proposal, share: float, base: Path) -> tuple[dict[str, Any], list[str]]:
    """Return where a task's rows come from, and what to know of it."""
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
    if "dev" not in data:
        data["dev"] = share
        notes.append(f"{100 * share:.0f} % of the training rows are held out to choose the model by")
    if "test" not in data:
        notes.append("without a test file the scores are those of dev, by which the model is chosen")
    sample = table.samples["train"][0]
    told = {key: value for key, value in sample.written.to_key().items() if value is not None}
    told |= proposal.written
    if table.outline.sentence is not None:
        told["sentence"] = table.outline.sentence
    order: tuple[Split, ...] = ("train", "dev", "test")
    return {**{split: data[split] for split in order if split in data}, **told}, notes


def _lacks(sample: Sample, proposal: Proposal) -> str:
    """Say why a file cannot be a split of a task; nothing where it can."""
    needed = [*proposal.columns, *proposal.inputs]
    missing = [name for name in needed if name not in sample.columns]
    if missing:
        return f"it has no column {missing[0]}"
    label = proposal.columns[-1]
    options = validate({"encoder": "x", "tasks": {"x": proposal.options}}).tasks["x"]
    if all(says_nothing(row.get(label), options) for row in sample.rows):
        return f"no row of it has a {label}"
    return ""


def _task_name(column: str, files: str, taken: set[str], *, plain: bool, several: bool) -> str:
    """Return the name of a task: its column's, or that of the files where the column's is plain: it says nothing."""
    own, other = _slug(column), _slug(files)
    name = other if plain and other else own or other or "task"
    if several and not plain and name in taken and other:
        name = f"{other}_{name}"[:100]
    return next(one for one in _numbered(name) if one not in taken)


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1


def _slug(text: str) -> str:
    """Return a name that a task may have, close to a text; empty where it has no letter.

    >>> _slug("Star rating (1-5)"), _slug("1st"), _slug("情感")
    ('Star_rating_1-5', 'st', '情感')
    """
    found = unicodedata.normalize("NFC", text)
    found = "".join(
        character if unicodedata.category(character)[0] in "LMN" or character in "-_" else "_" for character in found
    )
    found = re.sub(r"_{2,}", "_", found)
    found = found.lstrip("".join(character for character in found if not character.isalpha())).rstrip("_-")
    while len(found.encode()) > 100:
        found = found[:-1]
    return found if is_name(found) else ""
