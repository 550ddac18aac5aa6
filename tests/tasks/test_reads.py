"""What a task reads of others: refused in its options before any row is read, and part of what it asks of its head."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from polytask.errors import ConfigError
from polytask.model.cascade import ACTIVATIONS
from polytask.tasks import TASKS, LabelStats, Task, head_specs, require_readable
from polytask.terms import HeadSpec, ReadOutputs

KINDS = {
    "intent": "classification",
    "topics": "multilabel",
    "rating": "regression",
    "pos": "tagging",
    "size": "ordinal",
}
ROWS: dict[str, list[Any]] = {
    "classification": ["x", "y", "z"],
    "multilabel": [["p"], ["q"]],
    "ordinal": [1, 2, 3, 4],
    "regression": [1.0, 2.0, 4.0],
    "tagging": [["NOUN", "VERB"]],
}
PROBABILITIES = "probabilities"


def fitted(name: str, kind: str, **options: Any) -> Task:
    chosen, stats = TASKS[kind].Options.model_validate({"type": kind, **options}), LabelStats()
    for cell in ROWS[kind]:
        row = {TASKS[kind].columns(chosen)[-1]: cell, "tokens": ["a", "b"]}
        stats.present += TASKS[kind].read(chosen, row, stats) is not None
    return TASKS[kind].fit(name, chosen, stats)


def test_a_head_is_told_what_each_kind_of_task_gives() -> None:
    tasks = {name: fitted(name, kind) for name, kind in KINDS.items()}
    # Two of them give vectors, one answers nothing, and of spans nothing is read that is a probability.
    assert set(KINDS.values()) | {"embedding", "matching", "mlm", "spans"} == set(TASKS)
    reads = dict.fromkeys(KINDS, PROBABILITIES)
    tasks["slots"] = fitted("slots", "tagging", needs=list(KINDS), reads=reads)
    found = head_specs(tasks)
    assert {name: found[name] for name in KINDS} == {name: tasks[name].head for name in KINDS}
    assert found["slots"] == HeadSpec(
        "word", 2, "auto", 0.1,
        (ReadOutputs("intent", 3, "softmax", True), ReadOutputs("pos", 2, "softmax", True),
         ReadOutputs("rating", 1, "identity", True), ReadOutputs("size", 3, "cumulative", True),
         ReadOutputs("topics", 2, "sigmoid", True)),
    )  # fmt: skip


@pytest.mark.parametrize(
    "written",
    ["intent", ["intent"], ["intent", "intent"], {"intent": PROBABILITIES}],
    ids=["name", "list", "twice", "form"],
)
def test_one_name_or_several_are_read_as_needs_are(written: Any) -> None:
    options = TASKS["tagging"].Options.model_validate({"type": "tagging", "needs": "intent", "reads": written})
    assert options.reads == {"intent": PROBABILITIES}
    assert TASKS["tagging"].Options.model_validate(options.model_dump(mode="json")).reads == options.reads


@pytest.mark.parametrize("written", [3, [3], {"intent": "labels"}, [["intent"]], True])
def test_what_is_no_name_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError, match="reads"):
        TASKS["tagging"].Options.model_validate({"type": "tagging", "needs": "intent", "reads": written})


def test_readings_survive_json_and_their_order_does_not_matter() -> None:
    tasks = {name: fitted(name, kind) for name, kind in KINDS.items()}
    for reads in (
        {"intent": PROBABILITIES, "rating": PROBABILITIES},
        {"rating": PROBABILITIES, "intent": PROBABILITIES},
    ):
        tasks["slots"] = fitted("slots", "tagging", needs=["intent", "rating"], reads=reads, detach_reads=False)
        written = {name: (task.type_name, json.dumps(task.to_json())) for name, task in tasks.items()}
        again = {name: TASKS[kind].from_json(name, json.loads(text)) for name, (kind, text) in written.items()}
        assert head_specs(again) == head_specs(tasks)
        assert head_specs(again)["slots"].reads == (
            ReadOutputs("intent", 3, "softmax", False), ReadOutputs("rating", 1, "identity", False),
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_what_is_read_are_the_probabilities_that_a_user_sees(kind: str) -> None:
    task = fitted("it", kind)
    outputs = torch.randn(task.head.size, generator=torch.Generator().manual_seed(1))
    shown = task.format_prediction(outputs.numpy(), "", [], [])
    assert isinstance(shown, dict)
    given = ACTIVATIONS[task.activation](outputs).tolist()
    assert list(shown[PROBABILITIES].values()) == pytest.approx(given, abs=1e-6)


def test_a_number_is_read_in_units_of_its_deviation() -> None:
    task = fitted("it", "regression")
    labels = torch.tensor([[task.encode(label)] for label in ROWS["regression"]])
    given = ACTIVATIONS[task.activation](labels)
    assert (float(given.mean()), float(given.std(correction=0))) == pytest.approx((0, 1), abs=1e-6)


def options_of(**changed: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, dict[str, Any]] = {
        "intent": {"type": "classification"},
        "topic": {"type": "classification"},
        "pos": {"type": "tagging"},
        "slots": {"type": "tagging", "needs": ["intent"], "reads": {"intent": PROBABILITIES}},
    }
    found = {name: values[name] | changed.get(name, {}) for name in values}
    return {name: TASKS[one["type"]].Options.model_validate(one) for name, one in found.items()}


def check(options: dict[str, Any]) -> None:
    require_readable(options, {name: TASKS[one.type].level for name, one in options.items()})


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"slots": {"needs": ["pos", "intent"], "reads": {"pos": PROBABILITIES, "intent": PROBABILITIES}}},
        {"topic": {"needs": ["intent"], "reads": {"intent": PROBABILITIES}}},
        {"intent": {"text_pair": ["a", "b"]}, "slots": {"text_pair": ["c", "d"]}},
        {"intent": {"text": "utterance"}},
    ],
)
def test_tasks_of_texts_and_of_words_are_read_where_that_has_a_meaning(changed: dict[str, Any]) -> None:
    check(options_of(**changed))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"slots": {"needs": []}},
         "tasks.slots.reads: found 'intent', and 'slots' does not need it; add needs: [intent]"),
        ({"slots": {"needs": ["pos"]}},
         "tasks.slots.reads: found 'intent', and 'slots' does not need it; add needs: [pos, intent]"),
        ({"slots": {"reads": {"intend": PROBABILITIES}}},
         "tasks.slots.reads: found 'intend'; accepted: intent, pos, topic; did you mean 'intent'?"),
        ({"slots": {"reads": {"slots": PROBABILITIES}, "needs": ["slots"]}},
         "tasks.slots.reads: found 'slots', the task itself; name another task, which it needs"),
        ({"topic": {"needs": ["pos"], "reads": {"pos": PROBABILITIES}}},
         "tasks.topic.reads: 'pos' predicts words and 'topic' whole texts; a task at row level can only read other "
         "tasks at row level"),
        ({"intent": {"text_pair": ["a", "b"]}},
         "tasks.slots.reads: one of 'slots' and 'intent' is about a text, the other about a pair of texts; both have "
         "to take the same input"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_the_mend(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}$"):
        check(options_of(**changed))


def test_learning_options_leave_what_is_read_from_the_rows_alone() -> None:
    plain, other = (options_of(**change)["slots"] for change in ({}, {"slots": {"reads": {}, "detach_reads": False}}))
    assert plain.reading() == other.reading()
