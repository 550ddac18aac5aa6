"""From the tasks' options to fitted tasks and encoded sources, with notes on everything a person should know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytask.data.encode import Source, encode_table
from polytask.data.feed import feeds_of, require_apart
from polytask.data.rows import Table, read_table
from polytask.data.tokens import SHARED, Tokenization
from polytask.errors import ConfigError
from polytask.tasks import TASKS, Tally, Task, TaskOptions
from polytask.tasks.tagging import Tagging
from polytask.terms import Note, Split

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@dataclass(frozen=True)
class Tables:
    """The rows of every split, and the tasks fitted to the training rows."""

    tables: Mapping[Split, tuple[Table, ...]]
    tasks: Mapping[str, Task]
    notes: tuple[Note, ...]

    @property
    def tallies(self) -> dict[str, Tally]:
        """What the training rows of each task hold."""
        return {name: tally for table in self.tables["train"] for name, tally in table.tallies.items()}


def read_tables(options: Mapping[str, TaskOptions]) -> Tables:
    """Read every split of every task and fit the tasks. Raises DataError or ConfigError naming the place."""
    tables: dict[Split, tuple[Table, ...]] = {
        split: tuple(read_table(feed) for feed in feeds_of(options, split)) for split in SPLITS
    }
    require_apart(options)
    tasks: dict[str, Task] = {}
    for name, chosen in options.items():
        table = next(table for table in tables["train"] if name in table.feed.tasks)
        try:
            tasks[name] = TASKS[chosen.type].fit(name, chosen, table.tallies[name])
        except ValueError as error:
            raise ConfigError(f"tasks.{name} ({table.feed.name}): {error}") from None
        for split in SPLITS:
            for other in tables[split]:
                if name in other.feed.tasks and other.tallies[name].present == 0:
                    raise ConfigError(
                        f"tasks.{name}: {other.feed.name}: no {split} row carries a label; "
                        "check the column, or name another file"
                    )
    return Tables(tables, tasks, tuple(_notes(tables, tasks)))


def encode_tables(tables: Tables, tokens: Tokenization) -> dict[Split, tuple[Source, ...]]:
    """Tokenise every split, or find it in the cache."""
    return {
        split: tuple(encode_table(table, tables.tasks, tokens) for table in found)
        for split, found in tables.tables.items()
    }


def task_facts(task: Task, tally: Tally, sources: Iterable[Source]) -> dict[str, Any]:
    """Return a task's rows by split, and its labels' counts (or the range of its numbers) in training."""
    return {
        "rows": {source.split: len(source.carries[task.name]) for source in sources if task.name in source.tasks},
        "labels": dict(tally.labels.most_common()) if task.labels else None,
        "range": None if task.labels else [tally.low, tally.total / tally.present, tally.high],
    }


def truncation_notes(sources: Mapping[Split, tuple[Source, ...]], max_tokens: int) -> list[Note]:
    """Say how many texts are longer than the limit."""
    notes: list[Note] = []
    for split, found in sources.items():
        for source in found:
            rows = source.labelled
            cut = int(source.truncated[rows].sum())
            if cut:
                share = 100 * cut / len(rows)
                text = f"{cut} of {len(rows)} texts ({share:.0f} %) are longer than {max_tokens} tokens and truncated"
                notes.append(Note(f"{split} of {', '.join(source.tasks)}", text))
    return notes


def shared_token_notes(sources: Mapping[Split, tuple[Source, ...]], tasks: Mapping[str, Task]) -> list[Note]:
    """Say how many words share a token with the word before, and how many of them lose their tag by it."""
    notes: list[Note] = []
    for split, found in sources.items():
        for source in found:
            for name in source.tasks:
                task = tasks[name]
                if isinstance(task, Tagging) and source.word_tokens.holds(SHARED):
                    notes += _shared_token_notes(f"{split} of {name}", task, source)
    return notes


def _shared_token_notes(place: str, task: Tagging, source: Source) -> Iterator[Note]:
    words = shared = 0
    lost: list[int] = []
    for row in source.carries[task.name].tolist():
        tokens, tags = np.asarray(source.word_tokens[row]), np.asarray(source.targets[task.name][row])
        words += len(tokens)
        shared += int((tokens == SHARED).sum())
        lost += [row] * task.lost_tags(tags.tolist(), source.tokens(row).words)
    if not shared:
        return
    given = "go on with its entity" if task.bio else "are given its tag"
    text = f"{shared} of {words} words ({100 * shared / words:.1f} %) share a token with the word before and {given}"
    if lost:
        first = source.raw[lost[0]]["place"]
        text += f"; {len(lost)} tags say otherwise and count as errors, the first at {first}"
    yield Note(place, text)


def _notes(tables: Mapping[Split, tuple[Table, ...]], tasks: Mapping[str, Task]) -> Iterator[Note]:
    for split in SPLITS:
        for table in tables[split]:
            names = ", ".join(table.feed.tasks)
            place = f"{split} of {names}"
            yield from (Note(place, message) for message in table.remarks.messages())
            if table.empty[0]:
                yield Note(
                    place,
                    f"{table.empty[0]} texts are empty or hold no visible character, the first at {table.empty[1]}",
                )
            if table.apart[0]:
                yield Note(
                    place,
                    f"the tokens of {table.apart[0]} rows do not spell out their text, the first at {table.apart[1]}; "
                    "the tokens, joined, are encoded as a row of their own, beside the text where a task reads that",
                )
            yield from _task_notes(split, table, tasks)
    yield from leaks(tables)


def _task_notes(split: Split, table: Table, tasks: Mapping[str, Task]) -> Iterator[Note]:
    for name, tally in table.tallies.items():
        place = f"{split} of {name}"
        if tally.repaired:
            yield Note(place, f"{tally.repaired} orphan I- tags were read as B-, the first at {tally.repaired_at}")
        if tally.missing:
            yield Note(
                place,
                f"{tally.missing} of {tally.missing + tally.present} rows carry no label and are masked",
            )
        unseen = {label: count for label, count in tally.labels.items() if label not in tasks[name].labels}
        if unseen:
            listed = ", ".join(f"{label} ({count})" for label, count in sorted(unseen.items())[:8])
            yield Note(place, f"labels that training never has count as errors: {listed}")


def fingerprints(table: Table) -> NDArray[np.uint64]:
    """Return the hash of each row's text: equal for equal texts, whatever their case and white space."""
    return table.rows.data.column("fingerprint").to_numpy()


