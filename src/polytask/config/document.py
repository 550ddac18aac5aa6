"""A YAML document: its plain values, the line of each, and the overrides of the command line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import yaml

from polytask.errors import ConfigError, nearest

Path_: TypeAlias = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_NUMBERS = (f"{_TAG}int", f"{_TAG}float")
# Limits: the number of values repeated by aliases, and the number of characters of a number.
MOST_COPIES = 100_000
MOST_DIGITS = 100
_FLOAT = re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)[eE][-+]?[0-9]+$")


_SHOWN_CHARACTERS = 200
_BRACKETS = {"[": "]", "{": "}"}


class _Loader(yaml.SafeLoader):
    """As YAML 1.2: `1e-5` is a number, and `2020-01-01` is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+.0123456789"))


def parse(text: str, name: str) -> tuple[Any, dict[Path_, int]]:
    """Parse YAML into plain values and the line number of each.

    Keys stay as written, so that `yes`, `1` and `null` can be names. Raises ConfigError on broken YAML, repeated keys
    and anchors that contain themselves.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is None:
            raise ConfigError(f"{name}: the file is empty; see `polytask schema` for what it may hold")
        _check(node, name, (), Counter())
        data = _Loader("").construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(_yaml_problem(error, text, name)) from None
    except (ValueError, KeyError, AttributeError):  # what PyYAML raises for `!!int many`
        raise ConfigError(f"{name}: not YAML: a value does not fit its explicit tag (!!int and the like)") from None
    except RecursionError:
        raise ConfigError(f"{name}: the values are nested too deeply") from None
    marks: dict[Path_, int] = {}
    _mark(node, (), marks)
    return _apart(data), marks


# The parser's messages for a line with wrong indentation, or with a colon inside a value.
_INDENTATION = (
    "mapping values are not allowed", "expected <block end>", "did not find expected", "could not find expected ':'",
)  # fmt: skip


# A key without a colon and a space after it.
_NO_SPACE = re.compile(r"\s*(?:- )?[A-Za-z_]\w*:(?![\s/\\])[^\s:]")
_WIDE_COLON = re.compile(r"\s*(?:- )?\w[\w-]*\s*\uff1a")


def bad_colon(text: str) -> tuple[int, str] | None:
    """Return the index of the first line whose key is not followed by a colon and a space, and what to do."""
    for number, line in enumerate(text.split("\n")):
        if _WIDE_COLON.match(line):
            return number, "found a full-width colon (\uff1a) after the key; write `: `, a plain colon and a space"
        if _NO_SPACE.match(line):
            return number, "a space is missing after the colon; write `key: value`"
    return None


def _yaml_problem(error: yaml.YAMLError, text: str, name: str) -> str:
    """Return a message about text that is not YAML: what is wrong, the line, and what to do."""
    mark, problem = getattr(error, "problem_mark", None), str(getattr(error, "problem", None) or error)
    if mark is None:
        return f"{name}: not YAML: {problem}"
    lines = text.split("\n")
    number = min(mark.line, len(lines) - 1)
    # The parser often reports a line only at the beginning of the next one.
    tabs = [at for at in (number, number - 1) if at >= 0 and re.match(r" *\t", lines[at])]
    if tabs:
        number, advice = tabs[0], "found a tab in the indentation; indent with spaces"
    elif (colon := bad_colon(text)) is not None:
        number, advice = colon
    elif problem.startswith(_INDENTATION):
        advice = (
            "the line does not fit the indentation of the lines above, or holds `: ` in a value without quotes; indent "
            "with spaces, keys of one level by the same number"
        )
    else:
        advice = problem
    line = lines[number].removesuffix("\r")[:_SHOWN_CHARACTERS]
    return f"{name}:{number + 1}: not YAML: {advice}: {line!r}"


def _check(node: yaml.Node, name: str, above: tuple[yaml.Node, ...], visits: Counter[int]) -> None:
    """Raise ConfigError on YAML that a configuration cannot use.

    Args:
        above: the nodes that contain this one.
        visits: number of visits of each node: more than one if aliases name it.
    """
    line = node.start_mark.line + 1
    if any(node is other for other in above):
        raise ConfigError(f"{name}:{line}: an anchor occurs inside the value that it names")
    visits[id(node)] += 1
    if visits.total() - len(visits) > MOST_COPIES:
        raise ConfigError(f"{name}:{line}: aliases repeat more than {MOST_COPIES:,} values; write each value once")
    if isinstance(node, yaml.MappingNode):
        _check_mapping(node, name, above, visits)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check(item, name, (*above, node), visits)
    elif node.tag in _NUMBERS and len(node.value) > MOST_DIGITS:
        raise ConfigError(f"{name}:{line}: found a number of {len(node.value)} characters; at most {MOST_DIGITS}")


def _check_mapping(node: yaml.MappingNode, name: str, above: tuple[yaml.Node, ...], visits: Counter[int]) -> None:
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{name}:{line}: found a list or a mapping as a key; a key is a name")
        if key.tag != f"{_TAG}merge":
            if key.value in lines:
                raise ConfigError(f"{name}:{line}: the key {key.value!r} is already on line {lines[key.value]}")
            lines[key.value] = line
            key.tag = f"{_TAG}str"
        _check(value, name, (*above, node), visits)


def _mark(node: yaml.Node, path: Path_, marks: dict[Path_, int]) -> None:
    marks.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            marks[(*path, key.value)] = key.start_mark.line + 1
            _mark(value, (*path, key.value), marks)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _mark(item, (*path, index), marks)


def _apart(value: Any) -> Any:  # noqa: ANN401
    """Copy values that aliases share, so that overriding a value of one task does not change the others."""
    if isinstance(value, dict):
        return {key: _apart(item) for key, item in value.items()}
    return [_apart(item) for item in value] if isinstance(value, list) else value


def apply_overrides(data: dict[str, Any], overrides: Iterable[str], places: dict[Path_, str]) -> None:
    """Set values by their dotted paths.

    Raises ConfigError if an override does not have the form path=value, or is for a task that does not exist.
    """
    tasks = data.get("tasks")
    before = list(tasks) if isinstance(tasks, dict) else []
    for override in overrides:
        apply_override(data, override, places)
    after = data.get("tasks")
    for name, task in after.items() if isinstance(after, dict) and before else ():
        place = places.get(("tasks", name), "")
        if name not in before and place.startswith("--set") and isinstance(task, dict) and "type" not in task:
            raise ConfigError(f"{place}: found the task {name!r}; {nearest(name, before)}")


def apply_override(data: dict[str, Any], override: str, places: dict[Path_, str]) -> None:
    """Set one value by its dotted path. Raises ConfigError if the override does not have the form path=value."""
    key, equals, text = override.partition("=")
    parts = tuple(key.strip().split("."))
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: expected a path and a value, such as train.epochs=3")
    place = f"--set {key.strip()}"
    value = parse(text, place)[0] if text.strip() else None
    at = data
    created: list[Path_] = []
    for depth, part in enumerate(parts[:-1], start=1):
        if at.get(part) is None:
            at[part] = {}
            created.append(parts[:depth])
        below = at[part]
        if not isinstance(below, dict):
            kind = "a list" if isinstance(below, list) else "a single value"
            raise ConfigError(f"--set {override}: {part!r} holds {kind}, so nothing can be set below it")
        at = below
    at[parts[-1]] = value
    for old in [path for path in places if path[: len(parts)] == parts]:
        del places[old]
    places |= dict.fromkeys([*created, parts], place)


def split_values(text: str, place: str) -> Iterator[str]:
    """Yield the values of an option's list, split at the commas outside brackets and quotes.

    Args:
        place: beginning of error messages.

    Raises ConfigError for an empty value, and for a bracket or a quote that is not closed.

    >>> list(split_values("sum, {method: stch, mu: 1}", "--grid balance"))
    ['sum', '{method: stch, mu: 1}']
    """
    closing: list[str] = []
    quote, begin = "", 0
    for at, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in _BRACKETS:
            closing.append(_BRACKETS[character])
        elif closing and character == closing[-1]:
            closing.pop()
        elif character == "," and not closing:
            yield _not_empty(text[begin:at], place)
            begin = at + 1
    if quote or closing:
        raise ConfigError(f"{place}: {quote or closing[-1]} is missing at the end of a value")
    yield _not_empty(text[begin:], place)


def _not_empty(value: str, place: str) -> str:
    if not value.strip():
        raise ConfigError(f"{place}: a value is empty; write null for nothing")
    return value.strip()
