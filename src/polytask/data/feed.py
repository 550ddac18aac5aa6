"""Feeds: the rows of one split that several tasks read together, since they name the same files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from polytask.classes import ClassNames
from polytask.data.cache import file_digest, key_of
from polytask.data.files import ReadingNotes
from polytask.data.paths import files_of, saved_dataset, split_named
from polytask.data.readers import read_file, sentences
from polytask.errors import ConfigError, DataError, nearest
from polytask.options import DataOptions, FileOptions
from polytask.regular import is_file, is_folder
from polytask.tasks import TASKS, TaskOptions
from polytask.terms import Inputs, Split

# The default splits of a hub dataset.
_HUB_SPLITS = {"train": "train", "dev": "validation"}


@dataclass(frozen=True)
class Part:
    """The part of the training rows that belongs to a split; equal texts always belong to the same split.

    Attributes:
        split: the split that the rows are for.
        share: share of the training rows that is held out as dev rows; 0 for none.
        fold: (number, count): the fold that is left out of the training rows and read as test rows.
    """

    split: Split
    share: float = 0.0
    fold: tuple[int, int] | None = None

    def holds(self, text: str, pair: str | None) -> bool:
        """Whether a row belongs to the split."""
        words = f"{text}\0{pair}".encode()
        if self.share and _number(words) < self.share * 2**64:
            return self.split == "dev"
        if self.fold is None:
            return self.split == "train"
        number, of = self.fold
        return self.split == ("test" if _number(words, b"fold") % of == number - 1 else "train")

    @property
    def lacks_labels(self) -> str:
        """A message that none of its rows carries a label, with what to do."""
        if self.split == "test" and self.fold is not None:
            return (
                f"no row of fold {self.fold[0]} of {self.fold[1]} carries a label; take fewer folds, or add rows "
                "(equal texts are always in one fold)"
            )
        if self.split == "dev":
            return (
                f"none of the rows that `dev: {self.share:g}` holds out carries a label; hold out more, add rows, or "
                "name a file of dev rows (equal texts are always held out together)"
            )
        rest = " and ".join(
            ([f"`dev: {self.share:g}`"] if self.share else [])
            + ([f"fold {self.fold[0]} of {self.fold[1]}"] if self.fold else [])
        )
        return f"no training row with a label is left after {rest}; add rows, or hold out fewer"


def _number(words: bytes, purpose: bytes = b"") -> int:
    return int.from_bytes(hashlib.blake2b(words, digest_size=8, person=purpose).digest())


@dataclass(frozen=True)
class Feed:
    """Rows of one split.

    Attributes:
        files: paths of files, or names of a hub dataset's splits.
        named: what the options name: these files, their folders, or patterns that match them.
        rows: rows given as Python objects, in place of files.
        written: options about the format of the files.
        part: the part of the rows to read; None for all.
        split_column: column that names the split of each row; None if all rows belong to the split.
        tasks: options of the tasks that read the rows.
    """

    split: Split
    files: tuple[str, ...]
    named: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    hub: str | None
    config: str | None
    written: FileOptions
    part: Part | None
    split_column: str | None
    inputs: Inputs
    tasks: Mapping[str, TaskOptions]

    @property
    def name(self) -> str:
        """A name of these rows, for users."""
        if self.hub:
            return f"{self.hub} ({', '.join(self.files)})"
        return ", ".join(Path(file).name for file in self.files) or f"{len(self.rows)} rows"

    @property
    def lacks_labels(self) -> str:
        """A message that none of the rows carries a label, with what to do."""
        if self.part is not None:
            return self.part.lacks_labels
        if self.split_column is not None:
            return f"no {self.split} row carries a label: rows whose column {self.split_column!r} names this split"
        return f"no {self.split} row carries a label; check the column, or name another file"

    @property
    def weighed(self) -> dict[str, str]:
        """The weight column of each task with row weights; empty for dev and test, as evaluation uses no weights."""
        if self.split != "train":
            return {}
        return {name: task.label_weight for name, task in self.tasks.items() if task.label_weight is not None}

    def holds(self, text: str, pair: str | None) -> bool:
        """Whether a row of the files belongs to the split."""
        return self.part is None or self.part.holds(text, pair)

    def reads(self, place: str, values: Mapping[str, Any]) -> bool:
        """Whether a row's split column names this split. Raises DataError if it names none."""
        if self.split_column is None:
            return True
        if self.split_column not in values:
            raise DataError(missing_column(place, self.split_column, list(values)))
        named = split_named(values[self.split_column])
        if named is None:
            raise DataError(
                f"{place}: {self.split_column} (data.split_column): found {values[self.split_column]!r}; expected "
                "train, dev (or valid, validation, val) or test"
            )
        # Rows that are held out come from the training rows.
        return named == (self.split if self.part is None else "train")

    def digest(self) -> str:
        """Hash the rows' content, the options that affect reading, and the paths of files, which appear in errors."""
        return key_of(self.content(), list(self.files))

    def content(self) -> str:
        """Hash the rows' content and the options that affect reading."""
        content: list[Any] = [str(self.rows), self.split if self.rows else None, self.part and astuple(self.part)]
        if self.split_column is not None:
            content += [self.split_column, self.split]
        if self.hub:
            content.extend(load_hub(self, part)._fingerprint for part in self.files)  # pyright: ignore[reportPrivateUsage]
        else:
            content.extend(file_digest(Path(file)) for file in self.files if is_file(file))
        options = {name: [task.reading(), TASKS.code_of(task.type)] for name, task in self.tasks.items()}
        return key_of(content, self.written.to_key(), options, [self.inputs.first, self.inputs.second])

    def read(self, remarks: ReadingNotes | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (place, values) of each row, in order.

        Args:
            remarks: collects notes for the user on how files were read.
        """
        for part in self.files if self.hub else ():
            yield from hub_rows(load_hub(self, part), f"{self.hub} ({part})")
        rows = enumerate(self.rows, start=1)
        for number, row in (
            sentences(rows, self.written.sentence, f"{self.split} row") if self.written.sentence else rows
        ):
            yield f"{self.split} row {number}", row
        for file in () if self.hub else self.files:
            # A file name that is not valid text would break the message that contains it.
            name = file.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            for number, row in read_file(Path(file), self.written, remarks):
                yield f"{name}:{number}", row


def load_hub(feed: Feed, part: str) -> Any:  # noqa: ANN401
    """Load a split of a hub dataset. Raises DataError if it is not available."""
    import datasets
    from datasets.exceptions import DatasetsError

    assert feed.hub is not None
    try:
        data = datasets.load_dataset(feed.hub, feed.config, split=part)
        if data.info.builder_name == "csv":
            # Otherwise labels such as NA and None would be read as empty cells.
            data = datasets.load_dataset(
                feed.hub, feed.config, split=part, keep_default_na=False, na_values=[""], na_filter=True
            )
    except (ValueError, OSError, RuntimeError, DatasetsError) as error:
        saved = saved_dataset(Path(feed.hub)) if is_folder(feed.hub) else None
        if saved is not None and not is_file(Path(feed.hub, "dataset_dict.json")):
            raise DataError(saved) from None
        problem = f"{error} ({error.__cause__})" if error.__cause__ else str(error)
        raise DataError(
            f"hub dataset {feed.hub!r}, split {part!r}: {problem}; "
            "check the name and the network, or download it and give the folder"
        ) from None
    assert isinstance(data, datasets.Dataset)
    return data


def hub_rows(data: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401
    """Yield (place, values) of a hub dataset's rows, with the names of its classes in place of their numbers."""
    names = ClassNames(data.features.to_dict())
    for number, row in enumerate(data, start=1):
        place = f"{name}:{number}"
        try:
            yield place, names.named(row)
        except ValueError as error:
            raise DataError(f"{place}: {error}") from None


def feeds_of(tasks: Mapping[str, TaskOptions], split: Split) -> list[Feed]:
    """Group the tasks that read the same rows and inputs of a split: each group shares its rows.

    Raises ConfigError if a task has no training rows or no dev rows.
    """
    feeds: dict[str, Feed] = {}
    for name, task in tasks.items():
        chosen, part = _chosen(name, task.data, split)
        if chosen is None:
            continue
        files: tuple[str, ...] = ()
        named = tuple(_parts(chosen))
        rows: tuple[dict[str, Any], ...] = ()
        if isinstance(chosen, str) or all(isinstance(item, str) for item in chosen):
            files = _files(name, split, chosen, task.data)
        else:
            rows = tuple(item for item in chosen if isinstance(item, dict))
        data = task.data if not rows else task.data.model_copy(update={"hub": None, "config": None})
        written = data.file_options
        column = data.split_column
        identity = key_of(
            files, str(rows), data.hub, data.config, written.to_key(), str(part), column, str(task.inputs)
        )
        together = {**(feeds[identity].tasks if identity in feeds else {}), name: task}
        feeds[identity] = Feed(
            split, files, named, rows, data.hub, data.config, written, part, column, task.inputs, together
        )
    return list(feeds.values())


def _files(name: str, split: str, chosen: Any, data: DataOptions) -> tuple[str, ...]:  # noqa: ANN401
    """Return the files (or splits of a hub dataset) that the options name, with folders and patterns expanded."""
    names = _parts(chosen)
    if data.hub is not None:
        return tuple(names)
    try:
        return tuple(file for path in names for file in files_of(path))
    except DataError as error:
        raise DataError(f"tasks.{name}.data.{split}: {error}") from None


def _chosen(name: str, data: DataOptions, split: Split) -> tuple[Any, Part | None]:
    """Return what the options name for a split, and which part of it belongs to the split."""
    part = Part(split, data.dev if isinstance(data.dev, float) else 0.0, data.fold_of)
    chosen: Any = {"train": data.train, "dev": data.dev, "test": data.test}[split]
    if split == "train":
        chosen = chosen or (_HUB_SPLITS[split] if data.hub else None)
        if not chosen:
            raise ConfigError(f"tasks.{name}.data: no training rows; give `train:` (a file) or `hub:`")
        return chosen, part if part.share or part.fold else None
    if (split == "dev" and part.share) or (split == "test" and part.fold):
        return data.train or _HUB_SPLITS["train"], part
    if split == "dev":
        chosen = chosen or (_HUB_SPLITS[split] if data.hub else None)
        if not chosen:
            raise ConfigError(
                f"tasks.{name}.data: no dev rows, and the best model is chosen by them; give `dev:` a file, "
                "or a share of the training rows to hold out, such as `dev: 0.1`"
            )
    return chosen, None


def require_apart(tasks: Mapping[str, TaskOptions]) -> None:
    """Raise ConfigError if a task's test names a file, or a split of a hub dataset, that its train or dev names too.

    Rows that trained or chose a model say nothing about new ones. (Dev rows among the training rows are only noted.)
    """
    for name, task in tasks.items():
        if task.data.split_column is not None:
            continue
        tested = set(_files(name, "test", task.data.test, task.data))
        for split in ("train", "dev"):
            chosen = getattr(task.data, split) or (_HUB_SPLITS[split] if task.data.hub else None)
            twice = tested & set(_files(name, split, chosen, task.data))
            if twice:
                raise ConfigError(
                    f"tasks.{name}.data.test: found {min(twice)!r}, which is also tasks.{name}.data.{split}; a "
                    "score on rows that trained or chose the model says nothing about new ones; name another file, or "
                    "leave out test"
                )


def _parts(value: Any) -> list[str]:  # noqa: ANN401
    parts = value if isinstance(value, list | tuple) else [value]
    return [part for part in parts if isinstance(part, str)]


def missing_column(place: str, name: str, columns: Mapping[str, Any] | list[str]) -> str:
    """Return a message about a missing column, with the columns that exist."""
    return f"{place}: no column {name!r} ({nearest(name, columns)})"
