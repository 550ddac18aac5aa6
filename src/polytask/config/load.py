"""Read a configuration: YAML with line numbers, overrides, and errors that name place, value and nearest name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeAlias, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from polytask.config.root import Config
from polytask.errors import ConfigError, nearest
from polytask.tasks import TASKS

Path_: TypeAlias = tuple[str | int, ...]


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply overrides such as "train.epochs=1". Raises ConfigError listing all that is wrong."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        folder = path.parent
        found = [item.name for item in folder.glob("*.y*ml")] if folder.is_dir() else []
        raise ConfigError(f"{path}: no such file ({nearest(path.name, found)})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    data, marks = parse(text, str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: found {type(data).__name__}; a configuration is a mapping of keys to values")
    places = {key: f"{path}:{line}" for key, line in marks.items()}
    for override in overrides:
        apply_override(data, override, places)
    return validate(data, base=path.parent, places=places, name=str(path))


def parse(text: str, name: str) -> tuple[Any, dict[Path_, int]]:
    """Parse YAML into plain values and the line of each. Raises ConfigError on broken YAML and repeated keys."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"{name}: the file is empty; see `polytask schema` for what it may hold")
        _refuse_repeats(node, name)
        data = loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{name}{line}: not YAML: {getattr(error, 'problem', error)}") from None
    finally:
        loader.dispose()
    marks: dict[Path_, int] = {}
    _mark(node, (), marks)
    return data, marks


def _refuse_repeats(node: yaml.Node, name: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen and key.value != "<<":
                raise ConfigError(f"{name}:{line}: the key {key.value!r} stands on line {seen[key.value]} already")
            seen[key.value] = line
            _refuse_repeats(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeats(item, name)


def _mark(node: yaml.Node, path: Path_, marks: dict[Path_, int]) -> None:
    marks.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            marks[(*path, key.value)] = key.start_mark.line + 1
            _mark(value, (*path, key.value), marks)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _mark(item, (*path, index), marks)


def apply_override(data: dict[str, Any], override: str, places: dict[Path_, str]) -> None:
    """Set one value by its dotted path. Raises ConfigError when the override is not of the form path=value."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override}: expected a path and a value, such as train.epochs=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: the value is not YAML") from None
    parts = key.strip().split(".")
    at: Any = data
    for part in parts[:-1]:
        below = at.setdefault(part, {}) if isinstance(at, dict) else None
        if not isinstance(below, dict):
            raise ConfigError(f"--set {override}: {part!r} holds a single value, so nothing can be set below it")
        at = below
    at[parts[-1]] = value
    places[tuple(parts)] = f"--set {key}"


def validate(
    data: Mapping[str, Any],
    *,
    base: Path | None = None,
    places: Mapping[Path_, str] | None = None,
    name: str = "config",
) -> Config:
    """Check plain values. Raises ConfigError with one line for each thing that is wrong.

    Args:
        base: folder that paths in the configuration are relative to.
        places: where each value stands, by its path.
    """
    try:
        return Config.model_validate(data, context={"base": None if base is None else str(base)})
    except ValidationError as error:
        lines = dict.fromkeys(_explain(found, data, places or {}, name) for found in error.errors())
        raise ConfigError("\n".join(lines)) from None


def _explain(error: ErrorDetails, data: Mapping[str, Any], places: Mapping[Path_, str], name: str) -> str:
    path = _real_path(error["loc"], data)
    place = name
    for length in range(len(path), -1, -1):
        if path[:length] in places:
            place = places[path[:length]]
            break
    where = ".".join(str(part) for part in path)
    return f"{place}: {where}: {_reason(error, path, data)}"


def _reason(error: ErrorDetails, path: Path_, data: Mapping[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key; {nearest(str(path[-1]), accepted_keys(path[:-1], data))}"
    if kind == "missing":
        return "missing, and it has no default"
    if kind == "union_tag_not_found":
        return f"`type` is missing; accepted: {', '.join(TASKS)}"
    found = error["input"]
    if kind in ("union_tag_invalid", "literal_error"):
        found = context["tag"] if kind == "union_tag_invalid" else found
        expected = str(context.get("expected_tags") or context["expected"]).replace(" or ", ", ")
        accepted = [item.strip(" '") for item in expected.split(",")]
        return f"found {found!r}; {nearest(str(found), accepted)}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if message.startswith("found"):
        return message
    shown = f"a {type(found).__name__}" if isinstance(found, dict | list) else repr(found)
    return f"found {shown}; {message}"


def _real_path(loc: Sequence[str | int], data: Any) -> Path_:  # noqa: ANN401
    """Leave out of an error's path the names of types that the checker inserts."""
    path: list[str | int] = []
    at = data
    for index, part in enumerate(loc):
        inside = isinstance(at, list | tuple) and isinstance(part, int) and part < len(at)
        if (isinstance(at, Mapping) and part in at) or inside:
            at = at[part]  # type: ignore[index]
            path.append(part)
        elif index == len(loc) - 1 and isinstance(at, Mapping) and part != "[key]":
            path.append(part)
    return tuple(path)


def accepted_keys(path: Path_, data: Any) -> list[str]:  # noqa: ANN401
    """Return the keys that are accepted at a path."""
    model: type[BaseModel] = Config
    at = data
    skip = False
    for index, part in enumerate(path):
        at = at[part]
        if skip:
            skip = False
            continue
        if model is Config and part == "tasks":
            kind = TASKS.get(str(at[path[index + 1]].get("type"))) if index + 1 < len(path) else None
            if kind is None:
                return []
            model, skip = kind.Options, True
        else:
            model = _model_of(model.model_fields[str(part)].annotation)
    return list(model.model_fields)


def _model_of(annotation: Any) -> type[BaseModel]:  # noqa: ANN401
    options = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return next(kind for kind in options if isinstance(kind, type) and issubclass(kind, BaseModel))
