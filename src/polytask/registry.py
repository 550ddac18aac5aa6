"""Tables of what a configuration can name: a name, and the options class (with `build`) or function that it stands for.

Users add rows with `TABLE.register("name")`. A table is read when a configuration is validated, never before, so a row
that was added a moment ago is in the checks, the messages and the JSON schema.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from polytask.errors import ConfigError, nearest

Row = TypeVar("Row")
_NAME = re.compile(r"[^\W\d_][\w-]*")
# All tables, by what their rows are.
TABLES: dict[str, Table[Any]] = {}
# Modules that somebody asked for: only their classes and functions are found by import path.
_ALLOWED = set[str]()
# The extension that is being imported: rows that its modules add belong to it.
_importing: ContextVar[str | None] = ContextVar("importing", default=None)


def allow(module: str) -> None:
    """Let names such as `module:Class` of a module that was imported stand for rows."""
    _ALLOWED.add(module)


@contextmanager
def importing(extension: str) -> Generator[None]:
    """Note, for as long as the block runs, that new rows belong to an extension."""
    token = _importing.set(extension)
    try:
        yield
    finally:
        _importing.reset(token)


class Table(dict[str, Row]):
    """Rows by name, with the module that each one came from.

    Args:
        noun: what a row is, for messages, such as "balancer".
        rows: those of polytask itself.
        base: the class that a row is a subclass of, where rows are classes; otherwise the class of a row.
        tag: the field of an options class that holds its name, such as "method".

    Attributes:
        extensions: for each row that polytask does not have itself the module that adds it.
    """

    def __init__(self, noun: str, rows: Mapping[str, Row], *, base: type | None = None, tag: str | None = None) -> None:
        super().__init__(rows)
        self.noun = noun
        self.base = base
        self.tag = tag
        self.extensions: dict[str, str] = {}
        TABLES[noun] = self

    def register(self, name: str, row: Row | None = None) -> Any:  # noqa: ANN401
        """Add a row: as a decorator of its class or function, or with the row as the second argument.

        A row of the same module and name is replaced, as when a notebook's cell runs again.
        Raises ConfigError for a bad name, one that is taken, and a row that is not of the table's kind.
        """
        if row is None:
            return lambda found: self.register(name, found)
        place = f"{self.noun} {name!r}"
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{place}: a name is a letter, then letters, digits, - and _")
        if name in self and _home(self[name]) != _home(row):
            raise ConfigError(
                f"{place}: {_home(row)} registers it, and it is {_home(self[name])} already; choose another name"
            )
        self._require_kind(place, row)
        if self.tag is not None and isinstance(row, type) and issubclass(row, BaseModel):
            set_tag(row, self.tag, name)
        self[name] = row  # pyright: ignore[reportArgumentType]
        self.extensions[name] = _importing.get() or _module(row)
        return row

    def adopt(self, row: Any) -> str:  # noqa: ANN401
        """Return the name of a class or function; one that has none is added under its import path, `module:name`.

        Raises ConfigError where it is not found there again, which a resumed run and a loaded model need.
        """
        known = self.name_of(row)
        if known is not None:
            return known
        module = _module(row)
        path = f"{module}:{getattr(row, '__qualname__', type(row).__qualname__)}"
        if module == "__main__" or _at(path) is not row:
            raise ConfigError(
                f"found {path}, which is in no table of {self.noun}s and cannot be imported by that name, as resuming "
                "and loading need; define it at the top of a module of your own, or register it: "
                f'@TABLE.register("name"), the table of {self.noun}s'
            )
        allow(module)
        self._add_path(path, row)
        return path

    def find(self, name: str) -> None:
        """Add the row that an import path names. Raises ConfigError for none, and for a module not asked for."""
        module, colon, rest = name.partition(":")
        if not colon or name in self:
            return
        if module not in _ALLOWED:
            raise ConfigError(
                f"found {name!r}, and the module {module} was not asked for; add it to the configuration, `extensions: "
                f"[{module}]`, or to the command, --extension {module}"
            )
        row = _at(name)
        if row is None or _module(row) != module:
            raise ConfigError(f"found {name!r}, and the module {module} defines no {rest}")
        self._add_path(name, row)

    def _add_path(self, path: str, row: Any) -> None:  # noqa: ANN401
        self._require_kind(f"{self.noun} {path!r}", row)
        if self.tag is not None:
            set_tag(row, self.tag, path)
        self[path] = row
        self.extensions[path] = path.partition(":")[0]

    def _require_kind(self, place: str, row: Any) -> None:  # noqa: ANN401
        if inspect.isclass(row):
            missing = ", ".join(sorted(getattr(row, "__abstractmethods__", ())))
            if missing:
                raise ConfigError(f"{place}: {_home(row)} lacks {missing}")
            if self.base is not None and not issubclass(row, self.base):
                raise ConfigError(f"{place}: {_home(row)} is no subclass of {self.base.__name__}")
        elif self.base is not None and not isinstance(row, self.base):
            raise ConfigError(f"{place}: found {row!r}; expected a {self.base.__name__}")
        elif self.base is None and not callable(row):
            raise ConfigError(f"{place}: found {row!r}; expected a function")

    def remove(self, name: str) -> None:
        """Take a row out again, such as at the end of a test."""
        del self[name]
        self.extensions.pop(name, None)

    def name_of(self, row: object) -> str | None:
        """Return the name of a row; None where it is not in the table."""
        return next((name for name, found in self.items() if found is row), None)


def _at(path: str) -> Any:  # noqa: ANN401
    """Return what stands at an import path; None where nothing does, or the module was not imported."""
    module, _, rest = path.partition(":")
    found: Any = sys.modules.get(module)
    for part in rest.split("."):
        found = getattr(found, part, None)
    return found


def modules_of(names: Iterable[object]) -> list[str]:
    """Return the modules of those values that are import paths of rows."""
    paths = [
        name for name in names if isinstance(name, str) and any(":" in name and name in t for t in TABLES.values())
    ]
    return list(dict.fromkeys(path.partition(":")[0] for path in paths))


def _home(row: Any) -> str:  # noqa: ANN401
    named = row if hasattr(row, "__qualname__") else getattr(row, "function", type(row))
    return f"{_module(row)}.{getattr(named, '__qualname__', type(row).__qualname__)}"


def _module(row: Any) -> str:  # noqa: ANN401
    """Return the module of a class or function; of a value, that of the function that it is about."""
    named = row if hasattr(row, "__qualname__") else getattr(row, "function", row)
    return str(getattr(named, "__module__", type(named).__module__))


def set_tag(options: type[BaseModel], tag: str, name: str) -> None:
    """Make a name the only value of the field that tells a class of options, and its default.

    Raises ConfigError where the class itself declares another one.
    """
    declared = getattr(options.model_fields[tag].annotation, "__args__", ())
    if declared == (name,):
        return
    if tag in options.__annotations__ and declared:
        raise ConfigError(f"{_home(options)} declares the {tag} {declared[0]!r}, and is registered as {name!r}")
    options.model_fields[tag] = FieldInfo(annotation=Literal[name], default=name)  # type: ignore[valid-type]
    options.model_rebuild(force=True)


class OneOf:
    """The annotation of a field whose value is one of a table's classes of options, told by its tag.

    Args:
        table: a table whose rows are options classes, or have them.
        options: takes a row and returns its class of options.
    """

    def __init__(
        self, table: Table[Any], options: Callable[[Any], type[BaseModel]] = lambda row: row, tag: str | None = None
    ) -> None:
        self.table = table
        self.tag = tag or table.tag or ""
        self._options = options

    @property
    def classes(self) -> dict[str, type[BaseModel]]:
        """The classes of options by name, as the table is now."""
        return {name: self._options(row) for name, row in self.table.items()}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        del handler
        base: type[BaseModel] = source

        def validate(value: Any, info: ValidationInfo) -> BaseModel:  # noqa: ANN401
            return self._known(value) if isinstance(value, base) else self._read(value, info)

        return core_schema.with_info_plain_validator_function(validate)

    def _known(self, value: BaseModel) -> BaseModel:
        """Return options as they are; those of a class that is in no table with its import path as the name."""
        if self.classes.get(getattr(value, self.tag)) is type(value):
            return value
        if self.table.tag is None:
            raise ValueError(
                f"found options of the class {type(value).__name__}, which is not registered; name it in its table: "
                f"@TABLE.register(...), the table of {self.table.noun}s"
            )
        with _as_value_error():
            return value.model_copy(update={self.tag: self.table.adopt(type(value))})

    def _read(self, value: Any, info: ValidationInfo) -> BaseModel:  # noqa: ANN401
        if not isinstance(value, Mapping):
            raise PydanticKnownError("model_attributes_type")
        if self.tag not in value:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": f"'{self.tag}'"})
        name = value[self.tag]
        if isinstance(name, str) and self.table.tag is not None:
            with _as_value_error():
                self.table.find(name)
        classes = self.classes
        if not isinstance(name, str) or name not in classes:
            expected = ", ".join(f"'{known}'" for known in classes)
            told = {"discriminator": f"'{self.tag}'", "tag": str(name), "expected_tags": expected}
            raise PydanticKnownError("union_tag_invalid", told)
        return classes[name].model_validate(value, context=info.context)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        del schema
        choices = {name: options.__pydantic_core_schema__ for name, options in self.classes.items()}
        return handler(core_schema.tagged_union_schema(choices=choices, discriminator=self.tag))


@contextmanager
def _as_value_error() -> Generator[None]:
    """Turn what a table says into what pydantic puts its place before."""
    try:
        yield
    except ConfigError as error:
        raise ValueError(str(error)) from None


class NameOf:
    """The annotation of a field that holds a name of a table; from Python also the class or function itself.

    Args:
        beside: words that are accepted as well.
    """

    def __init__(self, table: Mapping[str, Any], *beside: str) -> None:
        self.table = table
        self.beside = beside

    @property
    def _accepted(self) -> list[str]:
        return [*self.beside, *self.table]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        def validate(value: str) -> str:
            if not self._accepted:
                raise ValueError(f"found {value!r}; {nearest(value, self.table)}")
            if value not in self._accepted:
                raise PydanticKnownError("literal_error", {"expected": _listed(self._accepted)})
            return value

        def named(value: Any) -> Any:  # noqa: ANN401
            if not isinstance(self.table, Table):
                return value
            with _as_value_error():
                if callable(value) and hasattr(value, "__qualname__"):
                    return self.table.adopt(value)
                if isinstance(value, str):
                    self.table.find(value)
            return value

        checked = core_schema.no_info_after_validator_function(validate, handler(source))
        return core_schema.no_info_before_validator_function(named, checked)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), **({"enum": self._accepted} if self._accepted else {})}


def _listed(names: Iterable[str]) -> str:
    *most, last = [f"'{name}'" for name in names]
    return f"{', '.join(most)} or {last}" if most else last
