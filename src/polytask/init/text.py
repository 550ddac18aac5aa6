"""The text of a proposed configuration: YAML with a comment on every choice."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.init.language import Reader

_PLAIN = re.compile(r"(?:\.{1,2}/|/)*[^\W\d][\w./-]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf"})
_WIDTH = 100


@dataclass(frozen=True)
class TaskDraft:
    """A task to be written.

    Attributes:
        column: column that it was proposed for.
        options: options without data.
        why, notes: comments on the task and on its data.
    """

    name: str
    column: str
    options: Mapping[str, Any]
    data: Mapping[str, Any]
    why: str
    notes: tuple[str, ...] = ()


def as_yaml(
    drafts: Sequence[TaskDraft],
    reader: Reader,
    head: Mapping[str, Any],
    left_out: Mapping[str, str],
    command: Sequence[str],
    path: Path,
) -> str:
    """Return the configuration as YAML text.

    Args:
        command: arguments of `polytask init`.
    """
    name = scalar(str(path))
    lines = [
        *comment(f"Written by: polytask init {shlex.join(command)}"),
        *comment(f"Change what is wrong, then: polytask check {name}"),
        *comment("What else can be set: polytask schema, or docs/configuration.md."),
        "",
        *comment(reader.why),
        f"encoder: {scalar(head['encoder'])}",
        *comment(reader.length),
        f"max_tokens: {head['max_tokens']}",
        "",
        "tasks:",
    ]
    anchors: dict[str, str] = {}
    for draft in drafts:
        lines += _task(draft, anchors)
    if left_out:
        lines += ["", *comment("Left out:")]
        for column, why in left_out.items():
            lines += comment(f"{column}: {why}", indent="#   ")
    return "\n".join([*lines, ""])


def _task(draft: TaskDraft, anchors: dict[str, str]) -> Iterator[str]:
    """Yield the lines of a task; data that several tasks share are written once, with an anchor."""
    yield from comment(draft.why, indent="  # ")
    yield f"  {scalar(draft.name)}:"
    yield f"    type: {draft.options['type']}"
    data = _flow(draft.data)
    if data in anchors:
        yield f"    data: *{anchors[data]}"
    else:
        anchors[data] = f"rows{len(anchors) + 1}"
        for note in draft.notes:
            yield from comment(note, indent="    # ")
        yield f"    data: &{anchors[data]}"
        for key, value in draft.data.items():
            yield f"      {key}: {_flow(value)}"
    for key, value in draft.options.items():
        if key != "type":
            yield f"    {key}: {_flow(value)}"


def _flow(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return scalar(value) if isinstance(value, str) else json.dumps(value)


def scalar(text: str) -> str:
    """Write a text so that YAML reads it back unchanged: plain if that is safe, otherwise in quotes.

    >>> scalar("data/train.csv"), scalar("no"), scalar("a: b")
    ('data/train.csv', '"no"', '"a: b"')
    """
    if _PLAIN.fullmatch(text) and text.isprintable() and text.lower() not in _WORDS:
        return text
    return "".join(_escaped(character) for character in json.dumps(text, ensure_ascii=False))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if character <= "\uffff" else f"\\U{ord(character):08x}"


def comment(text: str, indent: str = "# ") -> Iterator[str]:
    """Yield the lines of a comment, for any text."""
    plain = "".join(_escaped(character) for character in " ".join(text.split()))[:1000]
    below = indent + ("  " if indent == "#   " else "")
    together = plain.replace(" %", "\u00a0%")  # a number and its sign stay on one line
    lines = textwrap.wrap(together, _WIDTH - len(indent), break_long_words=False, break_on_hyphens=False)
    for number, line in enumerate(lines):
        yield (below if number else indent) + line.replace("\u00a0", " ")
