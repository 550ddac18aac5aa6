"""Error messages of the configuration check: the place, the value found, and what is accepted."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from polytask.config.document import Path_, bad_colon
from polytask.config.renamed import FOREIGN, renamed_option, renamed_value
from polytask.config.root import Config
from polytask.errors import nearest
from polytask.registry import OneOf
from polytask.tasks import TASKS

_MAPPING = "keys with values"
# The key that decides which options a section has.
_CHOSEN_BY = {"sharing": "strategy", "schedule": "strategy", "balance": "method"}
# The expected value, by pydantic's error type.
_EXPECTED: dict[str, str] = {
    "string_type": "text",
    "string_unicode": "text without half of a surrogate pair, which is no character",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "tuple_type": "a list",
    "string_too_short": "text that is not empty",
}


def explain(error: ValidationError, data: Mapping[str, Any], places: Mapping[Path_, str], name: str) -> list[str]:
    """Return one line for each mistake.

    Args:
        data: the checked values.
        places: file and line of each value, by its path.
        name: the place to report for values that have none.
    """
    problems: dict[Path_, list[str]] = {}
    generic: set[Path_] = set()
    for details in error.errors(include_url=False):
        path, reason = _real_path(details, data), _reason(details, data)
        reasons = problems.setdefault(path, [])
        if reason not in reasons:
            reasons.append(reason)
        if details["type"] in ("literal_error", "too_short"):
            generic.add(path)
    # For a value that may be a name or a mapping, only the mistake inside the mapping is reported. The same holds for a
    # list with a mistaken item, which pydantic does not count.
    inner = {path[:length] for path in problems for length in range(len(path))}
    return [
        ": ".join([_place(path, places, name), *([".".join(map(str, path))] if path else []), _joined(reasons)])
        for path, reasons in problems.items()
        if path not in inner & generic
    ]


def _joined(reasons: Sequence[str]) -> str:
    first, *others = reasons
    return "; or ".join([first, *(reason.partition("; ")[2] or reason for reason in others)])


def _place(path: Path_, places: Mapping[Path_, str], name: str) -> str:
    candidates = (places[path[:length]] for length in range(len(path), -1, -1) if path[:length] in places)
    return next(candidates, name)


def _real_path(error: ErrorDetails, data: Any) -> Path_:  # noqa: ANN401
    """Remove from an error's path what pydantic inserts: names of types and of the union members that it tried."""
    path: list[str | int] = []
    at = data
    for part in error["loc"]:
        inside = isinstance(at, list | tuple) and isinstance(part, int) and part < len(at)
        if (isinstance(at, Mapping) and part in at) or inside:
            at = at[part]  # type: ignore[index]
            path.append(part)
    if error["type"] == "missing":
        path.append(error["loc"][-1])
    if error["type"].startswith("union_tag"):
        path.append(_misspelt_tag(error, path, data) or _discriminator(error))
    return tuple(path)


def _misspelt_tag(error: ErrorDetails, path: Sequence[str | int], data: Any) -> str | None:  # noqa: ANN401
    """Return a given key that resembles the missing one, unless some options class has it."""
    values = error["input"] if error["type"] == "union_tag_not_found" else {}
    known = {key for model in _models_in(_annotation_at(tuple(path), data)[0]) for key in model.model_fields}
    close = difflib.get_close_matches(_discriminator(error), [str(key) for key in values if key not in known], n=1)
    return close[0] if close else None


def _discriminator(error: ErrorDetails) -> str:
    return str(error.get("ctx", {})["discriminator"]).strip("'")


