"""A cascade from configuration to prediction: topic is read by sentiment, and both by the entities."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import polytask as pt
from polytask.assemble import assemble
from polytask.assembly import Assembly
from polytask.config import validate
from polytask.data.stream import DrawnRow
from polytask.errors import ConfigError
from samples import close

Job = Callable[..., dict[str, Any]]
PROBABILITIES = "probabilities"
TEXTS = ["Ingrid's café in Lyon was not bad at all.", "never again", "", "\x00\x01"]
SHARINGS: dict[str, dict[str, Any]] = {
    "global": {"strategy": "global"},
    "partial": {"strategy": "partial", "shared_layers": 1},
    "independent": {"strategy": "independent"},
}


def cascade(job: Job, sharing: str = "partial", detach: bool = True, **train: Any) -> dict[str, Any]:
    values = {**job(**train), "sharing": SHARINGS[sharing]}
    values["tasks"]["sentiment"] |= {"needs": "topic", "reads": {"topic": PROBABILITIES}, "detach_reads": detach}
    values["tasks"]["entities"] |= {
        "needs": ["topic", "sentiment"],
        "reads": {"topic": PROBABILITIES, "sentiment": PROBABILITIES},
        "detach_reads": detach,
    }
    return values


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("sharing", SHARINGS)
def test_a_cascade_trains_evaluates_and_answers_alike_before_and_after_saving(
    job: Job, tmp_path: Path, sharing: str, detach: bool
) -> None:
    run = pt.train(cascade(job, sharing, detach, rows=60, epochs=6, learning_rate=5e-3), tmp_path / "run")
    exposure = json.loads((tmp_path / "run" / "run.json").read_text())["exposure"]
    assert all(exposure[task]["epochs"] > 0.5 for task in ("sentiment", "topic", "entities"))
    together = run.model.predict(TEXTS)
    assert all(list(answer) == ["sentiment", "topic", "entities"] for answer in together)
    loaded = pt.load(tmp_path / "run" / "model")
    assert loaded.predict(TEXTS) == together
    for task in together[0]:
        alone = [{task: answer[task]} for answer in together]
        assert close(loaded.predict(TEXTS, tasks=[task]), alone)
        assert close([loaded.predict([text], tasks=[task])[0] for text in TEXTS], alone)
    assert set(loaded.predict([{"tokens": ["Lee", "'s"]}])[0]) == {"entities"}
    file = str(tmp_path / "all-test.jsonl")
    assert pt.evaluate(loaded, {"all": file}).scores == run.scores["test"]
    assert pt.evaluate(loaded, {"entities": file}).scores == {"entities": run.scores["test"]["entities"]}


def build(job: Job, **values: Any) -> Assembly:
    assembly = assemble(validate(cascade(job, **values)))
    assembly.model.eval()
    return assembly


def test_rows_without_the_label_that_is_read_leave_its_loss_alone(job: Job) -> None:
    assembly = build(job, shared=False)
    collator, sources = assembly.collator(), assembly.sources["train"]
    rows = [DrawnRow(number, row, source.tasks) for number, source in enumerate(sources) for row in range(6)]
    mixed = collator.from_sources(sources, rows)
    with torch.inference_mode():
        outputs = assembly.model(mixed)
        for name, task in assembly.tasks.items():
            alone = collator.from_sources(sources, [row for row in rows if row.tasks == (name,)])
            torch.testing.assert_close(
                task.loss(outputs[name], mixed.targets[name]),
                task.loss(assembly.model(alone)[name], alone.targets[name]),
            )
            torch.testing.assert_close(assembly.model(mixed.only(name))[name], outputs[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("detach", [True, False])
def test_only_an_undetached_reading_trains_what_is_read(job: Job, detach: bool) -> None:
    assembly = build(job, sharing="independent", detach=detach)
    source = assembly.sources["train"][0]
    rows = [DrawnRow(0, int(row), ("entities",)) for row in source.carries["entities"][:6]]
    batch = assembly.collator().from_sources([source], rows)
    loss = assembly.tasks["entities"].loss(assembly.model(batch)["entities"], batch.targets["entities"])
    loss.backward()
    for task in ("topic", "sentiment"):
        found = [parameter.grad is not None for parameter in assembly.model.head(task).parameters()]
        assert found == [not detach] * len(found)


def test_a_shared_head_reads_the_same_for_all_its_tasks(job: Job) -> None:
    values = cascade(job, "global")
    values["tasks"]["again"] = {**values["tasks"]["sentiment"]}
    values["sharing"] = {"strategy": "global", "share_heads": [["sentiment", "again"]]}
    model = assemble(validate(values)).model
    assert model.head("again") is model.head("sentiment")
    values["tasks"]["again"] = {**values["tasks"]["again"], "reads": {}}
    with pytest.raises(
        ConfigError, match=r"share_heads\[0\]: 'sentiment' and 'again' cannot share a head: their heads"
    ):
        assemble(validate(values))


@pytest.mark.parametrize(
    ("task", "changed", "told"),
    [
        ("entities", {"reads": {"topik": PROBABILITIES}}, r"tasks\.entities\.reads: found 'topik'; .*mean 'topic'"),
        ("sentiment", {"needs": []}, r"tasks\.sentiment\.reads: found 'topic'.*; add needs: \[topic\]"),
        ("topic", {"needs": "entities", "reads": {"entities": PROBABILITIES}}, "a task at row level can only read"),
        ("topic", {"needs": "sentiment", "reads": {"sentiment": PROBABILITIES}}, "needs form a cycle"),
        ("sentiment", {"reads": {"topic": "probability"}},
         r"tasks\.sentiment\.reads\.topic: found 'probability'; accepted: probabilities"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_any_row_is_read(job: Job, task: str, changed: dict[str, Any], told: str) -> None:
    values = cascade(job)
    values["tasks"][task] |= changed
    for one in values["tasks"].values():
        one["data"] = {"train": "not-there.jsonl", "dev": "not-there.jsonl"}
    with pytest.raises(ConfigError, match=told):
        assemble(validate(values))
