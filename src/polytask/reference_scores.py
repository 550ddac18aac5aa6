"""Dev scores that the configuration gives: numbers, or what an earlier run reached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationInfo

from polytask.errors import ConfigError, nearest
from polytask.files import parse_json
from polytask.options import DataOptions, resolve
from polytask.regular import is_file, read_text


def resolve_runs(values: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
    """Make the folders of runs relative to the configuration's folder."""
    base = (info.context or {}).get("base")
    if values is None or base is None:
        return values
    return {task: resolve(value, Path(base)) for task, value in values.items()}


def read_scores(values: Mapping[str, float | str], metrics: Mapping[str, str], option: str) -> dict[str, float]:
    """Return each task's score.

    Args:
        values: a number, or the folder of a run whose dev score of the task's main metric it is.
        option: the place of the values in the configuration.

    Raises:
        ConfigError: a run has no such score.
    """
    return {
        task: _of_run(task, Path(value), metrics[task], f"{option}.{task}") if isinstance(value, str) else value
        for task, value in values.items()
    }


def _of_run(task: str, run: Path, metric: str, option: str) -> float:
    place = f"{option}: found {str(run)!r}"
    try:
        dev = parse_json(read_text(run / "scores.json"))["dev"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{place}, which holds no scores.json with dev scores; expected a number, or the folder of a finished run"
        ) from None
    if task not in dev:
        raise ConfigError(f"{place}, a run that has no dev scores of {task!r}; {nearest(task, dev)}")
    if dev[task].get(metric) is None:
        raise ConfigError(f"{place}, a run without a dev {metric} of {task!r}; {nearest(metric, dev[task])}")
    return float(dev[task][metric])


def require_same_rows(values: Mapping[str, float | str], data: Mapping[str, DataOptions], option: str) -> None:
    """Raise ConfigError where an earlier run was scored on other dev rows than this one, as far as its folder tells.

    Args:
        values: as in `read_scores`.
        data: where the rows of this run's tasks come from.
    """
    for task, value in values.items():
        theirs = _data_of(Path(value), task) if isinstance(value, str) else None
        if theirs is not None and _dev_rows(theirs) != _dev_rows(data[task]):
            raise ConfigError(
                f"{option}.{task}: found {value!r}, a run with the dev rows {_named(theirs)}; here they are "
                f"{_named(data[task])}, and scores on other rows cannot be compared; name a run on these, or a number"
            )


def changes(config: Path, now: Mapping[str, Any]) -> list[str]:
    """Return what differs between the config.yaml of an earlier run and a configuration: `path: before -> now`."""
    try:
        before = yaml.safe_load(read_text(config))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return []
    old, new = dict(_leaves("", before)), dict(_leaves("", json.loads(json.dumps(now))))
    return [
        f"{path}: {_told(old.get(path))} -> {_told(new.get(path))}"
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path)
    ]


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), inner)
    else:
        yield path, value


def _told(value: Any) -> str:  # noqa: ANN401
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _data_of(run: Path, task: str) -> DataOptions | None:
    """Return where the rows of a run's task came from; None where its folder does not tell."""
    try:
        found = yaml.safe_load(read_text(run / "config.yaml"))["tasks"][task]["data"]
        return DataOptions.model_validate(found)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, RecursionError):
        return None


def _dev_rows(data: DataOptions) -> list[Any]:
    """Return what tells dev rows apart: the content of files that are there, wherever they lie."""
    held = data.dev if isinstance(data.dev, float) else None
    rows = data.train if held else data.dev
    parts = list(rows) if isinstance(rows, tuple) else [rows]
    return [data.hub, data.config, held, *(_content(part) for part in parts)]


def _content(part: Any) -> Any:  # noqa: ANN401
    if not isinstance(part, str) or not is_file(part):
        return part
    with Path(part).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _named(data: DataOptions) -> str:
    if isinstance(data.dev, float):
        return f"{data.dev:g} of {data.train or data.hub}"
    if isinstance(data.dev, tuple):
        return ", ".join(part for part in data.dev if isinstance(part, str)) or f"{len(data.dev)} listed rows"
    return str(data.dev or data.hub)
