"""Multiple choice: each row has its own options, which pass the encoder as texts."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import polytask as pt
from polytask.assemble import assemble
from polytask.config import validate
from polytask.data.stream import DrawnRow
from polytask.errors import ConfigError, DataError
from polytask.tasks import TASKS, LabelStats
from polytask.tasks.arrays import unrounded
from polytask.tasks.matching import Matching, MatchingOptions
from polytask.tasks.multiple_choice import MOST_OPTIONS, MultipleChoice, options_in
from samples import corpus_rows, write_jsonl

OPTIONS = MatchingOptions.model_validate({"type": "matching", "options": "options"})
WORDS = ["train", "film", "bank", "goal", "soup", "river"]


def rows(count: int) -> list[dict[str, Any]]:
    """Questions whose answer is the option that stands in the text."""
    draw = random.Random(3)
    found: list[dict[str, Any]] = []
    for number in range(count):
        options = draw.sample(WORDS, 2 + number % 3)
        right = draw.choice(options)
        found.append({"id": number, "text": f"{right} {right}", "options": options, "label": right})
    return found


def job(tiny: Path, **train: Any) -> dict[str, Any]:
    task = {"type": "matching", "options": "options", "data": {"train": rows(64), "dev": rows(90)[64:]}}
    options = {"epochs": 6, "batch_size": 8, "learning_rate": 5e-3, "precision": "fp32", "device": "cpu", **train}
    return {"encoder": str(tiny), "max_tokens": 16, "tasks": {"word": task}, "train": options}


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choice") / "run"
    pt.train(job(tiny), folder)
    return folder


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"options": ["a", "b"], "label": "c"},
            "the label 'c', which is not one of the row's options; .* not its number",
        ),
        ({"options": ["a", "b"], "label": 1}, "the label '1', which is not one of the row's options"),
        ({"options": ["a"], "label": "a"}, "holds one option only, 'a'; expected 2 to 64"),
        ({"options": [], "label": "a"}, "holds no options"),
        ({"options": [str(at) for at in range(MOST_OPTIONS + 1)], "label": "1"}, "holds 65 options"),
        ({"options": ["a", "A "], "label": "a"}, "holds the option 'A' twice"),
        ({"options": ["a", " "], "label": "a"}, "option 2 is ' '; expected a text"),
        ({"options": ["a", None], "label": "a"}, "option 2 is None"),
        ({"options": "a b", "label": "a"}, "holds 'a b'; expected a list of the row's options"),
        ({"options": {"a": 1, "b": 2}, "label": "a"}, "expected a list of the row's options"),
        ({"label": "a"}, "holds None; expected a list"),
        ({"options": ["a", "b \ud83d"], "label": "a"}, "half of a surrogate pair"),
        ({"options": ["a", "b"], "label": {"a": 0.5, "b": 0.5}}, "a label is the text of one of the row's options"),
    ],
)
def test_rows_that_are_no_choice_are_refused_with_file_and_line(
    row: dict[str, Any], message: str, tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        MultipleChoice.read(OPTIONS, {"text": "x", **row}, LabelStats())
    data = tmp_path / "train.jsonl"
    lines = [*rows(4), {"text": "x", **row}]
    data.write_text("".join(json.dumps(one) + "\n" for one in lines), "utf-8")
    task = {"type": "matching", "options": "options", "data": {"train": str(data), "dev": str(data)}}
    with pytest.raises(DataError, match=rf"train.jsonl:5: task 'it': .*{message}"):
        assemble(validate({"encoder": str(tiny), "tasks": {"it": task}}))


def test_a_column_of_options_that_no_row_has_is_told(tiny: Path) -> None:
    values = job(tiny)
    values["tasks"]["word"]["options"] = "choices"
    with pytest.raises((DataError, ConfigError), match="choices"):
        assemble(validate(values))


def test_labels_and_options_have_one_spelling() -> None:
    row = {"text": "1 + 1", "options": '[1, "2.0", true]', "label": 2.0}
    assert options_in(row, "options") == ("1", "2", "true")
    label = MultipleChoice.read(OPTIONS, row, LabelStats())
    assert isinstance(label, list)
    assert label[0] == 2
    assert MultipleChoice.read(OPTIONS, {**row, "label": ""}, LabelStats()) is None
    assert [text for text, _ in MultipleChoice.companions(OPTIONS, row, label)] == ["1", "2", "true"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"labels": {"a": "b"}}, "found options and labels"),
        ({"class_weights": "balanced", "label_smoothing": 0.1}, "found options and class_weights and label_smoothing"),
        ({"metric": "macro_f1"}, "found the metric macro_f1; accepted if rows have options: accuracy"),
        ({"gate": {"score": {"mcc": 0.5}}}, "found the metric mcc"),
        ({"label": "options"}, "found 'options', the column of the label"),
    ],
)
def test_options_about_labels_of_all_rows_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MatchingOptions.model_validate({"type": "matching", "options": "options", **values})


def read_all(cells: list[dict[str, Any]]) -> list[Any]:
    stats, found = LabelStats(), list[Any]()
    for row in cells:
        label = MultipleChoice.read(OPTIONS, row, stats)
        found += [label, *(own for _, own in MultipleChoice.companions(OPTIONS, row, label))]
    return found


def test_the_loss_is_the_cross_entropy_over_each_rows_options() -> None:
    task = MultipleChoice("it", OPTIONS).on_encoder(4)
    assert TASKS.of(OPTIONS) is MultipleChoice
    assert TASKS.of(MatchingOptions(type="matching")) is Matching
    labels = read_all(
        [
            {"text": "x", "options": ["a", "b", "c"], "label": "b"},
            {"text": "y", "options": ["c", "d"], "label": "c"},
        ]
    )
    outputs = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(0))
    outputs[5 + 0] = outputs[3]  # `c` is one text, so it has one vector
    encoded = [task.encode(label) for label in labels]
    targets = torch.tensor([row + [0] * (task.target_width - len(row)) for row in encoded])
    each = [(0, [1, 2, 3], 1), (4, [5, 6], 0)]
    cross_entropy = torch.nn.functional.cross_entropy
    expected = sum(cross_entropy(outputs[at] @ outputs[own].T, torch.tensor(right)) for at, own, right in each)
    once = [6, 2, 0, 3, 1, 4]  # without the second `c`, in any order
    for order in (list(range(7)), once):
        torch.testing.assert_close(task.loss(outputs[order], targets[order]), torch.as_tensor(expected))
        assert task.loss_denominator(targets[order]) == 2
        errors, counts = task.training_errors(outputs[order], targets[order])
        assert counts.tolist() == [2, 0, 0, 0]
        assert 0 <= float(errors[0]) <= 2
    only = outputs[1:3].clone().requires_grad_()
    task.loss(only, targets[1:3]).backward()  # type: ignore[no-untyped-call]
    compared = task.compared(labels, task.decode(outputs.numpy()))
    assert compared.rows == [0, 4]
    assert compared.labels == ["2", "1"]
    best = [str(int((outputs[at] @ outputs[own].T).argmax()) + 1) for at, own, _ in each]
    assert compared.predictions == best


def test_equal_options_of_a_batch_pass_once(tiny: Path) -> None:
    assembly = assemble(validate(job(tiny)))
    (source,) = assembly.sources["train"]
    drawn = [DrawnRow(0, int(row), ("word",)) for row in source.drawn["word"][:12]]
    options = {text for row in rows(12) for text in row["options"]}
    batch = assembly.collator().from_sources([source], drawn)
    assert batch.rows == len(batch.targets["word"]) == 12 + len(options)
    carried = dict.fromkeys(source.carries["word"].tolist(), ("word",))
    assert len(carried) - len(source.same_companions(carried)) == 64 + len(WORDS)


def test_options_that_dev_and_training_rows_share_are_no_leak(tiny: Path) -> None:
    def notes(text: str) -> list[str]:
        one, other = ({"text": each, "options": ["yes", "no"], "label": "yes"} for each in ("a", text))
        data = {"train": [one, one], "dev": [other]}
        values = {"encoder": str(tiny), "tasks": {"it": {"type": "matching", "options": "options", "data": data}}}
        return [note.message for note in assemble(validate(values)).tables.notes if "are also in" in note.message]

    assert notes("b") == []
    (told,) = notes("a")
    assert told.startswith("1 of 1 texts are also in the training rows")


def test_a_run_learns_and_its_folder_answers_rows_with_their_options(
    run: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    scores = json.loads((run / "scores.json").read_text("utf-8"))["dev"]["word"]
    assert set(scores) == {"accuracy", "ece"}
    assert scores["accuracy"] > 0.8
    dev, model = rows(90)[64:], pt.load(run)
    answers = [answer["word"] for answer in model.predict(dev)]
    assert [answer["options"] for answer in answers] == [row["options"] for row in dev]
    right = [answer["label"] == row["label"] for answer, row in zip(answers, dev, strict=True)]
    assert sum(right) / len(right) == pytest.approx(scores["accuracy"])
    for answer in answers:
        assert sum(answer["probabilities"]) == pytest.approx(1.0, abs=1e-3)
        assert answer["label"] == answer["options"][answer["probabilities"].index(max(answer["probabilities"]))]
    file = write_jsonl(tmp_path / "dev.jsonl", dev)
    assert pt.evaluate(run, str(file)).scores["word"] == pytest.approx(scores)
    lines = [json.loads(line) for line in (run / "predictions" / "word.jsonl").read_text("utf-8").splitlines()]
    first = next(line for line in lines if line["row"] == 0)
    assert first["label"] == dev[0]["label"]
    assert first["prediction"] in dev[0]["options"]
    assert first["text"] == " | ".join([dev[0]["text"], *dev[0]["options"]])
    code, out, err = call("predict", run, file)
    assert code == 0, err
    assert [json.loads(line)["predictions"]["word"]["label"] for line in out.splitlines()] == [
        answer["label"] for answer in answers
    ]
    code, out, err = call("predict", run, file, "--to", "csv")
    assert code == 0, err
    assert "predictions.word.options" in out.splitlines()[0]
    assert "one of the options of each row" in (run / "model" / "README.md").read_text("utf-8")
    assert "options" in pt.report(run).read_text("utf-8")


def test_one_temperature_corrects_the_probabilities_of_every_number_of_options(tiny: Path, tmp_path: Path) -> None:
    values = job(tiny, epochs=2)
    data = values["tasks"]["word"]["data"]
    for row in data["dev"][::6]:  # mistakes of the labels: a model that is sure of all its answers is too sure
        row["label"] = next(option for option in row["options"] if option != row["label"])
    plain = pt.train(values, tmp_path / "plain").model
    values["tasks"]["word"]["calibrate"] = True
    model = pt.train(values, tmp_path / "run").model
    told = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["fitted_on_dev"]["word"]
    assert told["temperature"] != 1
    asked = rows(30)

    def logarithms(found: Any) -> list[Any]:
        with unrounded():
            return [np.log(np.array(answer["word"]["probabilities"])) for answer in found.predict(asked)]

    likelihoods: list[float] = []
    for before, after in zip(logarithms(plain), logarithms(model), strict=True):
        scaled = before / told["temperature"]
        np.testing.assert_allclose(after, scaled - np.log(np.exp(scaled).sum()), atol=1e-4)
    for one in (plain, model):
        with unrounded():
            answers = one.predict(data["dev"])
        likelihoods.append(
            sum(
                np.log(answer["word"]["probabilities"][row["options"].index(row["label"])])
                for answer, row in zip(answers, data["dev"], strict=True)
            )
        )
    assert likelihoods[1] > likelihoods[0]
    assert pt.load(tmp_path / "run").predict(asked) == model.predict(asked)


def test_what_cannot_be_answered_is_told(run: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    model = pt.load(run)
    for record in ("train", {"text": "train"}, {"text": "train", "options": None}):
        with pytest.raises(DataError, match="record 1: has no options in 'options'; expected a list of texts there"):
            model.predict([record])
    with pytest.raises(DataError, match="record 1: .*accepted: options, text; found: options"):
        model.predict([{"options": ["a", "b"]}])
    with pytest.raises(DataError, match="record 2: 'options' holds one option only"):
        model.predict([rows(1)[0], {"text": "x", "options": ["a"]}])
    with pytest.raises(ConfigError, match="labels: word: its options come with each row, in the column 'options'"):
        model.predict(rows(1), labels={"word": {"a": "b"}})
    file = write_jsonl(tmp_path / "bad.jsonl", [*rows(2), {"text": "x", "options": ["a", "a"]}])
    code, out, err = call("predict", run, file)
    assert code == 2
    assert "bad.jsonl:3" in err
    assert "twice" in err
    assert len(out.splitlines()) == 2
    with pytest.raises(pt.errors.ModelError, match="its type is 'matching'"):
        pt.export(run, tmp_path / "hf", to="hf")


def test_long_texts_are_read_in_windows_and_options_that_are_cut_are_told(run: Path) -> None:
    long = {"text": "train " * 40, "options": ["film", "train " * 30]}
    model = pt.load(run)
    (cut,) = model.answers([{**long, "text": "train"}])
    assert cut.truncated
    (whole,) = model.answers([long], long="windows")
    assert not whole.truncated
    assert whole.windows > 1


def test_a_task_of_texts_answers_beside_it(tiny: Path) -> None:
    found = corpus_rows(40)
    for row in found:
        row |= {"options": ["yes", "no"], "answer": "yes" if len(row["text"]) % 2 else "no"}
    data = {"train": found[:30], "dev": found[30:]}
    values = {
        "encoder": str(tiny),
        "max_tokens": 32,
        "tasks": {
            "sentiment": {"type": "classification", "data": data, "label": "sentiment"},
            "answer": {"type": "matching", "data": data, "label": "answer", "options": "options"},
        },
        "train": {"max_steps": 2, "precision": "fp32"},
    }
    model = pt.train(values).model
    one, other = model.predict(["A film.", {"text": "A film.", "options": ["yes", "no", "perhaps"]}])
    assert set(one) == {"sentiment"}
    assert set(other) == {"sentiment", "answer"}
    assert one["sentiment"] == other["sentiment"]


@pytest.mark.slow
def test_an_onnx_folder_answers_alike(run: Path, tmp_path: Path) -> None:
    made = pt.export(run, tmp_path / "onnx", to="onnx")
    found, model = pt.load(next(iter(made.folders.values()))), pt.load(run)
    for one, other in zip(found.predict(rows(8)), model.predict(rows(8)), strict=True):
        assert one["word"]["probabilities"] == pytest.approx(other["word"]["probabilities"], abs=1e-4)


def test_a_comparison_counts_its_answers(tiny: Path, tmp_path: Path) -> None:
    values = job(tiny, epochs=1)
    data = values["tasks"]["word"]["data"]
    data |= {split: [{**row, "number": len(row["options"])} for row in rows] for split, rows in data.items()}
    values["tasks"]["count"] = {"type": "classification", "label": "number", "data": data}
    found = pt.compare(values, tmp_path / "compared", arms=["single", "global"], seeds=2)
    assert {"word", "count"} == set(json.loads((tmp_path / "compared/comparison.json").read_text("utf-8"))["tasks"])
    assert found.summary()
