"""What can go wrong, as one family.

    PolytaskError
    ├── UserError           the user's input: exit code 2, no traceback
    │   ├── ConfigError     a value in the configuration
    │   ├── DataError       a row of a data file
    │   ├── ModelError      an encoder or a saved model
    │   ├── OutputError     a folder or file to be written
    │   └── MissingExtra    an optional dependency that is not installed
    ├── TrainingError       training cannot go on (a loss that is not finite, a full disk)
    │   ├── NothingToResume no checkpoint of a run that was begun is whole
    │   └── ProcessLost     one of several processes was ended from outside, lost its device, or cannot be reached
    └── Interrupted         stopped on request after saving: exit code 130

Every message says where, what was found, what is accepted, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class PolytaskError(Exception):
    """The base of everything that polytask raises on purpose."""


class UserError(PolytaskError):
    """The input is at fault; the message names the place and the mend.

    Attributes:
        option: the path of the configuration's value that is at fault; empty where it is another thing.
    """

    def __init__(self, *message: object, option: Sequence[str | int] = ()) -> None:
        super().__init__(*message)
        self.option = tuple(option)


class ConfigError(UserError):
    """A value of the configuration is missing, unknown or of the wrong kind."""


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


# What brings each package that is not always installed.
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
    """Return what to install where an import failed for want of an extra; None where it failed for another reason."""
    package = (error.name or "").partition(".")[0]
    return MissingExtra(package, EXTRAS[package], purpose) if package in EXTRAS else None


class TrainingError(PolytaskError):
    """Training cannot go on; what was saved before stays usable."""


class NothingToResume(TrainingError):
    """No checkpoint of a run that was begun is whole."""


class ProcessLost(TrainingError):
    """One of the processes that train together was lost; the same command can go on from the last checkpoint.

    Attributes:
        what: which one, and how.
        code: the exit code of a process that tells the one that started it.
    """

    def __init__(self, what: str, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.what = what
        self.code = code


class Interrupted(PolytaskError):
    """Training stopped on request after the step was finished and saved."""


def nearest(word: str, accepted: Iterable[str]) -> str:
    """Say which names are accepted, and which of them is closest to the one found.

    >>> nearest("lable", ["label", "text"])
    "accepted: label, text; did you mean 'label'?"
    """
    names = sorted(accepted)
    listed = ", ".join(names) if names else "nothing"
    lowered = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.5)
    return f"accepted: {listed}" + (f"; did you mean {lowered[close[0]]!r}?" if close else "")
