"""Cells that hold several values: what was written as a list is read as that list, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.tasks.cells import listed, split_cell

texts = st.text(st.characters(exclude_categories=["Cs"]))
items = st.lists(st.one_of(texts, st.integers(-(2**53), 2**53), st.booleans(), st.none()))


@given(values=items)
def test_lists_come_back_from_the_forms_of_json_and_python(values: list[Any]) -> None:
    assert listed(json.dumps(values)) == values
    assert listed(f" {json.dumps(values, ensure_ascii=False)} ") == values
    assert listed(str(values)) == values
    words = [str(value) for value in values]
    assert listed(str(tuple(words))) == words


@pytest.mark.parametrize(
    "cell",
    [
        "['EU' 'rejects']", "[EU, rejects]", "['EU', 'rej", "[", "[]]", "[1_2]", "[007]", "['a' , , 'b']", "[['a']]",
        '[{"a": 1}]', "['a'] b", "[u'a']", "[a b]", "[" * 5000, "['a\\x']", "[__import__('os')]", "[1, 2, ...]",
    ],
)  # fmt: skip
def test_what_begins_as_a_list_and_is_none_is_refused(cell: str) -> None:
    with pytest.raises(
        ValueError, match=r"found .*, which begins like a list and cannot be read as one; write lists as"
    ):
        listed(cell)


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("[]", []), ("[ ]", []), ("['a',]", ["a"]), ("[0, 1.0]", [0, 1.0]), ("['it\\'s', \"a,b\"]", ["it's", "a,b"]),
        ("()", []), (" ( ) ", []), ("('a',)", ["a"]), ("('a', 'b')", ["a", "b"]),
        ("[None, true]", [None, True]), ("['a\\\\d']", ["a\\d"]), ("['\\d']", ["\\d"]), ('["\\u00e9"]', ["é"]),
    ],
)  # fmt: skip
def test_lists_of_people(cell: str, found: list[Any]) -> None:
    assert listed(cell) == found


@given(
    text=texts.filter(lambda text: text.strip()[:1] not in ("[", "("))
    | st.sampled_from(["(a)", "(a, b)", ")", "(", "('a')"])
)
def test_other_text_is_no_list(text: str) -> None:
    assert listed(text) is None
    assert split_cell(text) == text.split()


def test_a_long_cell_costs_time_in_proportion() -> None:
    many = str(["word"] * 200_000)
    assert listed(many) == ["word"] * 200_000
    with pytest.raises(ValueError, match="cannot be read as one"):
        listed(many[:-1] + " ")
