"""Answers written for annotation tools are what the readers of training read back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.annotations import tag_words
from polytask.data.readers import read_file
from polytask.data.words import split_words
from polytask.errors import ConfigError
from polytask.predict.lines import answer_lines
from polytask.predict.predictor import Model, TextPrediction
from polytask.predict.spans import SPAN_FORMS, span_writer
from polytask.tasks.bio import spans
from polytask.tasks.classification import Classification, ClassificationOptions
from polytask.tasks.tagging import Tagging, TaggingOptions

COLUMNS = {"doccano": "label", "spacy": "entities", "prodigy": "spans", "label-studio": "spans"}


def tagging(bio: bool = True) -> Tagging:
    return Tagging("it", TaggingOptions(type="tagging"), ("O", "B-X", "I-X"), (1, 1, 1), bio)


class Answering:
    """Answers with given entities."""

    def __init__(self, text: str, entities: list[dict[str, Any]], **tasks: Any) -> None:
        self.tasks = tasks or {"it": tagging()}
        self.answer = TextPrediction(text, {"it": entities}, truncated=False)

    def answers(self, records: Any, tasks: Any, *, long: str) -> Iterator[TextPrediction]:
        for _ in records:
            yield self.answer


def test_every_form_is_read_back() -> None:
    assert set(COLUMNS) == set(SPAN_FORMS)


@given(text=st.text(st.sampled_from("ab 王😀.\u3000\n"), min_size=1).filter(str.strip), data=st.data())
@pytest.mark.parametrize("form", SPAN_FORMS)
def test_entities_come_back_from_what_is_written(form: str, text: str, data: st.DataObject, tmp_path: Path) -> None:
    words = split_words(text)
    chosen = data.draw(st.lists(st.sampled_from(words), unique=True).map(sorted))
    entities = [{"label": "X", "start": a, "end": b, "text": text[a:b], "score": 0.5} for a, b in chosen]
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("one line\n", "utf-8")
    answer_lines(cast(Model, Answering(text, entities)), str(source), out=out, spans=form, say=str)
    written = out.read_text("utf-8")
    # Label Studio takes answers as predictions, and gives annotations back.
    out.write_text(written.replace('"predictions"', '"annotations"'), "utf-8")
    ((_, row),) = read_file(out)
    tagged = tag_words(row["text"], row[COLUMNS[form]], None, strict=True)
    found = [(words[span.first][0], words[span.end - 1][1]) for span in spans(tagged.tags)]
    assert row["text"] == text
    assert found == chosen


def test_answers_without_a_form_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one line\n", "utf-8")
    model = cast(Model, Answering("a", []))
    answer_lines(model, str(tmp_path / "in.txt"), out=tmp_path / "out", say=str)
    assert json.loads((tmp_path / "out").read_text()) == {"text": "a", "predictions": {"it": []}}


def test_one_task_that_finds_entities_is_asked_for() -> None:
    topic = Classification("topic", ClassificationOptions(type="classification"), ("x", "y"), (1, 1))
    model = cast(Model, Answering("a", [], it=tagging(), other=tagging(), topic=topic, pos=tagging(bio=False)))
    assert span_writer(model, ["it", "topic"], "spacy")(TextPrediction("a", {"it": []}, truncated=False)) == [
        "a",
        {"entities": []},
    ]
    for tasks, told in ((None, "it, other do"), (["topic", "pos"], "none does")):
        with pytest.raises(
            ConfigError, match=f"spans: can be written for one task that finds entities, .* {told}; name it in"
        ):
            span_writer(model, tasks, "spacy")
    with pytest.raises(ConfigError, match=r"spans: found 'docano'; accepted: doccano, .*did you mean 'doccano'"):
        span_writer(model, None, "docano")
