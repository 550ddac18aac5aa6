"""Reads configurations: YAML, overrides and the check. Errors name the place, the value and the nearest name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, ValidationError

from polytask.config.document import Path_, apply_overrides, bad_colon, parse
from polytask.config.explain import explain
from polytask.config.root import Config as Fields
from polytask.config.root import extensions_in
from polytask.data.paths import find_format
from polytask.errors import ConfigError, nearest
from polytask.extensions import import_extensions


class Config(Fields):
    """The configuration of a complete run."""

    def __init__(self, **values: Any) -> None:  # noqa: ANN401
        """Check values in the same way as those of a file in the working folder.

        >>> from polytask import Config
        >>> rows = [{"text": "A moving film.", "label": "yes"}, {"text": "Not for me.", "label": "no"}]
        >>> tasks = {"liked": {"type": "classification", "data": {"train": rows, "dev": rows}}}
        >>> Config(encoder="bert-base-uncased", tasks=tasks).max_tokens
        128
        >>> Config(encoder="bert-base-uncased", tasks=tasks, trian={"epochs": 1})
        Traceback (most recent call last):
        polytask.errors.ConfigError: config: trian: unknown key; accepted: ...; did you mean 'train'?

        Raises:
            ConfigError: with one line for each mistake.
        """
        values = _with_path(values)
        try:
            self.__pydantic_validator__.validate_python(values, self_instance=self, context=_context(Path()))
        except ValidationError as error:
            raise ConfigError("\n".join(explain(error, _as_values(values), {}, "config"))) from None

    # Pydantic's own constructors (model_validate) use a context of their own and do not call this method.
    __init__.__pydantic_base_init__ = True  # pyright: ignore[reportFunctionMemberAccess]


def _context(base: Path | None) -> dict[str, Any]:
    """Return the context of the checks: the folder of relative paths, and the tables read so far."""
    return {"base": None if base is None else str(base), "rows": {}}


def _with_path(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with the encoder's folder as text if it was given as a path."""
    copied = dict(values)
    if isinstance(copied.get("encoder"), PurePath):
        copied["encoder"] = str(copied["encoder"])
    return copied


def _as_values(value: Any) -> Any:  # noqa: ANN401
    """Return plain values, converting options objects among them."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {key: _as_values(item) for key, item in value.items()}
    return value


def load_config(path: Path, overrides: Sequence[str] = (), *, trusted: bool = True) -> Config:
    """Read a YAML file and apply overrides such as "train.epochs=1". Raises ConfigError listing all mistakes.

    Args:
        trusted: whether the user named the file, so that the extensions that it names may be imported; False for a file
            inside a model or run folder.
    """
    if find_format(path) not in (None, "json"):
        raise ConfigError(f"{path}: a data file, not a configuration; `polytask init {path}` writes one for it")
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        folder = path.parent
        others = [item.name for item in folder.glob("*.y*ml")] if folder.is_dir() else []
        hint = f" ({nearest(path.name, others)})" if others else "; polytask init DATA writes a first one"
        raise ConfigError(f"{path}: no such file{hint}") from None
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
    apply_overrides(data, overrides, places)
    return validate(data, base=path.parent, places=places, name=str(path), trusted=trusted)


def validate(
    data: Mapping[str, Any],
    *,
    base: Path | None = None,
    places: Mapping[Path_, str] | None = None,
    name: str = "config",
    trusted: bool = True,
) -> Config:
    """Check plain values. Raises ConfigError with one line for each mistake.

    Args:
        base: folder that paths in the configuration are relative to.
        places: file and line of each value, by its path.
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
    config.set_places(places or {})
    return config


def values_of(config: Config) -> dict[str, Any]:
    """Return the values that were set in a configuration, so that some of them can be replaced."""
    return config.model_dump(mode="json", exclude_unset=True)


def without_test(config: Config) -> Config:
    """Return the configuration without the test rows of its tasks, so that no run can see them."""
    values = values_of(config)
    for task in values["tasks"].values():
        task["data"].pop("test", None)
    return validate(values)


def with_fold(config: Config, number: int, of: int) -> Config:
    """Return the configuration with a fold of its training rows held out, which takes the place of the test rows."""
    values = values_of(config)
    for task in values["tasks"].values():
        task["data"] = {name: value for name, value in task["data"].items() if name != "test"}
        task["data"]["fold"] = f"{number}/{of}"
    return validate(values)


def override_values(values: Mapping[str, Any], overrides: Sequence[str]) -> Config:
    """Check plain values with overrides such as "train.epochs=1"; paths are relative to the working folder."""
    data, places = _copied(values), dict[Path_, str]()
    apply_overrides(data, overrides, places)
    return validate(data, base=Path(), places=places)


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the mappings, so that overrides do not change the original."""
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in values.items()}
