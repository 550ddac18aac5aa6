"""Configurations of trials: the user's configuration without test rows, with values of the searched options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from polytask.assemble import assemble
from polytask.config import Config, validate, values_of
from polytask.config.document import Path_
from polytask.config.explain import path_like, paths_of
from polytask.errors import ConfigError, UserError, nearest
from polytask.tuning.space import Choices, Range, SearchAxis

# Maximum number of value combinations that are all checked before the first trial; with more, only single values are.
MOST_CHECKED = 128
# Least path length in sections that cannot be searched as a whole.
_FEWEST_PARTS = {"tasks": 3, "train": 2}
# Options that cannot be searched, since dev scores would no longer show which trial is better.
_FIXED = {
    ("train", "select"): "the rule would rate each trial by another measure",
    ("train", "baselines"): "trials would be rated against different baselines",
    ("train", "seed"): "the best of several seeds is luck, not a setting",
    ("extensions",): "modules are imported once",
}
_FIXED_OF_TASKS = {
    "metric": "trials would be rated by different metrics",
    "type": "trials would be rated by different metrics",
    "data": "trials would be rated on different rows",
    "label": "trials would be rated on different labels",
}


@dataclass(frozen=True)
class Candidates:
    """Creates the configurations of trials.

    Attributes:
        values: values that were set in the configuration, without test rows.
    """

    values: Mapping[str, Any]
    axes: tuple[SearchAxis, ...]

    def config(self, parameters: Mapping[str, Any]) -> Config:
        """Return the configuration with values of the searched options, by path. Raises ConfigError."""
        return self._validated(self.values, parameters)

    def _validated(self, values: Mapping[str, Any], parameters: Mapping[str, Any]) -> Config:
        data, places = _copied(values), dict[Path_, str]()
        for path, value in parameters.items():
            parts = tuple(path.split("."))
            for length in range(1, len(parts) + 1):
                if not _holds(values, parts[:length]):
                    places.setdefault(parts[:length], f"--search {path}")
            places[parts] = f"--search {path}"
            set_at(data, parts, value)
        return validate(data, places=places)

    def written(self, full: Config, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a configuration, including test rows, with those of the searched options."""
        data = values_of(full)
        for path, value in parameters.items():
            set_at(data, tuple(path.split(".")), value)
        return values_of(validate(data))

    def as_it_is(self, resolved: Config, given: Config) -> dict[str, Any] | str:
        """Return the parameters of the unchanged configuration, or the path of an option outside the search space.

        Args:
            resolved: the configuration with `auto` values resolved.
            given: the configuration as it was given; a choice may be `auto` itself.
        """
        resolved_values, given_values, parameters = resolved.to_json(), given.to_json(), dict[str, Any]()
        for axis in self.axes:
            value, own = _value_at(resolved_values, axis), _value_at(given_values, axis)
            if isinstance(axis.values, Choices):
                text = axis.values.text_of(own)
                value = axis.values.text_of(value) if text is None else text
            if value is None or (isinstance(axis.values, Range) and not axis.values.holds(value)):
                return axis.path
            is_int = isinstance(axis.values, Range) and axis.values.kind == "int"
            parameters[axis.path] = int(value) if is_int else value
        return parameters


def _value_at(values: Any, axis: SearchAxis) -> Any:  # noqa: ANN401
    for part in axis.parts:
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def require_searchable(axes: Sequence[SearchAxis], config: Config) -> None:
    """Raise ConfigError for options that cannot be searched, and for unknown tasks."""
    for axis in axes:
        parts = axis.parts
        if parts[0] == "tasks" and len(parts) > 1 and parts[1] not in config.tasks:
            raise ConfigError(f"--search {axis.path}: found the task {parts[1]!r}; {nearest(parts[1], config.tasks)}")
        why = _why_fixed(axis.parts)
        if why is not None:
            raise ConfigError(f"--search {axis.path}: cannot be searched: {why}; set it with --set")


def _why_fixed(parts: Sequence[str]) -> str | None:
    """Return why an option cannot be searched; None if it can."""
    if len(parts) < _FEWEST_PARTS.get(parts[0], 1):
        return "it contains options that trials are rated by, so name one of its other options"
    if parts[0] == "tasks":
        return _FIXED_OF_TASKS.get(parts[2])
    return next((reason for fixed, reason in _FIXED.items() if tuple(parts[: len(fixed)]) == fixed), None)


def check_candidates(candidates: Candidates) -> None:
    """Raise UserError for a value of the search space that cannot be used, before anything is trained.

    The configuration is validated for the ends of all ranges and all choices together, and assembled (with the data
    and the encoder) for each of them.
    """
    first = {axis.path: axis.values.examples()[0] for axis in candidates.axes}
    for parameters in _combinations(candidates.axes):
        _checked(candidates, parameters)
    assembled: set[str] = set()
    for axis in candidates.axes:
        for value in axis.values.examples():
            parameters = {**first, axis.path: value}
            config = _checked(candidates, parameters)
            if str(config.to_json()) not in assembled:
                assembled.add(str(config.to_json()))
                _assembled(config, axis, value)


def _combinations(axes: Sequence[SearchAxis]) -> Iterator[dict[str, Any]]:
    listed = [axis.values.examples() for axis in axes]
    number = 1
    for examples in listed:
        number *= len(examples)
    if number <= MOST_CHECKED:
        yield from (dict(zip((axis.path for axis in axes), values, strict=True)) for values in product(*listed))


def _checked(candidates: Candidates, parameters: Mapping[str, Any]) -> Config:
    try:
        return candidates.config(parameters)
    except ConfigError as error:
        raise ConfigError(_with_paths(str(error), parameters)) from None


def _with_paths(message: str, parameters: Mapping[str, Any]) -> str:
    """Add to an error the right path of an unknown option, by its last name, or the values that were combined."""
    for path in parameters:
        name = path.rpartition(".")[2]
        if f"--search {path}: {path}: unknown key" in message and "did you mean" not in message:
            place = next(iter(paths_of(name)), None) or path_like(name)
            return message if place is None else f"{message}; did you mean {place}?"
    others = ", ".join(f"{path}={value}" for path, value in parameters.items())
    return message if len(parameters) == 1 else f"{message} (tried together: {others})"


def _assembled(config: Config, axis: SearchAxis, value: Any) -> None:  # noqa: ANN401
    try:
        assemble(config)
    except UserError as error:
        raise type(error)(f"--search {axis.path}: with the value {value}: {error}") from None


def set_at(data: dict[str, Any], path: Sequence[str], value: Any) -> None:  # noqa: ANN401
    """Set one value by its path. Raises ConfigError if a part of the path is not a mapping."""
    at = data
    for part in path[:-1]:
        if at.get(part) is None:
            at[part] = {}
        at = at[part]
        if not isinstance(at, dict):
            kind = "a list" if isinstance(at, list) else "a single value"
            raise ConfigError(
                f"--search {'.'.join(path)}: {part!r} holds {kind}, so nothing below it can be searched; search "
                f"{part!r} itself with a list of values"
            )
    at[path[-1]] = value


def _holds(values: Any, path: Sequence[str]) -> bool:  # noqa: ANN401
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True


def _copied(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value
