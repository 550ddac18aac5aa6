"""Serving a model over HTTP, with micro-batches, limits and a page to try it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from polytask.errors import ConfigError, missing_extra
from polytask.options import build_options, flag_of
from polytask.predict.predictor import Model
from polytask.serving.options import ServeOptions

__all__ = ["ServeOptions", "read_options", "serve", "serve_model"]

KEY_VARIABLE = "POLYTASK_API_KEY"


def serve(model: str | PathLike[str] | Model, *, api_key_file: str | Path | None = None, **options: Any) -> None:  # noqa: ANN401
    """Serve predictions over HTTP until Ctrl-C, SIGTERM, or the stop button of a notebook.

    Args:
        model: a run's folder, a model folder, or a loaded model.
        api_key_file: file with the API key; without it and `api_key`, the variable POLYTASK_API_KEY is used, if set.
        options: options of `ServeOptions`, such as host, port, api_key, max_texts, timeout_s, device and precision.

    Raises:
        ConfigError: an option is unknown or out of range.
        ModelError: the model cannot be loaded.
        UserError: the port is taken.
        MissingExtra: the packages of the extra `serve` are not installed.
    """
    key_file = None if api_key_file is None else Path(api_key_file)
    serve_model(model, read_options(options, key_file, flag=str))


def serve_model(model: str | PathLike[str] | Model, options: ServeOptions) -> None:
    """Serve a model until the process is asked to stop.

    Raises MissingExtra without the packages of the extra `serve`, ModelError for a bad folder, UserError for a port
    that is taken.
    """
    try:
        from polytask.serving.run import run
    except ModuleNotFoundError as error:
        raise missing_extra(error, "polytask serve") or error from None
    run(model, options)


def read_options(
    flags: Mapping[str, Any], key_file: Path | None = None, flag: Callable[[str], str] = flag_of
) -> ServeOptions:
    """Return the options of a command line; None means not given.

    The API key is the given one, or that in the file, or that in the variable POLYTASK_API_KEY.

    Args:
        flags: values of the flags.
        key_file: file with the API key.
        flag: turns the name of an option into the one shown in messages.

    Raises ConfigError for a value out of range, and for a key file that cannot be read.
    """
    values = {name: value for name, value in flags.items() if value is not None}
    if "api_key" not in values and key_file is not None:
        try:
            values["api_key"] = key_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{flag('api_key_file')}: {key_file} cannot be read ({error})") from None
    elif "api_key" not in values and KEY_VARIABLE in os.environ:
        values["api_key"] = os.environ[KEY_VARIABLE].strip()
    if values.get("api_key") == "":
        names = f"{KEY_VARIABLE}, {flag('api_key')} and {flag('api_key_file')}"
        raise ConfigError(f"the API key is empty; leave out {names} to need none")
    return build_options(ServeOptions, values, flag)
