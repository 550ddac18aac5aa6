"""Reference dev scores given in the configuration: numbers, or folders of earlier runs."""

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
    """Resolve the folders of runs relative to the configuration's folder."""
    base = (info.context or {}).get("base")
    if values is None or base is None:
        return values
    return {task: resolve(value, Path(base)) for task, value in values.items()}


def read_scores(values: Mapping[str, float | str], metrics: Mapping[str, str], option: str) -> dict[str, float]:
    """Return the reference score of each task.

    Args:
        values: by task a number, or the folder of a run whose dev score of the main metric to use.
        metrics: main metric of each task.
        option: path of the values in the configuration.

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
    """Raise ConfigError if, according to its folder, an earlier run was scored on different dev rows.

    Args:
        values: as in `read_scores`.
        data: data options of this run's tasks.
        option: path of the values in the configuration.
    """
    for task, value in values.items():
        theirs = _data_of(Path(value), task) if isinstance(value, str) else None
        if theirs is not None and _dev_rows(theirs) != _dev_rows(data[task]):
            raise ConfigError(
                f"{option}.{task}: found {value!r}, a run with the dev rows {_named(theirs)}; this run has "
                f"{_named(data[task])}, and scores on different rows are not comparable; "
                f"give a run on these rows, or a number"
            )


def changes(config: Path, now: Mapping[str, Any]) -> list[str]:
    """Return the differences between an earlier run's config.yaml and a configuration, as `path: before -> now`."""
    try:
        before = yaml.safe_load(read_text(config))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return []
    old, new = dict(_leaves("", before)), dict(_leaves("", json.loads(json.dumps(now))))
    return [
        f"{path}: {_shortened(old.get(path))} -> {_shortened(new.get(path))}"
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path)
    ]


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), inner)
    else:
        yield path, value


def _shortened(value: Any) -> str:  # noqa: ANN401
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _data_of(run: Path, task: str) -> DataOptions | None:
    """Return the data options of a task in a run; None if its folder does not contain them."""
    try:
        data = yaml.safe_load(read_text(run / "config.yaml"))["tasks"][task]["data"]
        return DataOptions.model_validate(data)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, RecursionError):
        return None


def _dev_rows(data: DataOptions) -> list[Any]:
    """Return what identifies dev rows: the content of existing files, independent of their paths."""
    held_out = data.dev if isinstance(data.dev, float) else None
    rows = data.train if held_out else data.dev
    parts = list(rows) if isinstance(rows, tuple) else [rows]
    return [data.hub, data.config, held_out, *(_content(part) for part in parts)]


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
