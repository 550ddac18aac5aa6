"""Paths: the files that a path names, formats by extension, and suggestions for missing files."""

from __future__ import annotations

import difflib
import glob
import re
from pathlib import Path

from polytask.errors import DataError, nearest
from polytask.options import Format
from polytask.regular import is_file, is_folder, is_there
from polytask.terms import Split

EXTENSIONS: dict[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
    ".conll": "conll", ".iob": "conll", ".iob2": "conll", ".bio": "conll", ".conllu": "conllu", ".conllup": "conllu",
}  # fmt: skip
_TABLES = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers", ".et")
_PICKLE = "a pickle runs code when it is opened, and is not read; write its rows as jsonl or parquet"
_UNPACK = "an archive, which is not read; unpack it, and name the folder or the files in it"
_MARKUP = "markup, which is not read; write its rows as csv or jsonl"
# Extensions of data files that cannot be read, with what to do.
_OF_TOOLS = {
    ".ann": "annotations of brat, which are separate from their text and not read; write one row per text, as jsonl: "
    '{"text": "Ann sings", "spans": [[0, 3, "PER"]]}',
    ".spacy": "a binary file of spaCy, which is not read; write one row per document, as jsonl: "
    '{"text": doc.text, "spans": [[ent.start_char, ent.end_char, ent.label_] for ent in doc.ents]}',
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), _PICKLE),
    **dict.fromkeys((".arrow", ".feather"), "an Arrow file, which is not read; write it as parquet"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst"), _UNPACK),
    **dict.fromkeys((".xml", ".html", ".htm", ".xmi"), _MARKUP),
}  # fmt: skip
_SPLITS: dict[str, Split] = {
    "training": "train", "train": "train",
    "development": "dev", "dev": "dev", "validation": "dev", "valid": "dev", "val": "dev", "eval": "dev",
    "testing": "test", "test": "test",
}  # fmt: skip
_SPLIT_NAMES = re.compile(rf"(?:^|[^a-z])({'|'.join(_SPLITS)})(?:[^a-z]|$)")
# Files that `save_to_disk` of datasets writes for several splits, and for one.
_SAVED_SPLITS, _SAVED = "dataset_dict.json", ("dataset_info.json", "state.json")


def format_of(path: Path) -> Format:
    """Return a file's format by its extension, before .gz. Raises DataError for an unknown extension."""
    suffix = _suffix(path)
    format_found = find_format(path)
    if suffix in (".yaml", ".yml"):
        raise DataError(f"{path}: seems to be a configuration, not a data file; `polytask check {path}` reads it")
    if suffix.lower() in _TABLES:
        raise DataError(f"{path}: a spreadsheet, which is not read; open it in its program and save it as CSV in UTF-8")
    if suffix.lower() in _OF_TOOLS:
        raise DataError(saved_dataset(path) or f"{path}: {_OF_TOOLS[suffix.lower()]}")
    if suffix.lower() == ".txt":
        raise DataError(
            f"{path}: the extension .txt does not say what the file holds; rename the file to .csv (cells with "
            "commas or semicolons between them), .tsv (tabs), .jsonl or .conll, or give `format` next to the path "
            "(on a command line: --written format=csv); lines of fastText, __label__x TEXT, have to be written as one "
            "of these"
        )
    if format_found is None:
        raise DataError(
            f"{path}: the extension {suffix!r} names no format ({nearest(suffix, EXTENSIONS)}); "
            "rename the file, or give `format` next to the path (on a command line: --written format=csv)"
        )
    return format_found


def find_format(path: Path) -> Format | None:
    """Return a file's format by its extension, before .gz; None if the extension is unknown."""
    return EXTENSIONS.get(_suffix(path).lower())


def _suffix(path: Path) -> str:
    return path.with_suffix("").suffix if path.suffix.lower() == ".gz" else path.suffix


