"""Read a configuration: YAML, overrides, and the check; every mistake names place, value and nearest name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, ValidationError

from polytask.config.document import Path_, apply_override, bad_colon, parse
from polytask.config.explain import explain
from polytask.config.root import Config as Fields
from polytask.config.root import extensions_in
from polytask.data.paths import find_format
from polytask.errors import ConfigError, nearest
from polytask.extensions import import_extensions


class Config(Fields):
    """A complete run."""

    def __init__(self, **values: Any) -> None:  # noqa: ANN401
        """Check values as those of a file that lies in the working folder.

        >>> from polytask import Config
        >>> rows = [{"text": "A moving film.", "label": "yes"}, {"text": "Not for me.", "label": "no"}]
        >>> tasks = {"liked": {"type": "classification", "data": {"train": rows, "dev": rows}}}
        >>> Config(encoder="bert-base-uncased", tasks=tasks).max_tokens
        128
        >>> Config(encoder="bert-base-uncased", tasks=tasks, trian={"epochs": 1})
        Traceback (most recent call last):
        polytask.errors.ConfigError: config: trian: unknown key; accepted: ...; did you mean 'train'?

        Raises:
            ConfigError: with one line for each thing that is wrong.
        """
        values = _with_path(values)
        try:
            self.__pydantic_validator__.validate_python(values, self_instance=self, context=_context(Path()))
        except ValidationError as error:
            raise ConfigError("\n".join(explain(error, _as_values(values), {}, "config"))) from None

    # What pydantic builds itself (model_validate) it checks with a context of its own, and does not pass through here.
    __init__.__pydantic_base_init__ = True  # pyright: ignore[reportFunctionMemberAccess]


def _context(base: Path | None) -> dict[str, Any]:
    """Return what the checks know beside the values: the folder of relative paths, and the tables read so far."""
    return {"base": None if base is None else str(base), "rows": {}}


def _with_path(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with the encoder's folder as text, where it was given as a path."""
    found = dict(values)
    if isinstance(found.get("encoder"), PurePath):
        found["encoder"] = str(found["encoder"])
    return found


def _as_values(value: Any) -> Any:  # noqa: ANN401
    """Return plain values where some were given as options that are built already."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {key: _as_values(item) for key, item in value.items()}
    return value


def load_config(path: Path, overrides: Sequence[str] = (), *, trusted: bool = True) -> Config:
    """Read a YAML file and apply overrides such as "train.epochs=1". Raises ConfigError listing all that is wrong.

    Args:
        trusted: whether a person named the file, so that the extensions that it names may be imported; False for one
            that lies in a folder.
    """
    if find_format(path) not in (None, "json"):
        raise ConfigError(f"{path}: a data file, no configuration; `polytask init {path}` writes one for it")
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        folder = path.parent
        found = [item.name for item in folder.glob("*.y*ml")] if folder.is_dir() else []
        told = f" ({nearest(path.name, found)})" if found else "; polytask init DATA writes a first one"
        raise ConfigError(f"{path}: no such file{told}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8; save the configuration as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    data, marks = parse(text, str(path))
    if not isinstance(data, dict):
        if (colon := bad_colon(text)) is not None:
            raise ConfigError(f"{path}:{colon[0] + 1}: {colon[1]}")
        kind = "a list" if isinstance(data, list) else repr(data)
        raise ConfigError(f"{path}: found {kind}; a configuration is a mapping of keys to values")
    places = {key: f"{path}:{line}" for key, line in marks.items()}
    for override in overrides:
        apply_override(data, override, places)
    return validate(data, base=path.parent, places=places, name=str(path), trusted=trusted)


def validate(
    data: Mapping[str, Any],
    *,
    base: Path | None = None,
    places: Mapping[Path_, str] | None = None,
    name: str = "config",
    trusted: bool = True,
) -> Config:
    """Check plain values. Raises ConfigError with one line for each thing that is wrong.

    Args:
        base: folder that paths in the configuration are relative to.
        places: where each value stands, by its path.
        trusted: as for `load_config`.
    """
    data = _with_path(data)
    place = (places or {}).get(("extensions",), name)
    context = {"base": None if base is None else str(base), "trusted": trusted, "name": f"{place}: extensions"}
    if trusted:
        import_extensions(extensions_in(data), base, f"{place}: extensions")
    try:
        config = Config.model_validate(data, context={**_context(base), **context})
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, _as_values(data), places or {}, name))) from None
    config.stands_at(places or {})
    return config


def values_of(config: Config) -> dict[str, Any]:
    """Return what was set in a configuration as plain values, so that another strategy may stand in its place."""
    return config.model_dump(mode="json", exclude_unset=True)


def without_test(config: Config) -> Config:
    """Return a configuration whose tasks have no test rows, so that no run of it can see them."""
    values = values_of(config)
    for task in values["tasks"].values():
        task["data"].pop("test", None)
    return validate(values)


def with_fold(config: Config, number: int, of: int) -> Config:
    """Return a configuration that leaves a fold of its training rows out, and answers it in place of test rows."""
    values = values_of(config)
    for task in values["tasks"].values():
        task["data"] = {name: found for name, found in task["data"].items() if name != "test"}
        task["data"]["fold"] = f"{number}/{of}"
    return validate(values)


def override_values(values: Mapping[str, Any], overrides: Sequence[str]) -> Config:
    """Check plain values with overrides such as "train.epochs=1"; paths are relative to the working folder."""
    data, places = _copied(values), dict[Path_, str]()
    for override in overrides:
        apply_override(data, override, places)
    return validate(data, base=Path(), places=places)


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the mappings, so that an override changes nothing of what was given."""
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in values.items()}
