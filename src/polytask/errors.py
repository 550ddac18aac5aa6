"""The exceptions of polytask.

    PolytaskError
    ├── UserError           the user's input: exit code 2, no traceback
    │   ├── ConfigError     a value in the configuration
    │   ├── DataError       a row of a data file
    │   ├── ModelError      an encoder or a saved model
    │   ├── OutputError     a folder or file to be written
    │   └── MissingExtra    an optional dependency that is not installed
    ├── TrainingError       training cannot continue (a loss that is not finite, a full disk)
    │   ├── NothingToResume no checkpoint of a started run is complete
    │   └── ProcessLost     one of several processes was killed, lost its device, or cannot be reached
    └── Interrupted         stopped on request after saving: exit code 130

Every message says where, what was found, what is accepted, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class PolytaskError(Exception):
    """Base class of all exceptions that polytask raises."""


class UserError(PolytaskError):
    """The input is invalid; the message says where, and how to fix it.

    Attributes:
        option: path of the invalid value in the configuration; empty if the problem lies elsewhere.
    """

    def __init__(self, *message: object, option: Sequence[str | int] = ()) -> None:
        super().__init__(*message)
        self.option = tuple(option)


class ConfigError(UserError):
    """A value in the configuration is missing, unknown or of the wrong type."""


class DataError(UserError):
    """A data file, or a row of it, cannot be used."""


class ModelError(UserError):
    """An encoder or a saved model cannot be loaded."""


class OutputError(UserError):
    """An output folder or file cannot be written as asked."""


class MissingExtra(UserError):
    """An optional dependency is needed; the message is its install command."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: pip install 'polytask[{extra}]'"
        )


# The extra that installs each optional package.
EXTRAS = {
    **dict.fromkeys(
        ("torch", "transformers", "safetensors", "torchjd", "datasets", "pandas", "pyarrow", "scipy"),
        "train",
    ),
    "onnxruntime": "onnx-runtime",
    **dict.fromkeys(("onnx", "onnxscript"), "export"),
    **dict.fromkeys(("fastapi", "uvicorn", "prometheus_client"), "serve"),
    "optuna": "tune",
    "ray": "ray",
    "pyspark": "spark",
    "apache_beam": "beam",
}


def missing_extra(error: ModuleNotFoundError, purpose: str = "this") -> MissingExtra | None:
    """Return an error with the install command if an extra is missing; None if the import failed for another reason."""
    package = (error.name or "").partition(".")[0]
    return MissingExtra(package, EXTRAS[package], purpose) if package in EXTRAS else None


class TrainingError(PolytaskError):
    """Training cannot continue; everything saved so far stays usable."""


class NothingToResume(TrainingError):
    """No checkpoint of a started run is complete."""


class ProcessLost(TrainingError):
    """One of the processes that train together was lost; the same command can resume from the last checkpoint.

    Attributes:
        description: which process was lost, and how.
        code: exit code with which the command ends.
    """

    def __init__(self, description: str, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.description = description
        self.code = code


class Interrupted(PolytaskError):
    """Training was stopped on request, after the step was finished and saved.

    Attributes:
        run: the complete `polytask.Run`, if the request came after its last step; None if the run can be resumed.
    """

    def __init__(self, message: str, run: Any = None) -> None:  # noqa: ANN401
        super().__init__(message)
        self.run = run


def nearest(word: str, accepted: Iterable[str]) -> str:
    """Return the accepted names as text, and suggest the one closest to `word`.

    >>> nearest("lable", ["label", "text"])
    "accepted: label, text; did you mean 'label'?"
    """
    names = sorted(accepted)
    listed = ", ".join(names) if names else "nothing"
    lowered = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.5)
    return f"accepted: {listed}" + (f"; did you mean {lowered[close[0]]!r}?" if close else "")
