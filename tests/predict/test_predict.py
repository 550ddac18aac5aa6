"""One pass answers all tasks; batch composition, order and saving change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import polytask as pt
from polytask.errors import ConfigError, DataError
from polytask.predict import predictor
from polytask.predict.record import queries_of
from polytask.tasks.classification import Classification, ClassificationOptions
from samples import close, corpus_rows, small_job

Job = Callable[..., dict[str, Any]]
TEXTS = [
    "Ingrid's café in Lyon was not bad at all.",
    "never again",
    "A very long sentence about trains, ferries and hotels, which goes on and on so that it is padded differently.",
    "日本の映画 is great 🙂",
    "\x00\x01",
    "",
    "הסרט הזה נפלא",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run lies, and the files of its rows."""
    return tmp_path_factory.mktemp("predicting")


@pytest.fixture(scope="module")
def run(home: Path, tiny: Path) -> pt.Run:
    """A run for all tests, which leave its model as it is."""
    return pt.train(small_job(home, tiny, epochs=15, learning_rate=5e-3, rows=60), home / "run")


def test_saved_and_loaded_predictions_are_equal(run: pt.Run, home: Path) -> None:
    loaded = pt.load(home / "run" / "model")
    assert loaded.predict(TEXTS) == run.model.predict(TEXTS)


