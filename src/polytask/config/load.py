"""Read a configuration: YAML, overrides, and the check; every mistake names place, value and nearest name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from polytask.config.document import Path_, apply_override, parse
from polytask.config.explain import explain
from polytask.config.root import Config, extensions_in
from polytask.errors import ConfigError, nearest
from polytask.extensions import import_extensions


def load_config(path: Path, overrides: Sequence[str] = (), *, trusted: bool = True) -> Config:
    """Read a YAML file and apply overrides such as "train.epochs=1". Raises ConfigError listing all that is wrong.

    Args:
        trusted: whether a person named the file, so that the extensions that it names may be imported; False for one
            that lies in a folder.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        folder = path.parent
        found = [item.name for item in folder.glob("*.y*ml")] if folder.is_dir() else []
        raise ConfigError(f"{path}: no such file ({nearest(path.name, found)})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    data, marks = parse(text, str(path))
    if not isinstance(data, dict):
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
    place = (places or {}).get(("extensions",), name)
    context = {"base": None if base is None else str(base), "trusted": trusted, "name": f"{place}: extensions"}
    if trusted:
        import_extensions(extensions_in(data), base, f"{place}: extensions")
    try:
        config = Config.model_validate(data, context=context)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, data, places or {}, name))) from None
    return config.stands_at(places or {})
