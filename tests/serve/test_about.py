"""What /tasks tells of a model: facts of its folder, nothing that is not of the form, and examples that it can read."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.predict.predictor import Model
from polytask.serving.about import encoder_of, range_of, rows_of, scores_of
from polytask.serving.examples import CHINESE, ENGLISH, examples_for
from polytask.serving.run import _name_of  # pyright: ignore[reportPrivateUsage]

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "scores", "data", "rows", "range", "test"]), inner)
    ),
    max_leaves=12,
)


@given(about=st.dictionaries(st.sampled_from(["encoder", "scores", "data"]), ANYTHING))
def test_whatever_a_description_holds_is_told_in_the_form_or_left_out(about: dict[str, Any]) -> None:
    told = (encoder_of(about), scores_of(about, "a"), rows_of(about, "a"), range_of(about, "a"))
    json.dumps(told, allow_nan=False)
    assert all(isinstance(value, float | None) for split in told[1].values() for value in split.values())
    assert all(isinstance(value, int) for value in told[2].values())
    assert told[3] is None or told[3][0] < told[3][1]


def test_facts_of_a_model_folder_are_told(client: httpx.Client, model: Model) -> None:
    found = client.get("/tasks").json()
    by_name = {task["name"]: task for task in found["tasks"]}
    facts = model.about["data"]
    for name, task in by_name.items():
        assert task["rows"] == facts[name]["rows"]
        assert task["scores"] == {split: scores[name] for split, scores in model.about["scores"].items()}
    assert by_name["stars"]["range"] == [0.5, 4.5]
    assert by_name["topic"]["range"] is None
    assert found["model"] == {"name": "", "encoder": Path(model.about["encoder"]).name, "passes": 1.0}
    texts = [text if isinstance(text, str) else tuple(text) for text in found["examples"]]
    assert texts == [*ENGLISH.texts[:2], ENGLISH.pairs[0]]
    assert client.post("/predict", json={"texts": found["examples"]}).status_code == 200


def test_a_path_of_an_encoder_is_not_told() -> None:
    assert encoder_of({"encoder": "/home/me/secret/bert"}) == "bert"
    assert encoder_of({"encoder": "C:\\Users\\me\\bert"}) == "bert"
    assert encoder_of({"encoder": "../models/company/bert"}) == "bert"
    assert encoder_of({"encoder": "intfloat/multilingual-e5-small"}) == "intfloat/multilingual-e5-small"


def test_a_model_has_the_name_of_its_folder_or_run(tmp_path: Path) -> None:
    assert _name_of(tmp_path / "reviews" / "model") == "reviews"
    assert _name_of(tmp_path / "reviews") == "reviews"


def task(labels: tuple[str, ...] = (), second: str | None = None, options: str | None = None) -> Any:
    inputs = SimpleNamespace(first="text", second=second)
    return SimpleNamespace(labels=labels, options=SimpleNamespace(inputs=inputs), options_column=options)


HAN = [chr(0x4E00 + number) for number in range(100)]
LATIN = [f"word{number}" for number in range(150)]
KANA = [chr(0x3042 + number) for number in range(60)]


@pytest.mark.parametrize(
    ("tasks", "vocabulary", "expected"),
    [
        ([task(("no", "yes"))], LATIN, list(ENGLISH.texts)),
        ([task(("no", "yes"))], HAN + LATIN, list(CHINESE.texts)),
        ([task(("no", "yes"))], HAN + LATIN * 2, list(ENGLISH.texts)),  # of many languages
        ([task(("no", "yes"))], HAN + KANA, list(ENGLISH.texts)),  # Japanese
        ([task(("ポジティブ", "否定"))], LATIN, list(ENGLISH.texts)),
        ([task(("财经", "sport"))], LATIN, list(CHINESE.texts)),
        ([task(second="b")], [], list(ENGLISH.pairs)),
        ([task(), task(("好",), second="b")], [], [*CHINESE.texts[:2], CHINESE.pairs[0]]),
    ],
)
def test_examples_are_in_a_language_and_of_a_form_that_the_model_reads(
    tasks: list[Any], vocabulary: list[str], expected: list[Any]
) -> None:
    assert examples_for(tasks, vocabulary) == expected


def test_examples_that_are_over_the_limit_are_not_offered(serving: Any, stub: Any) -> None:
    with serving(stub, max_characters=len(ENGLISH.texts[0])) as client:
        assert client.get("/tasks").json()["examples"] == [ENGLISH.texts[0]]
    stub.about = {"scores": "none", "encoder": 3, "passes": "many", "data": [1]}
    with serving(stub, max_characters=3) as client:
        found = client.get("/tasks").json()
        assert found["examples"] == []
        assert found["model"] == {"name": "", "encoder": "", "passes": None}


def test_rows_with_options_are_examples_for_tasks_that_choose_among_them() -> None:
    row = {"text": ENGLISH.question, "menu": list(ENGLISH.options)}
    assert examples_for([task(options="menu")], LATIN) == [row]
    assert examples_for([task(options="menu"), task()], LATIN) == [*ENGLISH.texts[:2], row]
    assert examples_for([task(second="b"), task(options="menu")], LATIN) == [*ENGLISH.pairs[:2], row]
