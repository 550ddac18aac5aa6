"""The base class of all options, and the options that say where a task's rows come from.

Each part of polytask declares its options next to the code that reads them; the configuration, its JSON schema
and its error messages derive from these classes.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path, PurePath
from types import UnionType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

from annotated_types import Le, Lt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from polytask.errors import ConfigError, nearest
from polytask.regular import is_folder
from polytask.tabular import plain_rows, rows_of_table

# Description of a valid name, for messages.
NAME = "a name: a letter (of any script), then letters, digits, - or _, at most 120 bytes"
Format: TypeAlias = Literal["jsonl", "json", "csv", "tsv", "parquet", "conll", "conllu"]
Quoting: TypeAlias = Literal["standard", "backslash", "none"]
Decimal: TypeAlias = Literal[".", ","]
Offsets: TypeAlias = Literal["characters", "utf-16", "utf-8"]


# The largest integer for an option without a limit of its own; a larger count must be a typing error.
MAX_NUMBER = 1_000_000_000


class Options(BaseModel):
    """Immutable options that reject unknown keys and absurdly large numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _reject_booleans_as_numbers(cls, values: Any) -> Any:  # noqa: ANN401
        """Reject true and false in place of numbers: pydantic would read them as 1 and 0."""
        if not isinstance(values, Mapping):
            return values
        fields = cls.model_fields
        return {
            name: _refused(value, fields[name].annotation) if name in fields else value
            for name, value in values.items()
        }

    @field_validator("*")
    @classmethod
    def _limit_numbers(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_NUMBER:
            has_limit = any(isinstance(limit, Le | Lt) for limit in cls.model_fields[info.field_name or ""].metadata)
            if not has_limit:
                raise ValueError(f"found {value:,}; at most {MAX_NUMBER:,} is accepted")
        return value

    @model_serializer(mode="wrap")
    def _omit_unset_values(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        return {key: value for key, value in dump(self).items() if value is not None or fields[key].default is not None}


class Truth:
    """True or false in place of a number: no field accepts it, and messages show it as YAML writes it."""

    def __init__(self, value: bool) -> None:
        self._value = value

    def __repr__(self) -> str:
        return str(self._value).lower()


def _refused(value: Any, annotation: Any) -> Any:  # noqa: ANN401
    """Replace true and false by `Truth` wherever the type of a field expects numbers."""
    kinds = list(_alternatives(annotation))
    if isinstance(value, bool):
        return value if bool in kinds or not (int in kinds or float in kinds) else Truth(value)
    if not isinstance(value, dict | list | tuple):
        return value
    container = dict if isinstance(value, dict) else tuple
    inner = [
        get_args(alternative)[-1 if container is dict else 0]
        for alternative in kinds
        if get_origin(alternative) is container
    ]
    if len(inner) != 1 or not {int, float} & set(_alternatives(inner[0])):
        return value
    if isinstance(value, dict):
        return {key: _refused(item, inner[0]) for key, item in value.items()}
    return [_refused(item, inner[0]) for item in value]


def _alternatives(annotation: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield the alternatives of a union type."""
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for alternative in get_args(annotation):
            yield from _alternatives(alternative)
    else:
        yield annotation


OptionsType = TypeVar("OptionsType", bound=Options)


class FileOptions(Options):
    """Options for the format of data files, given next to their paths."""

    format: Format | None = Field(default=None, description="file format; by default from the file's extension")
    encoding: str | None = Field(
        default=None, description="text encoding, such as cp1252, gb18030 or utf-16; UTF-8 by default"
    )
    separator: str | None = Field(
        default=None, description="csv, tsv: character between columns; by default a comma or a tab"
    )
    quoting: Quoting | None = Field(
        default=None,
        description="csv, tsv: standard: a quoted cell may contain separators and line breaks; backslash: the same, "
        "with quotes inside escaped by a backslash; none: a quote is an ordinary character; by default standard "
        "for csv and none for tsv",
    )
    decimal: Decimal | None = Field(
        default=None,
        description="decimal separator of numbers that are written as text; a point by default",
    )
    sentence: str | None = Field(
        default=None,
        description="for one token per row: column that identifies the sentence; a new value starts a sentence",
    )

    @field_validator("encoding")
    @classmethod
    def _require_known_encoding(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            text = "\n".encode(value).decode(value) == "\n"
        except (LookupError, UnicodeError, ValueError):
            text = False
        if not text:
            raise ValueError(
                f"found {value!r}; accepted: the encodings of Python, such as utf-8, cp1252, gb18030, utf-16"
            )
        return codecs.lookup(value).name

    @field_validator("decimal")
    @classmethod
    def _normalise_point(cls, value: Decimal | None) -> Decimal | None:
        """Normalise the default, so that tasks that give it and tasks that do not share their rows."""
        return None if value == "." else value

    def to_key(self) -> dict[str, Any]:
        """Return the values that form part of a cache key."""
        return self.model_dump(mode="json")

    @field_validator("separator", mode="before")
    @classmethod
    def _require_one_character(cls, value: Any) -> Any:  # noqa: ANN401
        value = {"\\t": "\t", "tab": "\t"}.get(value, value) if isinstance(value, str) else value
        if isinstance(value, str) and (len(value) != 1 or value in '\r\n"'):
            raise ValueError(f'found {value!r}; expected one character, such as ";" or "\\t", but not a quote')
        return value


def flag_of(option: str) -> str:
    """Return the command-line flag of an option.

    >>> flag_of("max_texts")
    '--max-texts'
    """
    return f"--{option.replace('_', '-')}"


def build_options(kind: type[OptionsType], values: Mapping[str, Any], name: Callable[[str], str]) -> OptionsType:
    """Build options from plain values; None means not given.

    Args:
        kind: the class of the options.
        values: values by option.
        name: turns the name of an option into the one shown in messages.

    Raises ConfigError for an unknown option, and for invalid values.
    """
    for option in values:
        if option not in kind.model_fields:
            raise ConfigError(f"{name(option)}: unknown option; {nearest(option, kind.model_fields)}")
    try:
        return kind(**{option: value for option, value in values.items() if value is not None})
    except ValidationError as error:
        details_of_errors = error.errors(include_url=False)
        raise ConfigError("; ".join(_sentence(details, name) for details in details_of_errors)) from None


def _sentence(details: Any, name: Callable[[str], str]) -> str:  # noqa: ANN401
    message = details["msg"].removeprefix("Value error, ")
    if not details["loc"]:
        return message
    message = message.replace("Input should be", "expected")
    text = message if message.startswith("found ") else f"found {details['input']!r}; {message}"
    return f"{name(str(details['loc'][0]))}: {text}"


def read_file_options(kind: type[OptionsType], values: Mapping[str, Any]) -> OptionsType:
    """Build options about files from plain values. Raises ConfigError for an unknown name or an invalid value."""
    for name in values:
        if name not in kind.model_fields:
            raise ConfigError(f"files: found {name!r}; {nearest(name, kind.model_fields)}")
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        prefix = "" if message.startswith("found") else f"found {first['input']!r}; "
        raise ConfigError(f"files.{'.'.join(map(str, first['loc']))}: {prefix}{message}") from None


class LabelledFileOptions(FileOptions):
    """Options for reading labelled files: their format, and how their spans and tags are read."""

    strict: bool = Field(
        default=False, description="raise an error for problems that are otherwise repaired and counted"
    )
    offsets: Offsets | None = Field(
        default=None,
        description="unit of the starts and ends of spans: characters (the default), utf-16 code units (JavaScript) or "
        "utf-8 (bytes)",
    )


class DataOptions(LabelledFileOptions):
    """Where a task's rows come from: files by split, or a dataset on the Hugging Face Hub."""

    train: str | tuple[str, ...] | tuple[dict[str, Any], ...] | None = Field(
        default=None,
        description="file, folder, pattern (part-*.jsonl), list of these, rows, or (with `hub`) name of a split",
    )
    dev: float | str | tuple[str, ...] | tuple[dict[str, Any], ...] | None = Field(
        default=None, description="like train; or the fraction of the training rows to hold out, such as 0.1"
    )
    test: str | tuple[str, ...] | tuple[dict[str, Any], ...] | None = Field(default=None, description="like train")
    fold: str | None = Field(
        default=None,
        description="NUMBER/OF, such as 1/5: this fold of the training rows is left out of training and used as test "
        "rows (cross-validation)",
    )
    split_column: str | None = Field(
        default=None,
        description="column that names the split of each row: train, dev (valid, validation, val) or test; each split "
        "then reads only its rows, and all may name the same file",
    )
    hub: str | None = Field(default=None, description="dataset id on the Hugging Face Hub, or a dataset folder")
    config: str | None = Field(default=None, description="configuration of the hub dataset, if it has several")

    @field_validator("train", "dev", "test", mode="before")
    @classmethod
    def _require_files_or_rows(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        value = _without_paths(rows_of_table(value, (info.context or {}).get("rows")))
        if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            value = list(plain_rows(value))
        share = info.field_name == "dev" and isinstance(value, int | float) and not isinstance(value, bool)
        items = value if isinstance(value, list | tuple) else [value]
        alike = any(all(isinstance(item, kind) for item in items) for kind in (str, dict))
        if value is None or share or (alike and not isinstance(value, dict)):
            return value
        held_out = ", or a fraction of the training rows such as 0.1" if info.field_name == "dev" else ""
        plain = value is None or isinstance(value, str | bool | Truth | int | float | list | tuple | dict)
        prefix = "" if plain else f"found a value of type {type(value).__name__}; "
        raise ValueError(
            f"{prefix}expected a file, a list of files, or a list of rows (mappings, a DataFrame, a datasets.Dataset, "
            f"or an iterator of mappings){held_out}"
        )

    @field_validator("dev")
    @classmethod
    def _require_share(cls, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, float) and not 0 < value < 1:
            raise ValueError(f"found {value}; a fraction of the training rows lies between 0 and 1, such as 0.1")
        return value

    @field_validator("fold")
    @classmethod
    def _require_fold(cls, value: str | None) -> str | None:
        match = None if value is None else re.fullmatch(r"([1-9][0-9]{0,2})/([1-9][0-9]{0,2})", value)
        if value is not None and (match is None or not int(match[1]) <= int(match[2]) or int(match[2]) < 2):
            raise ValueError(f"found {value!r}; expected the number of a fold and how many there are, such as 1/5")
        return value

    @model_validator(mode="after")
    def _require_fold_or_test(self) -> DataOptions:
        if self.fold is not None and self.test is not None:
            raise ValueError(
                "found both fold and test; a fold of the training rows is used as test rows: leave one out"
            )
        return self

    @property
    def fold_of(self) -> tuple[int, int] | None:
        """Number of the fold that is used as test rows, and number of folds."""
        if self.fold is None:
            return None
        number, _, of = self.fold.partition("/")
        return int(number), int(of)

    @model_validator(mode="after")
    def _require_files_for_file_options(self) -> DataOptions:
        for name in FileOptions.model_fields if self.hub is not None else ():
            if getattr(self, name) is not None:
                raise ValueError(
                    f"found {name!r} together with `hub`, which defines the format of its files itself; leave it out"
                )
        return self

    @property
    def file_options(self) -> FileOptions:
        """The options for the format of the files."""
        return FileOptions(**{name: getattr(self, name) for name in FileOptions.model_fields})

    @model_validator(mode="before")
    @classmethod
    def _resolve_paths(cls, values: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        base = (info.context or {}).get("base")
        _require_number(values.get("dev") if isinstance(values, dict) else None)
        if base is None or not isinstance(values, dict):
            return values
        hub = values.get("hub")
        if hub is not None:
            folder = Path(base, str(hub))
            return {**values, "hub": str(folder.resolve())} if is_folder(folder) else values
        resolved = {key: resolve(values[key], Path(base)) for key in ("train", "dev", "test") if key in values}
        return {**values, **resolved}


def _require_number(dev: Any) -> None:  # noqa: ANN401
    """Raise ValueError for a fraction of rows that was written as text."""
    share = re.fullmatch(r"(\d+(?:[.,]\d+)?)\s*(%?)", dev) if isinstance(dev, str) else None
    if share is None:
        return
    value = float(share[1].replace(",", ".")) / (100 if share[2] else 1)
    if 0 < value < 1:
        raise ValueError(
            f"found dev: {dev!r}; to hold out a fraction of the training rows, write a number: dev: {value:g}"
        )


def resolve(value: Any, base: Path) -> Any:  # noqa: ANN401
    """Make paths absolute; leave rows, fractions and None unchanged."""
    if isinstance(value, str | PurePath):
        return str((base / value).resolve())
    if isinstance(value, list | tuple):
        return [resolve(item, base) for item in value]
    return value


def _without_paths(value: Any) -> Any:  # noqa: ANN401
    """Convert paths to text, as in a configuration file."""
    if isinstance(value, list | tuple) and any(isinstance(item, PurePath) for item in value):
        return [_without_paths(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value


def is_name(text: str) -> bool:
    """Whether a text is a valid name of a task or an arm, as used in file names, module names and command lines.

    Letters of any script are valid; the name must not be too long for a file name.

    >>> is_name("sentiment"), is_name("情感"), is_name("a/b"), is_name("1st")
    (True, True, False, False)
    """
    letters = all(unicodedata.category(character)[0] in "LMN" or character in "-_" for character in text)
    # The same name in another Unicode normalisation would be another file.
    return text[:1].isalpha() and letters and len(text.encode()) <= 120 and unicodedata.is_normalized("NFC", text)


def require_each(option: str, values: Mapping[str, object], tasks: Collection[str]) -> None:
    """Raise ConfigError unless an option has a value for every task, and for nothing else."""
    for task in values:
        if task not in tasks:
            raise ConfigError(f"{option}: found {task!r}; {nearest(task, tasks)}")
    for task in tasks:
        if task not in values:
            raise ConfigError(f"{option}: found nothing for {task!r}; expected one for every task")
