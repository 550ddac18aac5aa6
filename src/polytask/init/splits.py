"""Groups files into training, dev and test rows of the same tasks, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from polytask.data.paths import EXTENSIONS, find_format, saved_dataset, split_in
from polytask.errors import DataError
from polytask.terms import Split

# The number of a part after the split's name, such as -00000-of-00002.
_PART = re.compile(r"[-_.]?\d+(?:-of-\d+)?$")
_EDGES = "-_. "
_ANY_FOLDER = frozenset(
    {"data", "dataset", "datasets", "corpus", "files", "raw", "processed", "splits", "train", "tmp"}
)


@dataclass(frozen=True)
class DataSet:
    """Files of the same tasks.

    Attributes:
        name: common name of the files, without the split; empty if their names contain nothing else.
        files: files by split; there are always training files.
        notes: notes for the user on how the files are used.
    """

    name: str
    files: dict[Split, list[Path]]
    notes: list[str] = field(default_factory=list[str])


def data_sets(paths: Sequence[Path]) -> list[DataSet]:
    """Group files, and the data files of folders, into data sets.

    Raises DataError for a split that no training file belongs to.
    """
    groups: dict[tuple[Path, str], dict[Split, list[Path]]] = {}
    unsplit: list[DataSet] = []
    for path in dict.fromkeys(file for item in paths for file in _files_of(item)):
        split, folder, stem = _place(path)
        if split is None:
            unsplit.append(DataSet(stem, {"train": [path]}))
        else:
            groups.setdefault((folder, stem), {}).setdefault(split, []).append(path)
    complete = [DataSet(stem, files) for (_, stem), files in groups.items() if "train" in files]
    parts = [files for files in groups.values() if "train" not in files]
    grouped = [*complete, *unsplit]
    for files in parts:
        _attach(files, grouped)
    return [group if group.name else replace(group, name=_folder_name(group)) for group in grouped]


def _folder_name(data_set: DataSet) -> str:
    """Return the name of the files' folder, unless it is a generic one."""
    name = data_set.files["train"][0].resolve().parent.name
    return "" if name.lower() in _ANY_FOLDER else name


def _attach(files: dict[Split, list[Path]], data_sets: list[DataSet]) -> None:
    """Add dev and test files to the only data set that lacks them; without any data set, use them for training."""
    free = [data_set for data_set in data_sets if not files.keys() & data_set.files.keys()]
    if len(free) == 1:
        free[0].files.update(files)
        return
    names = ", ".join(str(path) for listed in files.values() for path in listed)
    if data_sets or len(files) > 1:
        raise DataError(f"{names}: no training file belongs to this; name it too, or rename one of the files")
    (split, listed), *_ = files.items()
    note = f"the file is named {split}, but is used for training, since there is no other file"
    data_sets.append(DataSet("", {"train": listed}, [note]))


def _files_of(path: Path) -> list[Path]:
    saved = saved_dataset(path) if path.is_dir() or path.suffix == ".json" else None
    if saved is not None:
        raise DataError(saved)
    if not path.is_dir():
        return [path]
    visible = sorted(item for item in path.iterdir() if item.is_file() and not item.name.startswith((".", "_")))
    files = [item for item in visible if find_format(item) is not None]
    if not files:
        folders = [item for item in path.iterdir() if item.is_dir() and any(item.glob("*.txt"))]
        hint = ""
        if folders:
            hint = (
                f"; {len(folders)} folders in it hold texts, such as {folders[0].name}: if each is a class, write one "
                'line per text into a jsonl file: {"text": ..., "label": the folder\'s name}'
            )
        raise DataError(f"{path}: the folder holds no data file (looked for {', '.join(EXTENSIONS)}){hint}")
    return files


def _place(path: Path) -> tuple[Split | None, Path, str]:
    """Return the split in a file's name or that of its folder, the folder, and the rest of the name."""
    stem = _stem(path)
    match = split_in(stem)
    if match is not None:
        split, (start, end) = match
        rest = f"{stem[:start].rstrip(_EDGES)}-{_PART.sub('', stem[end:]).lstrip(_EDGES)}".strip(_EDGES)
        return split, path.parent, rest
    above = split_in(path.parent.name)
    if above is not None and above[1] == (0, len(path.parent.name)):
        return above[0], path.parent.parent, stem
    return None, path.parent, stem


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    return Path(name).stem
