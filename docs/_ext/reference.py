"""Write the pages of the reference that are made of the code: options, commands, the Python API, tables."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx

from polytask.registry import OneOf

TITLES = {
    "tasks": "Tasks", "sharing": "Sharing", "schedule": "Scheduling", "balance": "Balancing", "train": "Training",
    "extend": "Adding tasks",
}  # fmt: skip


def cell(text: object) -> str:
    """Return a text as a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def type_of(annotation: Any) -> str:
    """Return a type as a person writes it."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None or annotation is type(None):
        return "nothing"
    if origin is typing.Annotated:
        return type_of(inner[0])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_of(one) for one in inner))
    if origin in (list, tuple, set, frozenset):
        shown = dict.fromkeys(type_of(one) for one in inner if one is not Ellipsis)
        return f"list of {' or '.join(shown)}"
    if origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return f"mapping of {type_of(inner[0])} to {type_of(inner[1])}"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}
    if annotation in names:
        return names[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return getattr(annotation, "__name__", str(annotation))


def bounds(field: FieldInfo) -> str:
    """Return the range of a number."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = [
        f"{word} {getattr(one, name)}" for one in field.metadata for name, word in words.items() if hasattr(one, name)
    ]
    return f" ({', '.join(found)})" if found else ""


def default_of(field: FieldInfo) -> str:
    """Return what an option is where nobody sets it."""
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined or field.default is None:
        return ""
    if isinstance(field.default, BaseModel):
        values = field.default.model_dump(mode="json", exclude_unset=True)
        return ", ".join(f"`{key}: {value}`" for key, value in values.items())
    value = field.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value not in ((), {}, "") else ""


def rows(model: type[BaseModel], left_out: set[str]) -> Iterator[str]:
    """Yield a line of a table for each option of a class."""
    for name, field in model.model_fields.items():
        if name not in left_out:
            kind = type_of(field.annotation) + bounds(field)
            yield f"| `{name}` | {cell(kind)} | {cell(default_of(field))} | {cell(field.description or '')} |"


def table(model: type[BaseModel], left_out: set[str] = frozenset()) -> list[str]:
    """Return the table of a class's options."""
    found = list(rows(model, left_out))
    return ["| option | type | default | meaning |", "|---|---|---|---|", *found, ""] if found else []


def first_line(kind: type) -> str:
    """Return the first sentence of a class's docstring."""
    text = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    return "" if text.startswith(("Usage docs:", "!!!")) else text


def one_of(field: FieldInfo) -> OneOf | None:
    """Return the table that a field's value is a row of."""
    waiting = [field.annotation, *field.metadata]
    while waiting:
        found = waiting.pop()
        if isinstance(found, OneOf):
            return found
        waiting += [*getattr(found, "__metadata__", ()), *typing.get_args(found)]
    return None


def option_pages() -> Iterator[tuple[str, str]]:
    """Yield the name and text of each page of options."""
    from polytask.config.root import Config

    nested = {"tasks", "sharing", "schedule", "balance", "train", "extend"}
    head = ["# All options", "", "Made from the models that check a configuration. At its top stand:", ""]
    links = [f"* [`{name}`](options-{name}.md)" for name in TITLES]
    yield "options", "\n".join([*head, *table(Config, nested), "and the sections", "", *links, ""])
    for name, title in TITLES.items():
        field = Config.model_fields[name]
        lines = [f"# Options: {title}", "", field.description or f"What stands under `{name}:`.", ""]
        choice = one_of(field)
        if choice is None:
            inner = next(one for one in (field.annotation, *typing.get_args(field.annotation)) if is_model(one))
            lines += table(inner)
            yield f"options-{name}", "\n".join(lines)
            continue
        shared = set.intersection(*(set(kind.model_fields) for kind in choice.classes.values())) - {choice.tag}
        kinds = list(choice.classes.values())
        common = {one for one in shared if all(same(kind, kinds[0], one) for kind in kinds)}
        lines += [f"`{choice.tag}` is one of {', '.join(f'`{kind}`' for kind in choice.classes)}.", ""]
        if common:
            lines += ["## All of them", "", *table(kinds[0], set(kinds[0].model_fields) - common)]
        for kind, options in choice.classes.items():
            lines += [f"## `{choice.tag}: {kind}`", "", first_line(options), "", *table(options, {*common, choice.tag})]
        if name == "tasks":
            from polytask.options import DataOptions
            from polytask.tasks.gate import GateOptions

            lines += ["## `data`", "", *table(DataOptions), "## `gate`", "", *table(GateOptions)]
        yield f"options-{name}", "\n".join(lines)


def same(one: type[BaseModel], other: type[BaseModel], name: str) -> bool:
    """Whether two classes mean the same by an option."""
    return all(
        getattr(one.model_fields[name], what) == getattr(other.model_fields[name], what)
        for what in ("annotation", "default", "description")
    )


def is_model(kind: Any) -> bool:
    """Whether a type is a class of options."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def command_page() -> str:
    """Return the page of the command line."""
    import typer

    from polytask.cli import app

    lines = ["# Commands", "", "`polytask COMMAND --help` says the same.", ""]
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        if command.hidden:
            continue
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        usage = " ".join((one.metavar or one.name).upper() for one in arguments)
        call = " ".join(("polytask", name, *usage.split(), "[OPTIONS]"))
        lines += [f"## polytask {name}", "", command.help or "", "", f"    {call}", ""]
        lines += ["| argument or option | default | meaning |", "|---|---|---|"]
        for one in command.params:
            if one.name == "help":
                continue
            given = (one.metavar or one.name).upper() if one in arguments else ", ".join(one.opts)
            shown = getattr(one, "show_default", None)
            default = shown if isinstance(shown, str) else one.default
            default = "" if default in (None, False) or callable(default) or "Sentinel" in str(default) else default
            default = "required" if one.required else default
            lines.append(f"| `{given}` | {cell(default)} | {cell(getattr(one, 'help', '') or '')} |")
        lines.append("")
    return "\n".join(lines)


def api_page() -> str:
    """Return the page of what `import polytask` offers."""
    import inspect

    import polytask

    groups: dict[str, list[str]] = {"Functions": [], "Classes": [], "Errors": []}
    for name in polytask.__all__:
        value = getattr(polytask, name)
        error = inspect.isclass(value) and issubclass(value, BaseException)
        groups["Errors" if error else "Classes" if inspect.isclass(value) else "Functions"].append(name)
    lines = ["# Python", "", "`import polytask as pt`; [the guide](../python.md) shows how it is used.", ""]
    for title, names in groups.items():
        lines += [f"## {title}", ""]
        for name in names:
            value = getattr(polytask, name)
            home = f"{value.__module__}.{value.__qualname__}"
            if title == "Functions":
                lines += ["```{eval-rst}", f".. autofunction:: {home}", "```", ""]
            elif name == "Config":
                lines += ["```{eval-rst}", f".. autoclass:: {home}()", "```", ""]
                lines += ["Its options: [all options](options.md).", ""]
            else:
                members = "" if title == "Errors" else "\n   :members:"
                lines += ["```{eval-rst}", f".. autoclass:: {home}(){members}", "```", ""]
    return "\n".join(lines)


def write(app: Sphinx) -> None:
    """Write the pages, where their text has changed."""
    folder = Path(app.srcdir) / "reference"
    folder.mkdir(exist_ok=True)
    pages = {**dict(option_pages()), "commands": command_page(), "python": api_page()}
    for old in folder.glob("*.md"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