def leaks(tables: Mapping[Split, tuple[Table, ...]]) -> Iterator[Note]:
    """Find dev and test texts that also stand in the training rows of any task: all train the shared encoder.

    And test texts that also stand in the dev rows of a task of their own, which choose the model.
    """
    known = {split: [(table, np.unique(fingerprints(table))) for table in tables[split]] for split in ("train", "dev")}
    for split in ("dev", "test"):
        for table in tables[split]:
            for other, hashes in known["train"]:
                yield from _leak(split, table, other, hashes, "training rows")
            for other, hashes in known["dev"] if split == "test" else ():
                if not set(table.feed.tasks).isdisjoint(other.feed.tasks):
                    yield from _leak(split, table, other, hashes, "dev rows (which choose the model)")


def _leak(split: Split, table: Table, other: Table, known: NDArray[np.uint64], where: str) -> Iterator[Note]:
    hashes = fingerprints(table)
    seen = np.isin(hashes, known)
    count = int(seen.sum())
    if count:
        first = table.rows[int(np.argmax(seen))]["place"]
        yield Note(
            f"{split} of {', '.join(table.feed.tasks)}",
            f"{count} of {len(hashes)} texts are also in the {where} of {', '.join(other.feed.tasks)}, "
            f"the first at {first}",
        )
