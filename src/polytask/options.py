"""The base of every typed option, and where a task's rows come from.

Each part of polytask declares its own options beside the code that reads them; the configuration, its JSON schema
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

# What a name is, for messages.
NAME = "a name: a letter (of any script), then letters, digits, - or _, at most 120 bytes"
Format: TypeAlias = Literal["jsonl", "json", "csv", "tsv", "parquet", "conll", "conllu"]
Quoting: TypeAlias = Literal["standard", "backslash", "none"]
Decimal: TypeAlias = Literal[".", ","]
Offsets: TypeAlias = Literal["characters", "utf-16", "utf-8"]


# The greatest whole number of an option that has no smaller limit of its own: a count beyond it is a slip of the pen.
MOST = 1_000_000_000


class Options(BaseModel):
    """Immutable options that refuse unknown keys, and numbers beyond any use."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, values: Any) -> Any:  # noqa: ANN401
        """Refuse true and false where numbers belong: pydantic reads them as 1 and 0."""
        if not isinstance(values, Mapping):
            return values
        fields = cls.model_fields
        return {name: _refused(one, fields[name].annotation) if name in fields else one for name, one in values.items()}

    @field_validator("*")
    @classmethod
    def _number_has_a_limit(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MOST:
            own = any(isinstance(limit, Le | Lt) for limit in cls.model_fields[info.field_name or ""].metadata)
            if not own:
                raise ValueError(f"found {value:,}; at most {MOST:,} is accepted")
        return value

    @model_serializer(mode="wrap")
    def _leave_out_what_is_nothing_by_default(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        return {key: value for key, value in dump(self).items() if value is not None or fields[key].default is not None}


class Truth:
    """True or false where a number belongs: no field accepts it, and every message shows it as YAML writes it."""

    def __init__(self, value: bool) -> None:
        self._value = value

    def __repr__(self) -> str:
        return str(self._value).lower()


def _refused(value: Any, kind: Any) -> Any:  # noqa: ANN401
    """Return a value with a `Truth` for each true and false that stands where a kind of value has numbers instead."""
    kinds = list(_alternatives(kind))
    if isinstance(value, bool):
        return value if bool in kinds or not (int in kinds or float in kinds) else Truth(value)
    if not isinstance(value, dict | list | tuple):
        return value
    container = dict if isinstance(value, dict) else tuple
    inner = [get_args(one)[-1 if container is dict else 0] for one in kinds if get_origin(one) is container]
    if len(inner) != 1 or not {int, float} & set(_alternatives(inner[0])):
        return value
    if isinstance(value, dict):
        return {key: _refused(item, inner[0]) for key, item in value.items()}
    return [_refused(item, inner[0]) for item in value]


def _alternatives(kind: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield what a value of a kind may be."""
    if get_origin(kind) is Annotated:
        yield from _alternatives(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for one in get_args(kind):
            yield from _alternatives(one)
    else:
        yield kind


OptionsType = TypeVar("OptionsType", bound=Options)


class FileOptions(Options):
    """What is said beside the paths about how the files are written."""

    format: Format | None = Field(default=None, description="file format; told by the file's extension by default")
    encoding: str | None = Field(
        default=None, description="text encoding, such as cp1252, gb18030 or utf-16; UTF-8 by default"
    )
    separator: str | None = Field(
        default=None, description="csv, tsv: character between columns; a comma or a tab by default"
    )
    quoting: Quoting | None = Field(
        default=None,
        description="csv, tsv: standard: a cell in quotes may hold separators and line breaks; backslash: the same, "
        "and a quote inside is written with a backslash; none: a quote is an ordinary character; by default standard "
        "for csv and none for tsv",
    )
    decimal: Decimal | None = Field(
        default=None,
        description="what stands before the decimals of numbers that are written as text; a point by default",
    )
    sentence: str | None = Field(
        default=None,
        description="where each row is one token: the column that tells the sentences apart; another value begins one",
    )

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, value: str | None) -> str | None:
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
    def _point_is_the_default(cls, value: Decimal | None) -> Decimal | None:
        """One form for one meaning, so that tasks that say it and tasks that do not share their rows."""
        return None if value == "." else value

    def to_key(self) -> dict[str, Any]:
        """Return what caches go by."""
        return self.model_dump(mode="json")

    @field_validator("separator", mode="before")
    @classmethod
    def _separator_is_one_character(cls, value: Any) -> Any:  # noqa: ANN401
        value = {"\\t": "\t", "tab": "\t"}.get(value, value) if isinstance(value, str) else value
        if isinstance(value, str) and (len(value) != 1 or value in '\r\n"'):
            raise ValueError(f'found {value!r}; expected one character, such as ";" or "\\t", that is no quote')
        return value


def flag_of(option: str) -> str:
    """Return what the command line calls an option.

    >>> flag_of("max_texts")
    '--max-texts'
    """
    return f"--{option.replace('_', '-')}"


def build_options(kind: type[OptionsType], values: Mapping[str, Any], name: Callable[[str], str]) -> OptionsType:
    """Return options from plain values, of which None was not given.

    Args:
        name: what a message calls an option.

    Raises ConfigError for an unknown option, and for all values that are not accepted.
    """
    for option in values:
        if option not in kind.model_fields:
            raise ConfigError(f"{name(option)}: unknown option; {nearest(option, kind.model_fields)}")
    try:
        return kind(**{option: value for option, value in values.items() if value is not None})
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise ConfigError("; ".join(_sentence(details, name) for details in found)) from None


def _sentence(details: Any, name: Callable[[str], str]) -> str:  # noqa: ANN401
    message = details["msg"].removeprefix("Value error, ")
    if not details["loc"]:
        return message
    message = message.replace("Input should be", "expected")
    told = message if message.startswith("found ") else f"found {details['input']!r}; {message}"
    return f"{name(str(details['loc'][0]))}: {told}"


def read_file_options(values: Mapping[str, Any]) -> FileOptions:
    """Return how files are written, from plain values. Raises ConfigError on an unknown name or a bad value."""
    for name in values:
        if name not in FileOptions.model_fields:
            raise ConfigError(f"files: found {name!r}; {nearest(name, FileOptions.model_fields)}")
    try:
        return FileOptions.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        found = "" if message.startswith("found") else f"found {first['input']!r}; "
        raise ConfigError(f"files.{'.'.join(map(str, first['loc']))}: {found}{message}") from None


class DataOptions(FileOptions):
    """Where a task's rows come from: files by split, or a dataset of the Hugging Face hub."""

    train: str | tuple[str, ...] | tuple[dict[str, Any], ...] | None = Field(
        default=None,
        description="file, folder, pattern (part-*.jsonl), list of these, rows, or (with `hub`) the name of a split",
    )
    dev: float | str | tuple[str, ...] | tuple[dict[str, Any], ...] | None = Field(
        default=None, description="as train; or a share of the training rows, such as 0.1, to hold out"
    )
    test: str | tuple[str, ...] | tuple[dict[str, Any], ...] | None = Field(default=None, description="as train")
    fold: str | None = Field(
        default=None,
        description="NUMBER/OF, such as 1/5: one part of the training rows is left out of training and read as test "
        "rows (cross-validation)",
    )
    hub: str | None = Field(default=None, description="dataset id on the Hugging Face hub, or a dataset folder")
    config: str | None = Field(default=None, description="configuration of the hub dataset, where it has several")
    strict: bool = Field(default=False, description="refuse what is otherwise repaired and counted")
    offsets: Offsets | None = Field(
        default=None,
        description="what the starts and ends of spans count: characters (the default), utf-16 (JavaScript) or utf-8 "
        "(bytes)",
    )

    @field_validator("train", "dev", "test", mode="before")
    @classmethod
    def _rows_are_files_or_rows(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        value = _without_paths(rows_of_table(value, (info.context or {}).get("rows")))
        if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            value = list(plain_rows(value))
        share = info.field_name == "dev" and isinstance(value, int | float) and not isinstance(value, bool)
        items = value if isinstance(value, list | tuple) else [value]
        alike = any(all(isinstance(item, kind) for item in items) for kind in (str, dict))
        if value is None or share or (alike and not isinstance(value, dict)):
            return value
        held_out = ", or a share of the training rows such as 0.1" if info.field_name == "dev" else ""
        known = value is None or isinstance(value, str | bool | Truth | int | float | list | tuple | dict)
        found = "" if known else f"found a value of type {type(value).__name__}; "
        raise ValueError(
            f"{found}expected a file, a list of files, or a list of rows (mappings, a DataFrame, a datasets.Dataset, "
            f"or an iterator of mappings){held_out}"
        )

    @field_validator("dev")
    @classmethod
    def _share_is_a_share(cls, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, float) and not 0 < value < 1:
            raise ValueError(f"found {value}; a share of the training rows lies between 0 and 1, such as 0.1")
        return value

    @field_validator("fold")
    @classmethod
    def _fold_is_one_of_several(cls, value: str | None) -> str | None:
        found = None if value is None else re.fullmatch(r"([1-9][0-9]{0,2})/([1-9][0-9]{0,2})", value)
        if value is not None and (found is None or not int(found[1]) <= int(found[2]) or int(found[2]) < 2):
            raise ValueError(f"found {value!r}; expected the number of a fold and how many there are, such as 1/5")
        return value

    @model_validator(mode="after")
    def _fold_takes_the_place_of_test(self) -> DataOptions:
        if self.fold is not None and self.test is not None:
            raise ValueError("found fold beside test; a fold of the training rows is read as test rows: leave one out")
        return self

    @property
    def fold_of(self) -> tuple[int, int] | None:
        """The fold that is read as test rows, and how many there are."""
        if self.fold is None:
            return None
        number, _, of = self.fold.partition("/")
        return int(number), int(of)

    @model_validator(mode="after")
    def _options_of_files_go_with_files(self) -> DataOptions:
        for name in FileOptions.model_fields if self.hub is not None else ():
            if getattr(self, name) is not None:
                raise ValueError(
                    f"found {name!r} beside `hub`, which says itself how its files are written; leave it out"
                )
        return self

    @property
    def file_options(self) -> FileOptions:
        """What is said about how the files are written."""
        return FileOptions(**{name: getattr(self, name) for name in FileOptions.model_fields})

    @model_validator(mode="before")
    @classmethod
    def _paths_are_relative_to_the_file(cls, values: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        base = (info.context or {}).get("base")
        _require_number(values.get("dev") if isinstance(values, dict) else None)
        if base is None or not isinstance(values, dict):
            return values
        hub = values.get("hub")
        if hub is not None:
            folder = Path(base, str(hub))
            return {**values, "hub": str(folder.resolve())} if is_folder(folder) else values
        found = {key: resolve(values[key], Path(base)) for key in ("train", "dev", "test") if key in values}
        return {**values, **found}


def _require_number(dev: Any) -> None:  # noqa: ANN401
    """Raise ValueError for a share of rows that was written as text."""
    share = re.fullmatch(r"(\d+(?:[.,]\d+)?)\s*(%?)", dev) if isinstance(dev, str) else None
    if share is None:
        return
    value = float(share[1].replace(",", ".")) / (100 if share[2] else 1)
    if 0 < value < 1:
        raise ValueError(
            f"found dev: {dev!r}; to hold a share of the training rows out, write a number: dev: {value:g}"
        )


def resolve(value: Any, base: Path) -> Any:  # noqa: ANN401
    """Make paths absolute; leave rows, shares and nothing as they are."""
    if isinstance(value, str | PurePath):
        return str((base / value).resolve())
    if isinstance(value, list | tuple):
        return [resolve(item, base) for item in value]
    return value


def _without_paths(value: Any) -> Any:  # noqa: ANN401
    """Write paths as text, which is what a configuration holds."""
    if isinstance(value, list | tuple) and any(isinstance(item, PurePath) for item in value):
        return [_without_paths(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value


def is_name(text: str) -> bool:
    """Whether a text can name a task or an arm: it stands in file names, module names and on command lines.

    Letters of any script; not too long for a file name.

    >>> is_name("sentiment"), is_name("情感"), is_name("a/b"), is_name("1st")
    (True, True, False, False)
    """
    letters = all(unicodedata.category(character)[0] in "LMN" or character in "-_" for character in text)
    # The same name in another form of characters would be another file.
    return text[:1].isalpha() and letters and len(text.encode()) <= 120 and unicodedata.is_normalized("NFC", text)


def require_each(option: str, values: Mapping[str, object], tasks: Collection[str]) -> None:
    """Raise ConfigError unless an option gives something for each task, and for no other."""
    for task in values:
        if task not in tasks:
            raise ConfigError(f"{option}: found {task!r}; {nearest(task, tasks)}")
    for task in tasks:
        if task not in values:
            raise ConfigError(f"{option}: found nothing for {task!r}; expected one for every task")
