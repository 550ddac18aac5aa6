"""Columns in, columns out: of one type in every batch, in their order, and no row without an answer goes unseen."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import stand_in

from polytask.batch import predictor
from polytask.batch.predictor import BatchPredictor
from polytask.errors import ConfigError, DataError, UserError

TEXTS = ["a", "bb cc", "", "ddd"]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models that were loaded."""
    found: list[Any] = []

    def load(*asked: Any, **_: Any) -> Any:
        found.append(asked)
        return stand_in.model()

    monkeypatch.setattr(predictor, "load", load)
    return found


def test_a_model_is_loaded_once_and_never_pickled(loads: list[Any]) -> None:
    predict = BatchPredictor("model", ["tone"])
    assert loads == []
    first = predict({"text": TEXTS})
    predict({"text": TEXTS})
    assert len(loads) == 1
    told = pickle.dumps(predict)
    assert len(told) < 1000
    again = pickle.loads(told)
    assert again({"text": TEXTS})["predictions.tone.label"].tolist() == first["predictions.tone.label"].tolist()
    assert len(loads) == 2


FORMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "lists": dict,
    "numpy": lambda columns: {name: np.array(cells, object) for name, cells in columns.items()},
    "arrow arrays": lambda columns: {name: pa.array(cells) for name, cells in columns.items()},
    "arrow": pa.table,
    "batch": lambda columns: pa.RecordBatch.from_pydict(columns),
    "pandas": pd.DataFrame,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_columns_has_the_same_answers(loads: list[Any], form: str) -> None:
    predict = BatchPredictor("model")
    answered = predict(FORMS[form]({"id": [4, 3, 2, 1], "text": TEXTS}))
    rows = pd.DataFrame(answered.to_pydict() if isinstance(answered, pa.Table) else dict(answered))
    assert rows["id"].tolist() == [4, 3, 2, 1]
    expected = stand_in.model().predict(TEXTS)
    assert rows["predictions.tone.label"].tolist() == [one["tone"]["label"] for one in expected]
    assert rows["predictions.tone.probabilities.good"].tolist() == [
        one["tone"]["probabilities"]["good"] for one in expected
    ]
    assert [list(cells) for cells in rows["predictions.names"]] == [one["names"] for one in expected]
    assert rows["truncated"].tolist() == [False] * 4
    assert rows["empty"].tolist() == [not text for text in TEXTS]
    assert list(rows) == ["id", "text", *predict.columns]


def test_columns_are_named_by_texts_and_each_once(loads: list[Any]) -> None:
    predict = BatchPredictor("model")
    frame = predict(pd.DataFrame({"text": TEXTS, 0: [1, 2, 3, 4]}, index=[7, 7, 8, 9]))
    assert frame[0].tolist() == [1, 2, 3, 4]
    assert frame.index.tolist() == [7, 7, 8, 9]
    assert predict({"text": TEXTS, 0: [1, 2, 3, 4]})["0"].tolist() == [1, 2, 3, 4]
    twice = pd.DataFrame({"text": TEXTS, "a": TEXTS, "b": TEXTS}).set_axis(["text", "a", "a"], axis=1)
    table = pa.Table.from_arrays([pa.array(TEXTS)] * 3, names=["text", "a", "a"])
    for batch, name in ((twice, "a"), (table, "a"), ({"text": TEXTS, 1: TEXTS, "1": TEXTS}, "1")):
        with pytest.raises(DataError, match=f"two columns of the batch are named '{name}'"):
            predict(batch)


def test_identifiers_come_back_as_they_are(loads: list[Any]) -> None:
    """Of numbers of several types NumPy makes floats, which are other numbers."""
    predict = BatchPredictor("model", keep=["id"])
    for ids in ([2**63, -1], [2**60 + 1, 1.5], [10**400, 1], [1, 2], [1, 2.5], [-(2**63), 2**63 - 1], [1, None]):
        assert predict({"text": TEXTS[:2], "id": ids})["id"].tolist() == ids
    assert predict({"text": TEXTS[:2], "id": [1, 2]})["id"].dtype == np.int64


@pytest.mark.parametrize("column", [{"a", "b"}, frozenset("ab"), np.array("a"), "a", {"a": 1}, 5])
def test_a_column_is_a_list_of_cells(loads: list[Any], column: Any) -> None:
    with pytest.raises(DataError, match=r"the column 'text' is not a list of cells"):
        BatchPredictor("model")({"text": column})


def test_types_do_not_depend_on_what_is_in_a_batch(loads: list[Any]) -> None:
    predict = BatchPredictor("model", errors="column", keep=[])
    tables = [predict(pa.table({"text": pa.array(texts, pa.string())})) for texts in ([], [None], ["a"], ["a", None])]
    assert {table.schema for table in tables} == {predict.schema()}
    arrays = [predict({"text": texts}) for texts in ([], [None], ["a", None])]
    kinds = {name: {batch[name].dtype for batch in arrays} for name in predict.columns if "probabilities" in name}
    assert set(map(frozenset, kinds.values())) == {frozenset({np.dtype(np.float64)})}


def test_null_is_an_empty_text(loads: list[Any]) -> None:
    texts = ["a", None, float("nan"), "", "b"]
    for batch in ({"text": texts}, pd.DataFrame({"text": texts}), pa.table({"text": ["a", None, None, "", "b"]})):
        answered = BatchPredictor("model", errors="column")(batch)
        columns = answered.to_pydict() if isinstance(answered, pa.Table) else answered
        assert list(columns["error"]) == [None] * 5
        assert list(columns["empty"]) == [False, True, True, True, False]


def test_a_row_without_a_text_is_told(loads: list[Any]) -> None:
    texts = ["a", [5], {"b": 1}, 5, b"raw", "b"]
    with pytest.raises(DataError, match=r"row 2 of the batch: .*a text is expected; .*errors='column'"):
        BatchPredictor("model")({"text": texts})
    answered = BatchPredictor("model", errors="column")({"text": texts})
    assert [reason is None for reason in answered["error"]] == [True, False, False, False, False, True]
    assert answered["predictions.tone.label"].tolist()[1:5] == [None] * 4
    assert np.isnan(answered["predictions.tone.probabilities.good"]).tolist() == [False, True, True, True, True, False]


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        (["a"], "found a batch of type list"),
        ({"text": "a"}, "is not a list of cells"),
        ({"text": ["a"], "id": [1, 2]}, "different lengths: {'text': 1, 'id': 2}"),
        ({"text": ["a"], "truncated": [1]}, "column 'truncated', like the predictions"),
        (pa.Table.from_arrays([pa.array(["a"])] * 2, ["text", "text"]), "are named .text."),
    ],
)
def test_what_is_no_batch_is_refused(loads: list[Any], batch: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        BatchPredictor("model")(batch)


def test_options_are_refused_where_they_are_wrong(loads: list[Any]) -> None:
    with pytest.raises(ConfigError, match="accepted: column, raise"):
        BatchPredictor("model", errors="ignore")
    for options, told in [({"tasks": ["tune"]}, "did you mean 'tone'"), ({"long": "cut"}, "accepted: truncate"),
                          ({"keep": ["idd"]}, "no column 'idd'"), ({"text": "body"}, "no column 'body'")]:  # fmt: skip
        with pytest.raises(UserError, match=told):
            BatchPredictor("model", **options)({"text": ["a"]})
    assert BatchPredictor("model", text="body", keep=["n"])({"body": ["a"], "n": [1]})["n"].tolist() == [1]
