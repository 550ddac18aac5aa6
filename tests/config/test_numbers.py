"""True and false are no numbers, in any option of any class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import ValidationError

import polytask as pt
from polytask import ConfigError
from polytask.options import Options


def classes(base: type[Options] = Options) -> Iterator[type[Options]]:
    for kind in base.__subclasses__():
        if kind.__module__.startswith("polytask."):
            yield kind
            yield from classes(kind)


def words(annotation: Any) -> set[Any]:
    """Return every type that an annotation mentions."""
    return {annotation}.union(*(words(inner) for inner in get_args(annotation) if not isinstance(inner, str)))


NUMBERS = sorted(
    (
        (kind, name)
        for kind in set(classes())
        for name, field in kind.model_fields.items()
        if {int, float} & words(field.annotation) and bool not in words(field.annotation)
    ),
    key=lambda pair: (pair[0].__name__, pair[1]),
)


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=[f"{kind.__name__}.{name}" for kind, name in NUMBERS])
def test_no_option_reads_a_truth_as_a_number(kind: type[Options], name: str, value: bool) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({name: value})
    (found, *_) = [one for one in caught.value.errors() if one["loc"] and one["loc"][0] == name]
    assert str(found["input"]).lower() == str(value).lower()


def test_the_law_covers_the_configuration() -> None:
    names = {name for _, name in NUMBERS}
    assert names >= {"epochs", "batch_size", "learning_rate", "seed", "max_tokens", "weight", "rank", "every", "dev"}


def test_rows_keep_their_truths() -> None:
    rows = [{"text": "A moving film.", "label": True}, {"text": "Not for me.", "label": False}]
    tasks = {"liked": {"type": "classification", "data": {"train": rows, "dev": rows}}}
    config = pt.Config(encoder="e", tasks=tasks)
    train = config.tasks["liked"].data.train
    assert isinstance(train, tuple)
    assert [row["label"] for row in train if isinstance(row, dict)] == [True, False]


def test_numbers_inside_lists_are_looked_at_too() -> None:
    rows = [{"text": "A moving film.", "label": 1.0}]
    task = {"type": "regression", "range": [0, True], "data": {"train": rows, "dev": rows}}
    with pytest.raises(ConfigError, match=r"tasks\.liked\.range\.1: found true; expected a number"):
        pt.Config(encoder="e", tasks={"liked": task})