def _reason(error: ErrorDetails, data: Mapping[str, Any]) -> str:
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind == "extra_forbidden":
        return _unknown_key(_real_path(error, data), data)
    if kind == "missing":
        return "missing, and it has no default"
    if kind == "union_tag_not_found":
        tag, misspelt = _discriminator(error), _real_path(error, data)[-1]
        if misspelt != tag:
            return f"unknown key; {nearest(str(misspelt), [tag])}"
        return f"missing; accepted: {', '.join(_accepted_tags(error, data))}"
    if kind in ("union_tag_invalid", "literal_error"):
        value = value[_discriminator(error)] if kind == "union_tag_invalid" else value
        expected = str(context.get("expected_tags") or context["expected"]).replace(" or ", ", ")
        accepted = [item.strip(" '") for item in expected.split(",")]
        if (renamed := renamed_value(_real_path(error, data), value)) is not None:
            return f"found {_shown(value)}; {renamed}"
        if kind == "union_tag_invalid" and (meant := _type_meant(value)) in accepted:
            return f"found {_shown(value)}; accepted: {', '.join(accepted)}; did you mean {meant!r}?"
        return f"found {_shown(value)}; {nearest(value if isinstance(value, str) else '', accepted)}"
    if kind in ("too_long", "too_short"):
        least = kind == "too_short"
        limit = f"at least {context['min_length']}" if least else f"at most {context['max_length']}"
        return f"found {context['actual_length']} items; expected {limit}"
    message = _expected(kind, value) or error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if _EXPECTED.get(kind) == _MAPPING:
        message += _indentation_hint(_real_path(error, data), data)
    message += _shape_hint(_real_path(error, data), value)
    return message if message.startswith("found") else f"found {_shown(value)}; {message}"


def _unknown_key(path: Path_, data: Mapping[str, Any]) -> str:
    if (renamed := renamed_option(path)) is not None:
        return renamed
    name, accepted = str(path[-1]), accepted_keys(path[:-1], data)
    hint = _indentation_hint(path, data)
    others = paths_of(name)
    if name in FOREIGN:
        leaf = FOREIGN[name].rpartition(".")[2]
        others = [leaf if leaf in accepted else FOREIGN[name]]
    elif _general(path) in others:  # a key of another strategy or type
        others = []
    elif not others and len(path) == 1 and not difflib.get_close_matches(name, accepted, n=1, cutoff=0.7):
        others = [place for place in [path_like(name)] if place is not None]
    if hint or not others:
        return f"unknown key; {nearest(name, accepted)}{hint}"
    return f"unknown key; accepted: {', '.join(sorted(accepted))}; did you mean {others[0]!r}?"


def _general(path: Path_) -> str:
    """Return a path in the form of `paths_of`."""
    parts = [str(part) for part in path]
    return ".".join([*parts[:1], "NAME", *parts[2:]] if parts[:1] == ["tasks"] and len(parts) > 1 else parts)


def _indentation_hint(path: Path_, data: Any) -> str:  # noqa: ANN401
    """Say that a key may belong below an earlier one that is empty."""
    at = data
    for part in path[:-1]:
        at = at[part]
    if not isinstance(at, Mapping) or path[-1] not in at:
        return ""
    keys = list(at)
    empty = [key for key in keys[: keys.index(path[-1])] if at[key] is None]
    if not empty:
        return ""
    return f"; to put {str(path[-1])!r} below {empty[-1]!r}, which is empty, indent it with more spaces"


def _shape_hint(path: Path_, value: Any) -> str:  # noqa: ANN401
    """Say how to write a value that was given in another form; "" if that is not known."""
    if isinstance(value, str) and (colon := bad_colon(value)) is not None:
        return f"; {colon[1]}"
    if path == ("tasks",) and isinstance(value, list):
        return "; write each task below its name: `tasks: {NAME: {type: classification, ...}}`, without a dash"
    if isinstance(value, str) and len(path) == 1 and path[0] in _CHOSEN_BY and value:
        key = _CHOSEN_BY[path[0]]
        return f"; write `{path[0]}: {{{key}: {value}}}`, or --set {path[0]}.{key}={value}"
    if len(path) != 3 or path[0] != "tasks":
        return ""
    if path[2] == "data" and not isinstance(value, Mapping):
        rows = "files" if isinstance(value, str) else "files or rows"
        return f"; name the {rows} by split: `data: {{train: FILE, dev: 0.1}}`"
    if path[2] == "label" and isinstance(value, list):
        return "; a task learns one column, so give each column a task of its own (for 0 and 1: or `type: multilabel`)"
    if path[2] == "text" and isinstance(value, list):
        return "; for a pair of texts give `text_pair: [FIRST, SECOND]` in place of `text`"
    return ""


