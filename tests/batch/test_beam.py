"""Beam itself: every row's answer under its key."""

from __future__ import annotations

from typing import Any

import pytest
import stand_in

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("ignore")]
beam: Any = pytest.importorskip("apache_beam", reason="needs pip install 'polytask[beam]'")


def test_answers_stay_with_the_keys_of_their_rows() -> None:
    from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
    from apache_beam.testing.util import assert_that

    from polytask.batch.engines.beam import PolytaskModelHandler

    texts = [None if at == 11 else f"text {'x' * at}" for at in range(40)]
    given = [{"text": text, "n": at} for at, text in enumerate(texts)]
    expected = list(stand_in.Predictor("model", errors="column").answer_rows(given))
    rows: list[Any] = [texts[3] if at == 3 else row for at, row in enumerate(given)]

    def check(found: list[Any]) -> None:
        by_key = dict(found)
        assert len(found) == len(by_key) == 40
        assert [by_key[at].example for at in range(40)] == rows
        assert [by_key[at].inference for at in range(40)] == expected

    handler = PolytaskModelHandler(stand_in.Predictor("model", errors="column"), batch_size=7)
    with beam.Pipeline(runner="DirectRunner") as pipeline:
        keyed = pipeline | beam.Create(list(enumerate(rows)))
        assert_that(keyed | RunInference(KeyedModelHandler(handler)), check)


def test_arguments_of_which_there_are_none_are_refused() -> None:
    from polytask.batch.engines.beam import PolytaskModelHandler
    from polytask.errors import DataError

    predictor = stand_in.Predictor("model")
    with pytest.raises(DataError, match="inference_args: found top_k; none are accepted"):
        list(PolytaskModelHandler(predictor).run_inference(["a"], predictor, {"top_k": 1}))
