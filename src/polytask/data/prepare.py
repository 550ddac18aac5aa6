"""From the tasks' options to fitted tasks and encoded sources, with notes for the user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytask.data.contradictions import contradictions
from polytask.data.data_warnings import Finding, label_findings, merged, spelling_warnings
from polytask.data.encode import Source, encode_table
from polytask.data.feed import feeds_of, require_apart
from polytask.data.paths import passed_over
from polytask.data.rows import DataTable, read_table
from polytask.data.span_ends import short_spans
from polytask.data.tokens import SHARED, Tokenization
from polytask.errors import ConfigError
from polytask.tasks import TASKS, LabelStats, Task, TaskOptions
from polytask.terms import DataWarning, Split

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
# With at least this share of unknown tokens, the texts are not in the encoder's language.
_UNKNOWN_SHARE = 0.05


@dataclass(frozen=True)
class DataTables:
    """The rows of every split, and the tasks fitted to the training rows."""

    tables: Mapping[Split, tuple[DataTable, ...]]
    tasks: Mapping[str, Task]
    notes: tuple[DataWarning, ...]

    @property
    def label_stats(self) -> dict[str, LabelStats]:
        """Label statistics of each task's training rows."""
        return {name: stats for table in self.tables["train"] for name, stats in table.label_stats.items()}


def read_tables(options: Mapping[str, TaskOptions]) -> DataTables:
    """Read every split of every task and fit the tasks. Raises DataError or ConfigError that name the place."""
    feeds = {split: feeds_of(options, split) for split in SPLITS}
    require_apart(options)
    train = tuple(read_table(feed) for feed in feeds["train"])
    # Labels are taken from all training rows, so that a rare label may occur only in the fold that is left out.
    complete = train
    if any(chosen.data.fold is not None for chosen in options.values()):
        whole = {name: _without_fold(chosen) for name, chosen in options.items()}
        complete = tuple(read_table(feed) for feed in feeds_of(whole, "train"))
    tasks = {name: _fit(name, chosen, complete) for name, chosen in options.items()}
    # The other splits are read in the same way as the training rows.
    settled = {name: task.reading_options for name, task in tasks.items()}
    tables: dict[Split, tuple[DataTable, ...]] = {"train": train}
    for split in SPLITS[1:]:
        tables[split] = tuple(read_table(feed) for feed in feeds_of(settled, split))
    for split, split_tables in tables.items():
        for table in split_tables:
            for name in (name for name in table.feed.tasks if table.label_stats[name].present == 0):
                raise ConfigError(
                    f"tasks.{name}: {table.feed.name}: {table.feed.lacks_labels}",
                    option=("tasks", name, "data", split),
                )
    return DataTables(tables, tasks, tuple(_notes(tables, tasks)))


def _without_fold(options: TaskOptions) -> TaskOptions:
    return options.model_copy(update={"data": options.data.model_copy(update={"fold": None})})


def _fit(name: str, options: TaskOptions, tables: Sequence[DataTable]) -> Task:
    """Fit a task to its training rows."""
    table = next(table for table in tables if name in table.feed.tasks)
    try:
        task = TASKS.of(options).fit(name, options, table.label_stats[name])
        task.require_known_positive()
    except ValueError as error:
        raise ConfigError(f"tasks.{name} ({table.feed.name}): {error}", option=("tasks", name)) from None
    return task


def encode_tables(tables: DataTables, tokens: Tokenization) -> dict[Split, tuple[Source, ...]]:
    """Tokenise every split, or read it from the cache."""
    return {
        split: tuple(encode_table(table, tables.tasks, tokens) for table in split_tables)
        for split, split_tables in tables.tables.items()
    }


def _has_range(task: Task, stats: LabelStats) -> bool:
    return not task.labels and not task.gives_vectors and stats.numbers > 0


def task_facts(task: Task, stats: LabelStats, sources: Iterable[Source]) -> dict[str, Any]:
    """Return a task's rows by split, and its labels' counts (or the range of its numbers) in training."""
    return {
        "rows": {source.split: len(source.drawn[task.name]) for source in sources if task.name in source.tasks},
        "labels": dict(stats.labels.most_common()) if task.labels else None,
        "range": [stats.low, stats.mean, stats.high] if _has_range(task, stats) else None,
    }