def _type_meant(value: Any) -> str | None:  # noqa: ANN401
    """Return the task type for which a value is another common name."""
    spelled = str(value).lower().replace("_", "-").replace(" ", "-")
    return next((name for name, kind in TASKS.items() if spelled in kind.also_called), None)


def _expected(kind: str, value: Any) -> str:  # noqa: ANN401
    if kind not in _EXPECTED:
        return ""
    quotes = " (put it in quotes)" if kind == "string_type" and isinstance(value, int | float) else ""
    return f"expected {_EXPECTED[kind]}{quotes}"


def _shown(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return f"a {type(value).__name__}" if "\n" in text else text


def accepted_keys(path: Path_, data: Any) -> list[str]:  # noqa: ANN401
    """Return the keys that are accepted at a path."""
    model = _model_of(*_annotation_at(path, data))
    return [] if model is None else list(model.model_fields)


def _accepted_tags(error: ErrorDetails, data: Any) -> list[str]:  # noqa: ANN401
    """Return the tags that choose one of several options classes."""
    annotation, _ = _annotation_at(_real_path(error, data)[:-1], data)
    models = _models_in(annotation)
    return [name for model in models for name in get_args(model.model_fields[_discriminator(error)].annotation)]


def _annotation_at(path: Path_, data: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Return the annotation at a path, and the value there."""
    annotation: Any = Config
    at = data
    for part in path:
        model = _model_of(annotation, at)
        annotation = _item_of(annotation) if model is None else _declared(model.model_fields[str(part)])
        at = at[part]
    return annotation, at


def _model_of(annotation: Any, value: Any) -> type[BaseModel] | None:  # noqa: ANN401
    """Return the options class of a value: if there are several, the one that its tag names."""
    models = list(_models_in(annotation))
    if len(models) == 1:
        return models[0]
    for model in models:
        for tag in ("type", "strategy", "method"):
            field = model.model_fields.get(tag)
            if field is not None and value.get(tag, field.default) in get_args(field.annotation):
                return model
    return None


def _declared(field: FieldInfo) -> Any:  # noqa: ANN401
    """Return the annotation of a field, with the table that decides its class."""
    tables = [item for item in field.metadata if isinstance(item, OneOf)]
    return Annotated[field.annotation, tables[0]] if tables else field.annotation


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401
    tables = [item for item in getattr(annotation, "__metadata__", ()) if isinstance(item, OneOf)]
    if tables:
        yield from tables[0].classes.values()
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union, UnionType):
        for inner in get_args(annotation):
            yield from _models_in(inner)


def _item_of(annotation: Any) -> Any:  # noqa: ANN401
    """Return the annotation of the items of a mapping or a list."""
    origin = get_origin(annotation)
    if origin is dict:
        return get_args(annotation)[1]
    if origin is tuple:
        return get_args(annotation)[0]
    items = [_item_of(argument) for argument in get_args(annotation)]
    return next((item for item in items if item is not None), None)


def paths_of(name: str) -> list[str]:
    """Return the paths of all keys with a name in a configuration, such as `train.epochs`; the shortest path first.

    >>> paths_of("epochs")[0], paths_of("label")[0]
    ('train.epochs', 'tasks.NAME.label')
    """
    return [path for path in _all_paths() if path.rpartition(".")[2] == name]


def path_like(name: str) -> str | None:
    """Return the path of the key with the most similar name; None if no name is similar.

    >>> path_like("epoch"), path_like("batch_size"), path_like("xyz")
    ('train.epochs', 'train.batch_size', None)
    """
    names = {path.rpartition(".")[2]: path for path in reversed(_all_paths())}
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.7)
    return names[close[0]] if close else None


def _all_paths() -> tuple[str, ...]:
    paths = dict.fromkeys(_paths(Config, ""))
    return tuple(sorted(paths, key=lambda path: path.count(".")))


def _paths(model: type[BaseModel], place: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield place + name
        item = _item_of(field.annotation)
        for inner in _models_in(_declared(field)):
            yield from _paths(inner, f"{place}{name}.")
        for inner in _models_in(item) if item is not None else ():
            yield from _paths(inner, f"{place}{name}.NAME.")
