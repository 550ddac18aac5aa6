"""What `--search` is given is read as it is written, or told with the place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.config import validate
from polytask.errors import ConfigError
from polytask.tuning.candidates import Candidates
from polytask.tuning.space import Choices, Range, read_search, read_values

ENDS = st.floats(min_value=1e-9, max_value=1e9)


@given(st.text())
def test_any_text_is_a_range_choices_or_an_error_that_names_the_place(text: str) -> None:
    told = ""
    try:
        examples = read_values(text, "--search a.b").examples()
    except ConfigError as error:
        examples, told = [], str(error)
    assert len(examples) >= 2 or told.startswith("--search a.b")


@given(ENDS, ENDS, st.sampled_from(["log:", ""]))
def test_a_range_gives_numbers_within_its_ends(first: float, second: float, kind: str) -> None:
    low, high = sorted((first, second))
    if low == high:
        return
    values = read_values(f"{kind}{low!r}:{high!r}", "--search x")
    assert isinstance(values, Range)
    assert (values.low, values.high) == (low, high)
    for tried in (low, high, (low + high) / 2):
        assert low <= values.value_of(tried) <= high
        assert values.holds(values.value_of(tried))


@given(st.integers(-1000, 1000), st.integers(1, 1000), st.integers(1, 50))
def test_whole_numbers_in_steps(low: int, width: int, step: int) -> None:
    text = f"int:{low}:{low + width}:{step}"
    if step > width:
        with pytest.raises(ConfigError, match="a step is at least 1"):
            read_values(text, "--search x")
        return
    values = read_values(text, "--search x")
    assert isinstance(values, Range)
    assert all(isinstance(value, int) and values.holds(value) for value in values.examples())
    assert not values.holds(low + 0.5)
    assert not values.holds(low + width + 1)


PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-9999, 9999), st.floats(allow_nan=False, allow_infinity=False),
    st.text("abcdefg, :{}[]'\"#-", max_size=12),
)  # fmt: skip


@given(st.lists(st.one_of(PLAIN, st.lists(PLAIN, max_size=3)), min_size=2, max_size=5))
def test_a_list_of_python_values_comes_back(values: list[Any]) -> None:
    if any(value in values[:place] for place, value in enumerate(values)):
        with pytest.raises(ConfigError, match="list a value once"):
            read_search({"a.b": values})
        return
    (axis,) = read_search({"a.b": values})
    assert isinstance(axis.values, Choices)
    assert axis.values.examples() == values


def test_choices_are_cut_outside_of_brackets() -> None:
    values = read_values("{strategy: global},{strategy: partial, shared_layers: 3}", "--search sharing")
    assert values.examples() == [{"strategy": "global"}, {"strategy": "partial", "shared_layers": 3}]


WRONG = {
    "log:1e-3:1e-5": "has to be smaller than the second",
    "log:0:1": "a logarithmic scale has numbers above 0",
    "log:1": "expected two ends",
    "log:a:b": "'a' is not a valid number",
    "int:0:1.5": "'1.5' is not a whole number",
    "int:0:6:9": "a step is at least 1",
    "1:1": "has to be smaller",
    "sum": "leaves nothing to search",
    "sum,sum": "list a value once",
    "sum,": "a value is empty",
    "": "a value is empty",
    "[1,2": "] is missing",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_values_are_told(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--search x: .*") as raised:
        read_search([f"x={text}"])
    assert WRONG[text] in str(raised.value)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (["x"], "expected PATH=VALUES"),
        (["x=1:2", "x=1:3"], "--search x: found twice"),
        (["x=a,b", "x.y=1:2"], "it holds x.y, which is searched too"),
        (["x..y=1:2"], "a path is names joined by dots"),
        ({"x": []}, "expected a list of values"),
        ({"x": [object(), 1]}, "expected plain values"),
        ([f"x{number}=1:2" for number in range(21)], "at most 20"),
        ("x=1:2", "expected a mapping"),
    ],
)
def test_wrong_searches_are_told(search: Any, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_search(search)
    assert message in str(raised.value)


@pytest.mark.parametrize(("values", "expected"), [("auto,uniform", "auto"), ("proportional,uniform", "proportional")])
def test_the_unchanged_configuration_is_found_as_auto_or_as_what_it_means(values: str, expected: str) -> None:
    given = validate({"encoder": "x", "tasks": {"a": {"type": "classification", "data": {"train": "a.csv"}}}})
    resolved = given.model_copy(update={"schedule": given.schedule.model_copy(update={"proportions": "proportional"})})
    axes = read_search([f"schedule.proportions={values}"])
    found = Candidates({}, tuple(axes)).as_it_is(resolved, given)
    assert found == {"schedule.proportions": expected}
