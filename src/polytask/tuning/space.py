"""The search space: options by path, each with a range or a list of values, in the notation of `--search`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from polytask.config.document import parse, split_values
from polytask.errors import ConfigError

# By path, a text as after `--search PATH=`, or a list of values; or texts as after `--search`.
Search: TypeAlias = "Mapping[str, str | Sequence[Any]] | Sequence[str]"

FORMS = "log:1e-5:1e-3, int:0:6 (or int:8:64:8, in steps), 1:5, or a list such as sum,rows"
# More options than this cannot be searched in a practical number of trials.
MOST_AXES = 20
MOST_CHOICES = 100
_NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"\s*{_NUMBER}\s*:\s*{_NUMBER}\s*")
_DIGITS = 4  # significant digits of suggested numbers


@dataclass(frozen=True)
class Range:
    """Numbers between two ends (inclusive).

    Attributes:
        kind: log (uniform on a logarithmic scale), uniform, or int (whole numbers).
        step: distance between whole numbers.
    """

    kind: str
    low: float
    high: float
    step: int = 1

    def value_of(self, suggestion: Any) -> int | float:  # noqa: ANN401
        """Return the option's value for a suggested number: four significant digits, within the range."""
        if self.kind == "int":
            return int(suggestion)
        return min(max(float(f"{suggestion:.{_DIGITS}g}"), self.low), self.high)

    def examples(self) -> list[int | float]:
        """Return values to check that the option accepts the range: its ends, and one in between."""
        if self.kind == "int":
            last = self.low + (self.high - self.low) // self.step * self.step
            return [int(self.low), int(last)]
        middle = math.sqrt(self.low * self.high) if self.kind == "log" else self.low + 0.381966 * (self.high - self.low)
        return list(dict.fromkeys([self.low, self.high, self.value_of(middle)]))

    def holds(self, value: Any) -> bool:  # noqa: ANN401
        """Whether a value of the configuration lies in the range."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        return self.kind != "int" or (float(value).is_integer() and (value - self.low) % self.step == 0)

    def to_json(self) -> dict[str, Any]:
        """Return the range as JSON."""
        step = {"step": self.step} if self.kind == "int" else {}
        return {"kind": self.kind, "low": self.low, "high": self.high, **step}


@dataclass(frozen=True)
class Choices:
    """Values to choose from, as YAML texts."""

    texts: tuple[str, ...]

    def value_of(self, suggestion: Any) -> Any:  # noqa: ANN401
        """Return the value of a text."""
        return parse(str(suggestion), "--search")[0]

    def examples(self) -> list[Any]:
        """Return all values."""
        return [self.value_of(text) for text in self.texts]

    def text_of(self, value: Any) -> str | None:  # noqa: ANN401
        """Return the text of a value of the configuration; None if it is not among the choices."""
        return next((text for text in self.texts if self.value_of(text) == value), None)

    def to_json(self) -> dict[str, Any]:
        """Return the choices as JSON."""
        return {"kind": "choice", "values": self.examples()}


@dataclass(frozen=True)
class SearchAxis:
    """A searched option, and its range or choices."""

    path: str
    values: Range | Choices

    @property
    def parts(self) -> tuple[str, ...]:
        """The keys of the path."""
        return tuple(self.path.split("."))


def read_search(search: Search) -> list[SearchAxis]:
    """Parse the search space. Raises ConfigError that names the option.

    >>> [axis.values for axis in read_search(["train.learning_rate=log:1e-5:1e-3", "balance.method=sum,rows"])]
    [Range(kind='log', low=1e-05, high=0.001, step=1), Choices(texts=('sum', 'rows'))]
    """
    axes = [_read_pair(path, values) for path, values in _pairs(search)]
    if not axes:
        raise ConfigError(f"--search: found nothing to search; give a path with {FORMS}, once for each option")
    if len(axes) > MOST_AXES:
        raise ConfigError(f"--search: found {len(axes)} options; at most {MOST_AXES} are searched at once")
    for index, axis in enumerate(axes):
        for other in axes[:index]:
            shorter, longer = sorted((axis.parts, other.parts), key=len)
            if longer[: len(shorter)] == shorter:
                problem = "found twice" if longer == shorter else f"it holds {'.'.join(longer)}, which is searched too"
                raise ConfigError(f"--search {'.'.join(shorter)}: {problem}; leave one of them out")
    return axes


def _pairs(search: Search) -> Iterator[tuple[str, Any]]:
    if isinstance(search, str) or not isinstance(search, Mapping | Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"search: found {search!r}; expected a mapping of paths to {FORMS}")
    if isinstance(search, Mapping):
        yield from search.items()
        return
    for text in search:
        path, equals, values = str(text).partition("=")
        if not equals:
            raise ConfigError(f"--search {text}: expected PATH=VALUES, with values such as {FORMS}")
        yield path, values


def _read_pair(path: Any, values: Any) -> SearchAxis:  # noqa: ANN401
    parts = [part.strip() for part in str(path).split(".")]
    if not all(parts):
        raise ConfigError(f"--search {path}: a path is names joined by dots, such as train.learning_rate")
    place = f"--search {'.'.join(parts)}"
    if isinstance(values, str):
        return SearchAxis(".".join(parts), read_values(values, place))
    if not isinstance(values, Sequence) or not values:
        raise ConfigError(f"{place}: found {values!r}; expected a list of values, or a text: {FORMS}")
    return SearchAxis(".".join(parts), _choices([_written(value, place) for value in values], place))


def _written(value: Any, place: str) -> str:  # noqa: ANN401
    """Write a Python value as a line of YAML."""
    import json

    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        raise ConfigError(f"{place}: found {value!r}; expected plain values: text, numbers, lists, mappings") from None


def read_values(text: str, place: str) -> Range | Choices:
    """Parse the text after the path. Raises ConfigError that begins with the place.

    >>> read_values("int:0:6", "--search x"), read_values("1:5", "--search x")
    (Range(kind='int', low=0, high=6, step=1), Range(kind='uniform', low=1.0, high=5.0, step=1))
    """
    kind, colon, rest = (part.strip() for part in text.partition(":"))
    if colon and kind in ("log", "int"):
        return _range(kind, rest.split(":"), text, place)
    if _RANGE.fullmatch(text):
        return _range("uniform", text.split(":"), text, place)
    return _choices(list(split_values(text, place)), place)


def _range(kind: str, parts: Sequence[str], text: str, place: str) -> Range:
    problem = f"{place}: found {text.strip()!r}"
    if len(parts) not in ((2, 3) if kind == "int" else (2,)):
        raise ConfigError(f"{problem}; expected two ends, such as {FORMS}")
    numbers = [_number(part, kind, problem) for part in parts]
    low, high = numbers[:2]
    if not low < high:
        raise ConfigError(f"{problem}; the first end has to be smaller than the second one")
    if kind == "log" and low <= 0:
        raise ConfigError(f"{problem}; a logarithmic scale has numbers above 0: begin above 0, or leave `log:` out")
    step = int(numbers[2]) if len(numbers) > 2 else 1
    if kind == "int" and not 1 <= step <= high - low:
        raise ConfigError(f"{problem}; a step is at least 1 and at most the distance between the ends, {high - low:g}")
    return Range(kind, low, high, step)


def _number(text: str, kind: str, context: str) -> float:
    try:
        value = float(text) if re.fullmatch(_NUMBER, text.strip()) else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e15:
        raise ConfigError(f"{context}; {text.strip()!r} is not a valid number for an end")
    if kind != "int":
        return value
    if not value.is_integer():
        raise ConfigError(f"{context}; {text.strip()!r} is not a whole number; leave `int:` out for fractional numbers")
    return int(value)


def _choices(texts: Sequence[str], place: str) -> Choices:
    choices = Choices(tuple(texts))
    values = [parse(text, place)[0] for text in texts]
    if any(value in values[:index] for index, value in enumerate(values)):
        raise ConfigError(f"{place}: found {','.join(texts)}; list a value once")
    if len(values) == 1:
        raise ConfigError(
            f"{place}: found only {texts[0]!r}, which leaves nothing to search; give {FORMS}, or set it with --set"
        )
    if len(values) > MOST_CHOICES:
        raise ConfigError(f"{place}: found {len(values)} values; at most {MOST_CHOICES}: search a range instead")
    return choices