def truncation_warnings(sources: Mapping[Split, tuple[Source, ...]], max_tokens: int) -> list[DataWarning]:
    """Return notes on the number of texts that are longer than the limit."""
    return merged(
        Finding(
            split,
            ", ".join(source.tasks),
            f"{{count}} are longer than {max_tokens} tokens and truncated",
            f"{int(cut.sum())} of {len(cut)} texts ({100 * cut.mean():.0f} %)",
        )
        for split, split_sources in sources.items()
        for source in split_sources
        if (cut := source.truncated[source.labelled]).any()
    )


def unknown_warnings(
    sources: Mapping[Split, tuple[Source, ...]], unknown: int | None, tokens: Tokenization
) -> list[DataWarning]:
    """Return notes on texts that the encoder's vocabulary does not cover: those in another language or script.

    Args:
        unknown: id of the unknown token; None if the vocabulary covers everything.
    """
    findings: list[Finding] = []
    for source in (source for split_sources in sources.values() for source in split_sources):
        count = int(source.lengths.sum()) - len(source) * sum(tokens.frame)
        share = 0.0 if unknown is None else source.ids.count(unknown) / max(count, 1)
        if share >= _UNKNOWN_SHARE:
            text = (
                "{count} of the tokens are unknown to the encoder, which sees the same token in place of all of them; "
                "choose an encoder that was made for the language of these texts"
            )
            findings.append(Finding(source.split, ", ".join(source.tasks), text, f"{100 * share:.0f} %"))
    return merged(findings)


def shared_token_warnings(sources: Mapping[Split, tuple[Source, ...]], tasks: Mapping[str, Task]) -> list[DataWarning]:
    """Return notes on the number of words that share a token with the previous word, and lose their tag by it."""
    notes: list[DataWarning] = []
    for split, split_sources in sources.items():
        for source in split_sources:
            for name in source.tasks:
                task = tasks[name]
                if task.level == "word" and source.word_tokens.holds(SHARED):
                    notes += _shared_token_warnings(f"{split} of {name}", task, source)
    return notes


def _shared_token_warnings(place: str, task: Task, source: Source) -> Iterator[DataWarning]:
    words = shared = 0
    lost: list[int] = []
    for row in source.carries[task.name].tolist():
        tokens, tags = np.asarray(source.word_tokens[row]), np.asarray(source.targets[task.name][row])
        words += len(tokens)
        shared += int((tokens == SHARED).sum())
        lost += [row] * task.lost_words(tags.tolist(), source.tokens(row).words)
    if not shared:
        return
    consequence = "continue its entity" if task.finds_spans else "get its tag" if task.labels else "its value"
    share = 100 * shared / words
    text = f"{shared} of {words} words ({share:.1f} %) share a token with the previous word and {consequence}"
    if lost:
        first = source.raw[lost[0]]["place"]
        text += f"; {len(lost)} tags differ from that and count as errors, the first at {first}"
    yield DataWarning(place, text)


def notes_on_scored_rows(
    tables: Sequence[DataTable], sources: Sequence[Source], tasks: Mapping[str, Task], tokens: Tokenization
) -> list[DataWarning]:
    """Return the notes that `check` gives on a test split, for rows that a trained model is scored on."""
    encoded: dict[Split, tuple[Source, ...]] = {"test": tuple(sources)}
    labels = [(tasks[name], stats) for table in tables for name, stats in table.label_stats.items() if stats.present]
    return [
        *merged(finding for table in tables for finding in _row_findings("test", table)),
        *merged(found for task, stats in labels for found in label_findings("test", task, stats, trained=True)),
        *merged(finding for table in tables for finding in contradictions("test", table)),
        *merged(finding for table in tables for finding in short_spans("test", table)),
        *truncation_warnings(encoded, tokens.max_tokens),
        *shared_token_warnings(encoded, tasks),
        *unknown_warnings(encoded, tokens.unknown, tokens),
    ]


