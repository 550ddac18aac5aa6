"""Which of several files are the training, dev and test rows of the same tasks, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from polytask.data.paths import EXTENSIONS, find_format, split_in
from polytask.errors import DataError
from polytask.terms import Split

# Behind the split's name: which of several parts a file is, such as -00000-of-00002.
_PART = re.compile(r"[-_.]?\d+(?:-of-\d+)?$")
_EDGES = "-_. "
_ANY_FOLDER = frozenset(
    {"data", "dataset", "datasets", "corpus", "files", "raw", "processed", "splits", "train", "tmp"}
)


@dataclass(frozen=True)
class DataSet:
    """Files of the same tasks.

    Attributes:
        name: what the files are called, without the split; empty where their names tell nothing else.
        files: by split; there are always some for training.
        notes: what a person should know of how the files were taken.
    """

    name: str
    files: dict[Split, list[Path]]
    notes: list[str] = field(default_factory=list[str])


def data_sets(paths: Sequence[Path]) -> list[DataSet]:
    """Group files, and the data files of folders, into data sets.

    Raises DataError for a split that no training file belongs to.
    """
    groups: dict[tuple[Path, str], dict[Split, list[Path]]] = {}
    found: list[DataSet] = []
    for path in dict.fromkeys(file for given in paths for file in _files_of(given)):
        split, folder, stem = _place(path)
        if split is None:
            found.append(DataSet(stem, {"train": [path]}))
        else:
            groups.setdefault((folder, stem), {}).setdefault(split, []).append(path)
    whole = [DataSet(stem, files) for (_, stem), files in groups.items() if "train" in files]
    parts = [files for files in groups.values() if "train" not in files]
    found = [*whole, *found]
    for files in parts:
        _attach(files, found)
    return [one if one.name else replace(one, name=_folder_name(one)) for one in found]


def _folder_name(data_set: DataSet) -> str:
    """Return the name of the folder of files that are called after their splits, unless it says as little."""
    name = data_set.files["train"][0].resolve().parent.name
    return "" if name.lower() in _ANY_FOLDER else name


def _attach(files: dict[Split, list[Path]], data_sets: list[DataSet]) -> None:
    """Give dev and test files to the only data set that can be theirs; alone they are what there is to train on."""
    free = [one for one in data_sets if not files.keys() & one.files.keys()]
    if len(free) == 1:
        free[0].files.update(files)
        return
    names = ", ".join(str(path) for listed in files.values() for path in listed)
    if data_sets or len(files) > 1:
        raise DataError(f"{names}: no training file belongs to this; name it as well, or rename one of the files")
    (split, listed), *_ = files.items()
    note = f"the file is named {split}, and is trained on since no other was given"
    data_sets.append(DataSet("", {"train": listed}, [note]))


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(item for item in path.iterdir() if item.is_file() and not item.name.startswith((".", "_")))
    files = [item for item in found if find_format(item) is not None]
    if not files:
        raise DataError(f"{path}: the folder holds no data file (looked for {', '.join(EXTENSIONS)})")
    return files


def _place(path: Path) -> tuple[Split | None, Path, str]:
    """Return the split that a file's name or its folder's tells, the folder, and what else the name says."""
    stem = _stem(path)
    told = split_in(stem)
    if told is not None:
        split, (start, end) = told
        rest = f"{stem[:start].rstrip(_EDGES)}-{_PART.sub('', stem[end:]).lstrip(_EDGES)}".strip(_EDGES)
        return split, path.parent, rest
    above = split_in(path.parent.name)
    if above is not None and above[1] == (0, len(path.parent.name)):
        return above[0], path.parent.parent, stem
    return None, path.parent, stem


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    return Path(name).stem
