"""Reading of a folder: problems become sentences for the page, never exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from polytask.files import parse_json
from polytask.page.form import EventForm, PredictionForm
from polytask.regular import read_text as read_regular

T = TypeVar("T")


@dataclass(frozen=True)
class ReadResult(Generic[T]):
    """Content of a file, or the reason why it cannot be read.

    Attributes:
        value: the content; None if there is a problem.
        problem: a sentence for the page; empty if there is no problem.
    """

    value: T | None
    problem: str = ""


@dataclass(frozen=True)
class ReadLines(Generic[T]):
    """Content of the lines of a file, and a sentence about unreadable ones."""

    values: tuple[T, ...]
    problem: str = ""


def read(folder: Path, name: str, form: type[T]) -> ReadResult[T]:
    """Read a JSON file with a known form."""
    try:
        value = parse_json(read_regular(folder / name))
    except FileNotFoundError:
        return ReadResult(None, f"{name} is not in the folder.")
    except OSError as error:
        return ReadResult(None, f"{name} cannot be read ({error.strerror}).")
    except ValueError as error:
        return ReadResult(None, f"{name} is not JSON ({error}).")
    return _shaped(name, value, TypeAdapter(form))


def read_events(folder: Path, *, grows: bool = False) -> ReadLines[EventForm]:
    """Read events.jsonl.

    Args:
        folder: folder of the run.
        grows: whether the run may still be writing it; an incomplete last line is then ignored.
    """
    return _read_lines(folder / "events.jsonl", "events.jsonl", TypeAdapter(EventForm), grows=grows)


def read_predictions(folder: Path, task: str) -> ReadLines[PredictionForm]:
    """Read the predictions of a task."""
    name = f"predictions/{task}.jsonl"
    return _read_lines(folder / name, name, TypeAdapter(PredictionForm))


def read_config(folder: Path) -> ReadResult[dict[str, Any]]:
    """Read config.yaml as plain values."""
    try:
        value = yaml.safe_load(read_regular(folder / "config.yaml"))
    except FileNotFoundError:
        return ReadResult(None, "config.yaml is not in the folder.")
    except RecursionError:
        return ReadResult(None, "config.yaml is nested too deeply.")
    except (OSError, ValueError, yaml.YAMLError) as error:
        return ReadResult(None, f"config.yaml cannot be read ({' '.join(str(error).split())}).")
    if not isinstance(value, dict):
        return ReadResult(None, "config.yaml does not contain a configuration.")
    return ReadResult({str(key): item for key, item in value.items()})


def read_text(folder: Path, name: str) -> str | None:
    """Return the content of a text file; None if it cannot be read."""
    try:
        return read_regular(folder / name, errors="replace")
    except OSError:
        return None


def _shaped(name: str, value: Any, form: TypeAdapter[T]) -> ReadResult[T]:  # noqa: ANN401
    try:
        return ReadResult(form.validate_python(value))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole file"
        return ReadResult(
            None, f"{name} does not have the form that this version reads ({place}: {first['msg'].lower()})."
        )


def _read_lines(path: Path, name: str, form: TypeAdapter[T], *, grows: bool = False) -> ReadLines[T]:
    if not path.is_file():
        return ReadLines((), f"{name} is not in the folder.")
    valid: list[T] = []
    wrong: list[int] = []
    for number, line in _numbered(path):
        try:
            valid.append(form.validate_python(parse_json(line)))
        except ValueError:  # includes ValidationError
            if not grows or line.endswith("\n"):
                wrong.append(number)
    if not wrong:
        return ReadLines(tuple(valid), "" if valid else f"{name} is empty.")
    counted = "1 line" if len(wrong) == 1 else f"{len(wrong)} lines"
    return ReadLines(tuple(valid), f"{counted} of {name} could not be read; the first one is line {wrong[0]}.")


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