def _notes(tables: Mapping[Split, tuple[DataTable, ...]], tasks: Mapping[str, Task]) -> Iterator[DataWarning]:
    yield from merged(finding for split in SPLITS for table in tables[split] for finding in _row_findings(split, table))
    for name, task in tasks.items():
        label_stats: dict[Split, LabelStats] = {
            split: table.label_stats[name] for split in SPLITS for table in tables[split] if name in table.label_stats
        }
        yield from merged(
            finding for split, stats in label_stats.items() for finding in label_findings(split, task, stats)
        )
        yield from spelling_warnings(task, label_stats)
    yield from merged(
        finding for split in SPLITS for table in tables[split] for finding in contradictions(split, table)
    )
    yield from merged(finding for split in SPLITS for table in tables[split] for finding in short_spans(split, table))
    yield from merged(leaks(tables))


def _row_findings(split: Split, table: DataTable) -> Iterator[Finding]:
    names = ", ".join(table.feed.tasks)
    for folder in table.feed.named if table.feed.hub is None else ():
        skipped = passed_over(folder)
        if skipped:
            text = (
                "files of {first} are left out ({count}), since their extensions are unknown; name those that hold "
                "rows, with `format`"
            )
            yield Finding(split, names, text, str(len(skipped)), f"{folder} (such as {skipped[0]})")
    for message, cases, place in table.remarks.to_json():
        text = message.replace("{place}", "{first}").replace("{{", "{").replace("}}", "}")
        yield Finding(split, names, text, str(cases), place)
    count, first = table.empty
    if count:
        text = "{count} texts are empty or hold no visible character, the first at {first}"
        yield Finding(split, names, text, str(count), first)
    count, first = table.apart
    if count:
        text = (
            "the tokens of {count} rows do not spell out their text, the first at {first}; "
            "the joined tokens are encoded as a separate row, in addition to the text if a task reads it"
        )
        yield Finding(split, names, text, str(count), first)


def fingerprints(table: DataTable) -> NDArray[np.uint64]:
    """Return a hash of each row's text, which ignores case and white space."""
    return table.rows.data.column("fingerprint").to_numpy()


def _shows_leaks(table: DataTable) -> NDArray[np.bool_]:
    """Return which rows show that splits overlap; companions that recur in many rows do not."""
    recurring = {name for name, options in table.feed.tasks.items() if TASKS.of(options).companions_recur}
    if not recurring:
        return np.ones(len(table.rows), dtype=bool)
    companion_of: list[str | None] = table.rows.data.column("companion_of").to_pylist()
    return np.array([name not in recurring for name in companion_of], dtype=bool)


def leaks(tables: Mapping[Split, tuple[DataTable, ...]]) -> Iterator[Finding]:
    """Yield findings of dev and test texts that are also in any task's training rows, which train the shared encoder.

    Also of test texts that are in the dev rows of the same task, which choose the model.
    """
    texts = {
        split: [(table, np.unique(fingerprints(table)[_shows_leaks(table)])) for table in tables[split]]
        for split in ("train", "dev")
    }
    for split in ("dev", "test"):
        for table in tables[split]:
            for other, hashes in texts["train"]:
                yield from _leak(split, table, other, hashes, "training rows")
            for other, hashes in texts["dev"] if split == "test" else ():
                if not set(table.feed.tasks).isdisjoint(other.feed.tasks):
                    yield from _leak(split, table, other, hashes, "dev rows (which choose the model)")


def _leak(split: Split, table: DataTable, other: DataTable, texts: NDArray[np.uint64], where: str) -> Iterator[Finding]:
    hashes = fingerprints(table)
    relevant = _shows_leaks(table)
    leaked = np.isin(hashes, texts) & relevant
    count = int(leaked.sum())
    if count:
        first = table.rows[int(np.argmax(leaked))]["place"]
        text = f"{{count}} are also in the {where} of {', '.join(other.feed.tasks)}, the first at {{first}}"
        yield Finding(split, ", ".join(table.feed.tasks), text, f"{count} of {int(relevant.sum())} texts", first)
