"""Arms from a grid of values and from a file; both become overrides by name, like those of `--arm`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from polytask.comparison.arms import ARMS
from polytask.config.document import Path_, parse, split_values
from polytask.errors import ConfigError, nearest
from polytask.options import NAME, is_name

# A grid with more arms than this must be a mistake.
MOST_ARMS = 200


@dataclass(frozen=True)
class GridAxis:
    """One option of a grid and its values, as written in overrides."""

    path: str
    values: tuple[str, ...]

    @property
    def option(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True)
class ArmsFile:
    """Content of an arms file.

    Attributes:
        built_in: built-in arms such as `global`, which set no options.
        named: overrides of the other arms by name.
    """

    built_in: tuple[str, ...]
    named: Mapping[str, list[str]]


def read_axes(texts: Sequence[str]) -> list[GridAxis]:
    """Parse `PATH=VALUE,VALUE` arguments into axes. Raises ConfigError."""
    return [_read_axis(text) for text in texts]


def _read_axis(text: str) -> GridAxis:
    path, equals, values = text.partition("=")
    if not equals or not all(part.strip() for part in path.split(".")):
        raise ConfigError(f"--grid {text}: expected a path and its values, such as sharing.strategy=global,independent")
    return GridAxis(path.strip(), tuple(split_values(values, f"--grid {text}")))


def axes_of(grid: Mapping[str, Sequence[Any]]) -> list[GridAxis]:
    """Return the axes of a grid given in Python. Raises ConfigError if an option has no list of values."""
    axes: list[GridAxis] = []
    for path, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"grid: {path}: found {values!r}; expected a list of values")
        axes.append(GridAxis(path, tuple(written(value) for value in values)))
    return axes


def grid_arms(axes: Sequence[GridAxis]) -> dict[str, list[str]]:
    """Return the overrides of every combination of values, named after the values. Raises ConfigError."""
    for axis in axes:
        if len(set(axis.values)) < len(axis.values):
            raise ConfigError(f"--grid {axis.path}: found {', '.join(axis.values)}; list a value once")
    paths = [axis.path for axis in axes]
    for path in paths:
        if paths.count(path) > 1:
            raise ConfigError(f"--grid {path}: found twice; list all its values at once, such as {path}=A,B")
    combinations = list(product(*(axis.values for axis in axes))) if axes else []
    if len(combinations) > MOST_ARMS:
        raise ConfigError(f"--grid: found {len(combinations)} combinations; at most {MOST_ARMS} arms are compared")
    named = _named(axes, combinations, with_options=False)
    if len(named) < len(combinations) or not ARMS.keys().isdisjoint(named):
        named = _named(axes, combinations, with_options=True)
    if len(named) < len(combinations):
        raise ConfigError("--grid: two combinations would have the same name; name them yourself with --arms-file")
    for name in named:
        if not is_name(name):
            raise ConfigError(f"--grid: {name!r} cannot be the name of an arm; name the arms with --arms-file")
    return named


def _named(
    axes: Sequence[GridAxis], combinations: Sequence[tuple[str, ...]], *, with_options: bool
) -> dict[str, list[str]]:
    """Return overrides by name; a name joins the values, on request each after the name of its option."""
    named: dict[str, list[str]] = {}
    for values in combinations:
        labels = [
            _label(axis.option, value, parse(value, f"--grid {axis.path}")[0], with_option=with_options)
            for axis, value in zip(axes, values, strict=True)
        ]
        overrides = [f"{axis.path}={value}" for axis, value in zip(axes, values, strict=True)]
        named["-".join(labels)] = overrides
    return named


def _label(option: str, text: str, value: Any, *, with_option: bool = False) -> str:  # noqa: ANN401
    """Return the label of a value: words stand alone, numbers and booleans need the name of their option."""
    if isinstance(value, dict) and value and not with_option:
        return "-".join(_label(str(key), str(inner), inner) for key, inner in value.items())
    label = re.sub(r"[^\w-]+", "_", text).strip("_-")
    if isinstance(value, str) and label[:1].isalpha() and not with_option:
        return label
    return f"{option}-{label}".strip("-")


def read_arms_file(path: Path) -> ArmsFile:
    """Read a YAML file of arms: options by path for each name, or nothing for a built-in arm.

    Raises ConfigError naming the line.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--arms-file {path}: cannot be read ({reason})") from None
    values, lines = parse(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping from arms to their options, such as `low: {_EXAMPLE}`")
    built_in: list[str] = []
    named: dict[str, list[str]] = {}
    for name, options in values.items():
        place = f"{path}:{lines[(name,)]}"
        if name in ARMS:
            _require_nothing(name, options, place)
            built_in.append(name)
        else:
            named[name] = _overrides(name, options, place, lines, path)
    return ArmsFile(tuple(built_in), named)


_EXAMPLE = "{sharing.strategy: partial, sharing.shared_layers: 3}"


def _require_nothing(name: str, options: Any, place: str) -> None:  # noqa: ANN401
    if options:
        raise ConfigError(f"{place}: {name} is a built-in arm, which takes no options; choose another name")


def _overrides(name: str, options: Any, place: str, lines: Mapping[Path_, int], path: Path) -> list[str]:  # noqa: ANN401
    if not is_name(name):
        raise ConfigError(f"{place}: found {name!r}; an arm needs {NAME}")
    if options is None:
        raise ConfigError(f"{place}: {name} changes nothing, and is not a built-in arm; {nearest(name, ARMS)}")
    if not isinstance(options, dict) or not options:
        raise ConfigError(f"{place}: found {options!r}; expected the options that the arm sets, such as {_EXAMPLE}")
    for key in options:
        if not all(part.strip() for part in key.split(".")) or "=" in key:
            raise ConfigError(f"{path}:{lines[(name, key)]}: found {key!r}; expected a path such as sharing.strategy")
    return [f"{key}={written(value)}" for key, value in options.items()]


def written(value: Any) -> str:  # noqa: ANN401
    """Format a value for an override: plain if that parses to the same value, otherwise as JSON.

    >>> written("partial"), written("1"), written({"strategy": "partial"})
    ('partial', '"1"', '{"strategy": "partial"}')
    """
    if isinstance(value, str) and re.fullmatch(r"\w[\w./ -]*", value) and _reads_back(value):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        raise ConfigError(f"found {value!r}; expected text, numbers, lists or mappings of these") from None


def _reads_back(value: str) -> bool:
    try:
        return parse(value, "")[0] == value
    except ConfigError:
        return False