def split_in(name: str) -> tuple[Split, tuple[int, int]] | None:
    """Return the split that a name contains, and the span of its word in the name; None if it contains none.

    >>> split_in("reviews-valid"), split_in("training"), split_in("trainers")
    (('dev', (8, 13)), ('train', (0, 8)), None)
    """
    match = _SPLIT_NAMES.search(name.lower())
    return None if match is None else (_SPLITS[match[1]], match.span(1))


def split_named(value: object) -> Split | None:
    """Return the split that a whole value names; None if it names none.

    >>> split_named(" Valid "), split_named("Training"), split_named("train-2")
    ('dev', 'train', None)
    """
    name = str(value).strip().lower()
    match = split_in(name)
    return match[0] if match is not None and match[1] == (0, len(name)) else None


def require_file(path: Path) -> None:
    """Raise DataError, with the most similar names in its folder, if a file is missing."""
    if not is_file(path):
        names = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        closest = difflib.get_close_matches(path.name, names, n=20, cutoff=0)
        hint = nearest(path.name, closest) if names else f"the folder {path.parent} is empty"
        if not path.parent.is_dir():
            hint = f"the folder {path.parent} does not exist"
        raise DataError(f"{path}: no such file ({hint})")


def files_of(name: str) -> list[str]:
    """Return the files that a path names: itself, the data files in a folder, or those that match a pattern.

    A path that does not exist is returned, so that opening it can raise the error. Raises DataError for a folder or a
    pattern without files, and for a folder that holds several splits.
    """
    path = Path(name)
    if is_folder(path):
        return _files_in(path)
    if is_there(path) or not any(mark in name for mark in "*?["):
        return [name]
    matches = sorted(item for item in glob.glob(name, recursive=True) if Path(item).is_file())  # noqa: PTH207
    if not matches:
        raise DataError(f"{name}: no file matches this pattern")
    return matches


def passed_over(name: str) -> list[str]:
    """Return the names of the files in a folder that `files_of` leaves out, since their extensions are unknown."""
    folder = Path(name)
    files = _visible(folder) if is_folder(folder) else []
    return [item.name for item in files if _suffix(item).lower() not in EXTENSIONS]


def _visible(folder: Path) -> list[Path]:
    return sorted(item for item in folder.iterdir() if item.is_file() and not item.name.startswith((".", "_")))


def saved_dataset(path: Path) -> str | None:
    """Return what to do with a folder that `save_to_disk` of datasets wrote, or a file in it; None for other paths."""
    folder = path if is_folder(path) else path.parent
    if all(is_file(folder / name) for name in _SAVED) and is_file(folder.parent / _SAVED_SPLITS):
        folder = folder.parent
    if is_file(folder / _SAVED_SPLITS):
        return (
            f"{path}: a dataset that `save_to_disk` wrote; name its folder in a configuration: "
            f"`data: {{hub: {folder}}}`, or write its splits as parquet (`to_parquet`)"
        )
    if all(is_file(folder / name) for name in _SAVED) and any(folder.glob("*.arrow")):
        return (
            f"{path}: one split of a dataset, which `save_to_disk` wrote; write it as parquet: "
            "datasets.load_from_disk(FOLDER).to_parquet(FILE)"
        )
    return None


def _files_in(folder: Path) -> list[str]:
    saved = saved_dataset(folder)
    if saved is not None:
        raise DataError(saved)
    files = _visible(folder)
    data_files = [item for item in files if _suffix(item).lower() in EXTENSIONS]
    if not data_files:
        raise DataError(
            f"{folder}: the folder holds no data file (looked for {', '.join(EXTENSIONS)}); name the files, or a "
            "pattern such as folder/*.txt with `format`"
        )
    splits = {_SPLITS[name]: item.name for item in data_files for name in _SPLIT_NAMES.findall(item.name.lower())}
    if len(splits) > 1:
        raise DataError(
            f"{folder}: the folder holds files of several splits ({', '.join(sorted(splits.values()))}); name a file, "
            "or a pattern such as folder/train*"
        )
    return [str(item) for item in data_files]