def test_batch_composition_and_order_never_change_a_prediction(run: pt.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    together = run.model.predict(TEXTS)
    assert close([run.model.predict([text])[0] for text in TEXTS], together)
    assert close(run.model.predict(TEXTS[::-1])[::-1], together)
    monkeypatch.setattr(predictor, "BLOCK", 2)
    assert close(run.model.predict(TEXTS), together)


def test_one_encoder_pass_answers_all_tasks(run: pt.Run) -> None:
    rows: list[int] = []
    hook = lambda module, inputs: rows.append(len(inputs[0]))  # noqa: E731
    with run.model.network.trunks[0].register_forward_pre_hook(hook):
        run.model.predict(TEXTS)
    assert sum(rows) == len(TEXTS)


def test_every_task_answers_in_its_own_form(run: pt.Run) -> None:
    text = "The food at Thursday in Lyon was cold."
    found = run.model.predict([text])[0]
    assert list(found) == ["sentiment", "topic", "entities"]
    assert set(found["sentiment"]) == {"label", "probabilities"}
    assert sum(found["topic"]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert found["topic"]["label"] == max(found["topic"]["probabilities"], key=found["topic"]["probabilities"].get)
    for entity in run.model.predict(TEXTS * 3)[0]["entities"]:
        assert set(entity) == {"label", "start", "end", "text", "score"}


def test_entities_point_into_the_original_text(run: pt.Run, home: Path) -> None:
    texts = [row["text"] for row in corpus_rows(80)] + TEXTS
    model = pt.load(home / "run" / "model")
    head = model.network.heads["task-entities"].out
    with torch.no_grad():  # so that every word begins an entity
        head.bias[model.tasks["entities"].labels.index("B-LOC")] += 100
    for text, answer in zip(texts, model.predict(texts), strict=True):
        found = answer["entities"]
        assert all(text[entity["start"] : entity["end"]] == entity["text"] for entity in found)
        assert "".join(entity["text"] for entity in found) == "".join(text.split()) or len(text) > 150 or "\x00" in text


def test_only_the_tasks_asked_for_are_answered(run: pt.Run) -> None:
    assert list(run.model.predict(TEXTS, tasks=["topic"])[0]) == ["topic"]
    with pytest.raises(ConfigError, match=r"found 'topik'; accepted: .*did you mean 'topic'"):
        run.model.predict(TEXTS, tasks=["topik"])


def test_no_task_at_all_is_refused(
    run: pt.Run, home: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    told = "tasks: found none; accepted: entities, sentiment, topic"
    with pytest.raises(ConfigError, match=told):
        run.model.predict(["a"], tasks=[])
    with pytest.raises(ConfigError, match=told):
        pt.evaluate(run.model, str(home / "all-test.jsonl"), tasks=[])
    (tmp_path / "in.txt").write_text("a", "utf-8")
    for command in (["predict", home / "run", tmp_path / "in.txt"], ["evaluate", home / "run", "--data", "x"]):
        for tasks in ("", ","):
            code, out, err = call(*command, "--tasks", tasks)
            assert (code, out, told in err) == (2, "", True)


def test_long_texts_are_truncated_and_flagged(run: pt.Run) -> None:
    short, long = run.model.answers(["a few words", "word " * 200])
    assert not short.truncated
    assert long.truncated
    assert long.to_json()["truncated"] is True
    assert "truncated" not in short.to_json()


def test_texts_with_nothing_to_read_are_flagged(run: pt.Run) -> None:
    blank = ["", " \t", "\u200b\u00a0"]
    answers = run.model.answers([*blank, {"tokens": [" "]}, "a", ".", "\u4e2d"])
    assert [answer.to_json().get("empty", False) for answer in answers] == [True] * 4 + [False] * 3


def test_a_stream_is_read_block_by_block(run: pt.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "BLOCK", 4)
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"text {read}"

    answers = run.model.answers(endless())
    assert next(answers).text == "text 1"
    assert read == 4


def test_rows_with_tokens_are_answered_on_these_words(run: pt.Run) -> None:
    row = {"text": "Lee's film", "tokens": ["Lee", "'s", "film"]}
    assert set(run.model.predict([row])[0]) == {"sentiment", "topic", "entities"}
    assert set(run.model.predict([{"tokens": ["Lee", "'s"]}])[0]) == {"entities"}


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"review": "x"}, "record 2: holds no text for any of the tasks; accepted: text"),
        ({"text": 3}, "record 2: found 3; a text is expected"),
        (("a", "b"), "record 2: holds no text"),
    ],
)
def test_a_record_that_no_task_reads_is_an_error(run: pt.Run, record: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        run.model.predict(["fine", record])
    with pytest.raises(DataError, match=r"write model.predict\(\[text\]\)"):
        run.model.predict("one text")


def test_half_a_surrogate_pair_is_answered(run: pt.Run) -> None:
    assert len(run.model.predict(["bad \ud800 character", "fine"])) == 2


def test_evaluate_on_the_test_files_gives_the_scores_of_training(run: pt.Run, home: Path) -> None:
    file = str(home / "all-test.jsonl")
    assert pt.evaluate(home / "run" / "model", {"all": file}).scores == run.scores["test"]
    assert pt.evaluate(run.model, {"topic": file}).scores == {"topic": run.scores["test"]["topic"]}
    with pytest.raises(ConfigError, match="did you mean 'topic'"):
        pt.evaluate(run.model, {"topics": file})


def test_a_folder_in_bfloat16_has_the_scores_of_its_run(job: Job, tmp_path: Path) -> None:
    run = pt.train(job(epochs=3, learning_rate=5e-3, rows=60, precision="bf16"), tmp_path / "run")
    model = pt.load(tmp_path / "run" / "model")
    assert model.engine.describe()["precision"] == "bf16"
    assert pt.evaluate(model, {"all": str(tmp_path / "all-test.jsonl")}).scores == run.scores["test"]
    assert pt.evaluate(model, {"all": str(tmp_path / "all-dev.jsonl")}).scores == run.scores["dev"]
    exact = pt.load(tmp_path / "run" / "model", precision="fp32")
    assert pt.evaluate(exact, {"all": str(tmp_path / "all-test.jsonl")}).scores != run.scores["test"]


def test_pairs_are_trained_and_answered(tiny: Path, tmp_path: Path) -> None:
    rows = [{"a": f"text {n}", "b": f"text {n + n % 2}", "label": "same" if n % 2 == 0 else "other", "score": n % 2}
            for n in range(24)]  # fmt: skip
    values = {
        "encoder": str(tiny),
        "max_tokens": 16,
        "tasks": {
            "match": {"type": "classification", "text_pair": ["a", "b"], "data": {"train": rows, "dev": rows}},
            "degree": {"type": "regression", "text_pair": ["a", "b"], "data": {"train": rows, "dev": rows}},
        },
        "train": {"max_steps": 3, "batch_size": 8},
    }
    model = pt.train(values, tmp_path / "run").model
    one, other = model.predict([("text 1", "text 2"), {"a": "text 1", "b": "text 2"}])
    assert one == other
    assert set(one["degree"]) == {"value"}
    with pytest.raises(DataError, match="accepted: a, b"):
        model.predict(["a single text"])


def test_half_a_pair_is_refused_with_the_name_of_the_other_column() -> None:
    task = Classification(
        "same", ClassificationOptions(type="classification", text_pair=("a", "b")), ("n", "y"), (1, 1)
    )
    for row, told in (({"a": "x"}, "b is missing"), ({"b": "x", "c": "y"}, "a is missing"), ({"c": "y"}, "c$")):
        with pytest.raises(DataError, match=rf"accepted: a, b; found: .*{told}"):
            queries_of(0, row, {"same": task}, ["same"], "record 1")


def test_several_labels_are_trained_and_answered(tiny: Path, tmp_path: Path) -> None:
    rows = [{"text": f"red blue {n}", "labels": [["red"], ["red", "blue"], []][n % 3]} for n in range(30)]
    values = {
        "encoder": str(tiny),
        "tasks": {"colours": {"type": "multilabel", "data": {"train": rows, "dev": rows}}},
        "train": {"max_steps": 3},
    }
    found = pt.train(values, tmp_path / "run").model.predict(["red"])[0]["colours"]
    assert set(found) == {"labels", "probabilities"}
    assert set(found["probabilities"]) == {"red", "blue"}


def test_bfloat16_answers_are_close_to_those_of_float32_and_the_model_keeps_its_own_weights(
    run: pt.Run, home: Path
) -> None:
    exact, rough = (pt.load(home / "run" / "model", precision=one) for one in ("fp32", "bf16"))
    assert rough.engine.describe()["precision"] == "bf16"
    for found, expected in zip(rough.predict(TEXTS), exact.predict(TEXTS), strict=True):
        for task in ("sentiment", "topic"):
            assert found[task]["probabilities"] == pytest.approx(expected[task]["probabilities"], abs=0.03)
    assert rough.predict(TEXTS) != exact.predict(TEXTS)
    for name, parameter in exact.network.named_parameters():
        assert torch.equal(parameter, rough.network.get_parameter(name)), name
