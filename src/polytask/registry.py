"""Tables of everything a configuration can select by name: each row is an options class (with `build`) or a function.

Users add rows with `TABLE.register("name")`. Tables are read when a configuration is validated, never earlier, so the
checks, the messages and the JSON schema include rows that were added a moment ago.
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
# All tables by noun.
TABLES: dict[str, Table[Any]] = {}
# Modules that the user requested: only their classes and functions can be found by import path.
_ALLOWED = set[str]()
# The extension being imported, which owns the rows that its modules add.
_importing: ContextVar[str | None] = ContextVar("importing", default=None)


def allow(module: str) -> None:
    """Accept names such as `module:Class` of an imported module as rows."""
    _ALLOWED.add(module)


@contextmanager
def importing(extension: str) -> Generator[None]:
    """Assign rows that are added inside the block to an extension."""
    token = _importing.set(extension)
    try:
        yield
    finally:
        _importing.reset(token)


class Table(dict[str, Row]):
    """Rows by name, with the module that added each row.

    Args:
        noun: word for a row in messages, such as "balancer".
        rows: polytask's own rows.
        base: base class of the rows if they are classes; otherwise their class.
        tag: field of an options class that holds its name, such as "method".

    Attributes:
        extensions: for each row that is not polytask's own, the module that added it.
    """

    def __init__(self, noun: str, rows: Mapping[str, Row], *, base: type | None = None, tag: str | None = None) -> None:
        super().__init__(rows)
        self.noun = noun
        self.base = base
        self.tag = tag
        self.extensions: dict[str, str] = {}
        TABLES[noun] = self

    def register(self, name: str, row: Row | None = None) -> Any:  # noqa: ANN401
        """Add a row, as a decorator of a class or function, or with the row as the second argument.

        Replaces a row of the same module and name, for notebook cells that run again.
        Raises ConfigError for an invalid name, a name that is taken, and a row of the wrong kind.
        """
        if row is None:
            return lambda new_row: self.register(name, new_row)
        place = f"{self.noun} {name!r}"
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{place}: a name is a letter, then letters, digits, - and _")
        if name in self and _home(self[name]) != _home(row):
            raise ConfigError(
                f"{place}: {_home(row)} cannot register it, since {_home(self[name])} has this name already; "
                "choose another name"
            )
        self._require_kind(place, row)
        if self.tag is not None and isinstance(row, type) and issubclass(row, BaseModel):
            set_tag(row, self.tag, name)
        self[name] = row  # pyright: ignore[reportArgumentType]
        self.extensions[name] = _importing.get() or _module(row)
        return row

    def adopt(self, row: Any) -> str:  # noqa: ANN401
        """Return the name of a class or function; add it under its import path, `module:name`, if it has none.

        Raises ConfigError if it cannot be imported from there, which a resumed run and a loaded model need.
        """
        name = self.name_of(row)
        if name is not None:
            return name
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
        """Add the row at an import path. Raises ConfigError if it does not exist, or the module was not requested."""
        module, colon, rest = name.partition(":")
        if not colon or name in self:
            return
        if module not in _ALLOWED:
            raise ConfigError(
                f"found {name!r}, but the module {module} was not requested; add it to the configuration, `extensions: "
                f"[{module}]`, or to the command, --extension {module}"
            )
        row = _at(name)
        if row is None or _module(row) != module:
            raise ConfigError(f"found {name!r}, but the module {module} defines no {rest}")
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
                raise ConfigError(f"{place}: {_home(row)} is not a subclass of {self.base.__name__}")
        elif self.base is not None and not isinstance(row, self.base):
            raise ConfigError(f"{place}: found {row!r}; expected a {self.base.__name__}")
        elif self.base is None and not callable(row):
            raise ConfigError(f"{place}: found {row!r}; expected a function")

    def remove(self, name: str) -> None:
        """Remove a row, for example at the end of a test."""
        del self[name]
        self.extensions.pop(name, None)

    def name_of(self, row: object) -> str | None:
        """Return the name of a row; None if it is not in the table."""
        return next((name for name, candidate in self.items() if candidate is row), None)


def _at(path: str) -> Any:  # noqa: ANN401
    """Return the object at an import path; None if there is none, or the module was not imported."""
    module, _, rest = path.partition(":")
    value: Any = sys.modules.get(module)
    for part in rest.split("."):
        value = getattr(value, part, None)
    return value


def modules_of(names: Iterable[object]) -> list[str]:
    """Return the modules of the names that are import paths of rows."""
    paths = [
        name for name in names if isinstance(name, str) and any(":" in name and name in t for t in TABLES.values())
    ]
    return list(dict.fromkeys(path.partition(":")[0] for path in paths))


def _home(row: Any) -> str:  # noqa: ANN401
    definition = row if hasattr(row, "__qualname__") else getattr(row, "function", type(row))
    return f"{_module(row)}.{getattr(definition, '__qualname__', type(row).__qualname__)}"


def _module(row: Any) -> str:  # noqa: ANN401
    """Return the module of a class or function; for other values, the module of their `function`."""
    definition = row if hasattr(row, "__qualname__") else getattr(row, "function", row)
    return str(getattr(definition, "__module__", type(definition).__module__))


def set_tag(options: type[BaseModel], tag: str, name: str) -> None:
    """Make a name the default and only value of the field that identifies an options class.

    Raises ConfigError if the class declares another name.
    """
    declared = getattr(options.model_fields[tag].annotation, "__args__", ())
    if declared == (name,):
        return
    if tag in options.__annotations__ and declared:
        raise ConfigError(f"{_home(options)} declares the {tag} {declared[0]!r}, and is registered as {name!r}")
    options.model_fields[tag] = FieldInfo(annotation=Literal[name], default=name)  # type: ignore[valid-type]
    options.model_rebuild(force=True)


class OneOf:
    """Annotation of a field whose value is one of a table's options classes, identified by its tag.

    Args:
        table: a table whose rows are options classes, or have them.
        options: returns the options class of a row.
        tag: field that holds the name; by default the table's.
    """

    def __init__(
        self, table: Table[Any], options: Callable[[Any], type[BaseModel]] = lambda row: row, tag: str | None = None
    ) -> None:
        self.table = table
        self.tag = tag or table.tag or ""
        self._options = options

    @property
    def classes(self) -> dict[str, type[BaseModel]]:
        """The options classes by name, as currently in the table."""
        return {name: self._options(row) for name, row in self.table.items()}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        del handler
        base: type[BaseModel] = source

        def validate(value: Any, info: ValidationInfo) -> BaseModel:  # noqa: ANN401
            return self._known(value) if isinstance(value, base) else self._read(value, info)

        return core_schema.with_info_plain_validator_function(validate)

    def _known(self, value: BaseModel) -> BaseModel:
        """Return options unchanged; set the import path as their name if their class is not in the table."""
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
            shown = str(name).encode("utf-8", "replace").decode()  # pydantic takes no half of a surrogate pair
            details = {"discriminator": f"'{self.tag}'", "tag": shown, "expected_tags": expected}
            raise PydanticKnownError("union_tag_invalid", details)
        return classes[name].model_validate(value, context=info.context)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        del schema
        choices = {name: options.__pydantic_core_schema__ for name, options in self.classes.items()}
        return handler(core_schema.tagged_union_schema(choices=choices, discriminator=self.tag))


@contextmanager
def _as_value_error() -> Generator[None]:
    """Turn the errors of a table into ValueError, to which pydantic adds the path of the field."""
    try:
        yield
    except ConfigError as error:
        raise ValueError(str(error)) from None


class NameOf:
    """Annotation of a field that holds the name of a table's row; in Python also the class or function itself.

    Args:
        table: the table.
        extra_names: further names to accept.
    """

    def __init__(self, table: Mapping[str, Any], *extra_names: str) -> None:
        self.table = table
        self.extra_names = extra_names

    @property
    def _accepted(self) -> list[str]:
        return [*self.extra_names, *self.table]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        def validate(value: str) -> str:
            if not self._accepted:
                raise ValueError(f"found {value!r}; {nearest(value, self.table)}")
            if value not in self._accepted:
                raise PydanticKnownError("literal_error", {"expected": _listed(self._accepted)})
            return value

        def as_name(value: Any) -> Any:  # noqa: ANN401
            if not isinstance(self.table, Table):
                return value
            with _as_value_error():
                if callable(value) and hasattr(value, "__qualname__"):
                    return self.table.adopt(value)
                if isinstance(value, str):
                    self.table.find(value)
            return value

        checked = core_schema.no_info_after_validator_function(validate, handler(source))
        return core_schema.no_info_before_validator_function(as_name, checked)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), **({"enum": self._accepted} if self._accepted else {})}


def _listed(names: Iterable[str]) -> str:
    *others, last = [f"'{name}'" for name in names]
    return f"{', '.join(others)} or {last}" if others else last
