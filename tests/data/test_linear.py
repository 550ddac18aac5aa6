"""Time and memory follow what there is to read: work is counted, and what has no end has a limit."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from polytask.config import document, validate
from polytask.config.document import parse
from polytask.config.root import Config
from polytask.data import files, groups, windows
from polytask.data.readers import read_file
from polytask.data.tokens import TokenRow
from polytask.errors import ConfigError, DataError
from polytask.options import MAX_NUMBER, Options
from polytask.predict.source import PredictionSource
from polytask.serving.options import ServeOptions


def test_windows_of_a_text_copy_each_token_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: Counter[int] = Counter()
    whole = np.asarray

    def counted(values: Any, *rest: Any, **more: Any) -> Any:
        copied[count] += len(values) if isinstance(values, list) else 0
        return whole(values, *rest, **more)

    monkeypatch.setattr(windows.np, "asarray", counted)
    for count in (1000, 4000):
        row = TokenRow(list(range(count)), [0] * count, list(range(1, count - 1)), truncated=False)
        found = windows.cut(row, 20, (1, 1))
        held = sum(len(window.word_tokens) for window in found.rows)
        assert held == count - 2  # each word in one window, and nothing of the others
    assert copied[4000] < 5 * copied[1000]


def by_rows(lengths: list[int], overhead: int) -> int:
    """Return the least cost of cutting ascending lengths, over every row."""
    best = [0]
    for end in range(1, len(lengths) + 1):
        best.append(min(best[start] + (end - start) * lengths[end - 1] + overhead for start in range(end)))
    return best[-1]


@given(st.lists(st.integers(1, 30), max_size=40).map(sorted), st.integers(0, 60))
def test_cutting_by_lengths_costs_as_little_as_by_rows(lengths: list[int], overhead: int) -> None:
    ends = groups.cut(lengths, overhead)
    assert ends == sorted(set(ends))
    assert ends[-1:] == [len(lengths)] * bool(lengths)
    starts = [0, *ends]
    cost = sum((end - start) * lengths[end - 1] + overhead for start, end in zip(starts, ends, strict=False))
    assert cost == by_rows(lengths, overhead)


def test_a_batch_of_many_rows_is_cut_by_its_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Counter[str]()
    whole = np.argmin
    monkeypatch.setattr(groups.np, "argmin", lambda values: calls.update(["argmin"]) or whole(values))
    assert groups.cut([*[5] * 50_000, *[9] * 50_000], overhead=64) == [50_000, 100_000]
    assert calls["argmin"] == 2


# lines


def test_a_line_without_end_is_refused_with_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(files, "MOST_LINE_BYTES", 100)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "a"}) + "\n" + json.dumps({"text": "b" * 200}) + "\n")
    for read in (lambda: read_file(path), lambda: PredictionSource.of(str(path)).rows()):
        with pytest.raises(DataError, match=r"rows.jsonl:2: the line has more than 100 bytes"):
            list(read())


# configurations


def test_an_alias_tree_is_refused_before_it_grows() -> None:
    names = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    with pytest.raises(ConfigError, match="aliases repeat more than 100,000 values"):
        parse("\n".join(["a0: &a0 [1]", *names]), "run.yaml")
    shared = "\n".join(["data: &d {train: a.jsonl, dev: b.jsonl}", *(f"t{n}: {{data: *d}}" for n in range(2000))])
    assert parse(shared, "run.yaml")[0]["t1999"] == {"data": {"train": "a.jsonl", "dev": "b.jsonl"}}


def test_a_number_of_many_digits_is_refused() -> None:
    for number in ("9" * 5000, "1" + ":59" * 2000, "1." + "0" * 5000 + "1"):
        with pytest.raises(ConfigError, match=r"run.yaml:1: found a number of \d+ characters; at most 100"):
            parse(f"epochs: {number}", "run.yaml")
    assert document.MOST_DIGITS == 100
    assert yaml.safe_load("9" * 50) == int("9" * 50)


def kinds(base: type[Options]) -> list[type[Options]]:
    return [found for kind in base.__subclasses__() for found in (kind, *kinds(kind))]


def test_every_whole_number_of_every_option_has_a_limit() -> None:
    assert Config in kinds(Options)
    assert ServeOptions in kinds(Options)
    checked = 0
    for kind in kinds(Options):
        for name, field in kind.model_fields.items():
            if field.annotation not in (int, int | None):
                continue
            checked += 1
            own = [getattr(limit, "le", getattr(limit, "lt", None)) for limit in field.metadata]
            most = max((limit for limit in own if limit is not None), default=MAX_NUMBER)
            with pytest.raises(ValidationError) as caught:
                kind.model_validate({name: most * 10})
            assert any(error["loc"] == (name,) for error in caught.value.errors()), (kind, name)
    assert checked > 40


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("batch_size", 10**9, "train.batch_size: found 1000000000"),
        ("gradient_accumulation_steps", 10**9, "train.gradient_accumulation_steps: found 1000000000"),
        ("epochs", 1e300, "train.epochs: found 1e+300"),
        ("max_steps", 10**12, "train.max_steps: found 1,000,000,000,000; at most 1,000,000,000 is accepted"),
    ],
)
def test_a_number_beyond_use_is_told_with_its_limit(place: str, value: float, told: str) -> None:
    rows = [{"text": "a", "label": "x"}]
    task = {"type": "classification", "data": {"train": rows}}
    with pytest.raises(ConfigError) as caught:
        validate({"encoder": "e", "tasks": {"a": task}, "train": {place: value}})
    assert told in str(caught.value)
