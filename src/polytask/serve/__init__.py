"""Serving: one model behind HTTP, with micro-batches, limits and a page to try it on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from polytask.errors import UserError, missing_extra
from polytask.serve.options import ServeOptions

__all__ = ["ServeOptions", "read_options", "serve"]

KEY_VARIABLE = "POLYTASK_API_KEY"


def serve(folder: Path, options: ServeOptions) -> None:
    """Serve a model folder until the process is told to stop.

    Raises MissingExtra without the packages of the extra `serve`, ModelError for a bad folder, UserError for a port
    that is taken.
    """
    try:
        from polytask.serve.run import run
    except ModuleNotFoundError as error:
        raise missing_extra(error, "polytask serve") or error from None
    run(folder, options)


def read_options(given: Mapping[str, Any], key_file: Path | None = None) -> ServeOptions:
    """Return the options of a command line; what is None was not given.

    The key is the first of: the one given, that in the file, that in the variable POLYTASK_API_KEY.
    Raises UserError for a value that is out of range and for a key file that cannot be read.
    """
    values = {name: value for name, value in given.items() if value is not None}
    if "api_key" not in values and key_file is not None:
        try:
            values["api_key"] = key_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--api-key-file: {key_file} cannot be read ({error})") from None
    elif "api_key" not in values and KEY_VARIABLE in os.environ:
        values["api_key"] = os.environ[KEY_VARIABLE].strip()
    if values.get("api_key") == "":
        raise UserError(f"the API key is empty; leave out {KEY_VARIABLE}, --api-key and --api-key-file to need none")
    try:
        return ServeOptions(**values)
    except ValidationError as error:
        raise UserError("; ".join(_sentence(details) for details in error.errors(include_url=False))) from None


def _sentence(details: Any) -> str:  # noqa: ANN401
    message = details["msg"].removeprefix("Value error, ")
    if not details["loc"]:
        return message
    message = message.replace("Input should be", "expected")
    told = message if message.startswith("found ") else f"found {details['input']!r}; {message}"
    return f"--{str(details['loc'][0]).replace('_', '-')}: {told}"
