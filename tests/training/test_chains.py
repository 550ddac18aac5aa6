"""A tagging task with `crf: true` trains, goes on, is divided, taught, saved, exported and read as others are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interruptions import interrupt_after
from safetensors.torch import load_file
from test_distribution import gradients, in_pieces, require_same, without_dropout

import polytask as pt
from polytask.assemble import assemble
from polytask.config import validate
from polytask.errors import Interrupted, ModelError
from polytask.tasks.bio import repair
from polytask.tasks.chain import Transitions, log_marginals, scheme_transitions
from polytask.training.distribution import World
from samples import close, small_job

Job = Callable[..., dict[str, Any]]


def chained(values: dict[str, Any], **options: Any) -> dict[str, Any]:
    entities = {**values["tasks"]["entities"], "crf": True, **options}
    return {**values, "tasks": {**values["tasks"], "entities": entities}}


def table_of(run: Path) -> Any:
    weights = load_file(run / "model" / "model.safetensors")
    return weights[next(name for name in weights if name.endswith("transitions"))].numpy()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A trained run whose transitions matter."""
    folder = tmp_path_factory.mktemp("chains")
    values = chained(small_job(folder, tiny, rows=90, epochs=6, learning_rate=3e-3), calibrate=True)
    pt.train(values, folder / "run")
    return folder / "run"


def test_interrupted_and_resumed_equals_uninterrupted(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = chained(job(epochs=3))
    whole = pt.train(values, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4)
        with pytest.raises(Interrupted):
            pt.train(values, tmp_path / "stopped")
    resumed = pt.train(values, tmp_path / "stopped", resume=True)
    names = [tmp_path / name / "model" for name in ("whole", "stopped")]
    assert len({(name / "model.safetensors").read_bytes() for name in names}) == 1
    assert resumed.scores == whole.scores


@pytest.mark.usefixtures("quick_processes")
def test_two_processes_and_pieces_make_the_update_of_one(job: Job, tmp_path: Path) -> None:
    values = chained(without_dropout(job(shared=False)))
    methods = {
        "sum": {}, "gram": {"method": "nash_mtl"}, "top": {"method": "imtl_g", "measure": "top"},
    }  # fmt: skip
    cases = {name: {**values, **({"balance": method} if method else {})} for name, method in methods.items()}
    cases |= {"sum-in-pieces": in_pieces(cases["sum"], 3), "gram-in-pieces": in_pieces(cases["gram"], 2)}
    alone = gradients(cases, tmp_path / "one", 1)
    require_same(gradients(cases, tmp_path / "two", 2), alone)
    for name in ("sum", "gram"):
        require_same({name: alone[name]}, {name: alone[f"{name}-in-pieces"]})


def test_dev_scores_are_those_of_the_transitions_that_were_saved(run: Path) -> None:
    scores = json.loads((run / "scores.json").read_text("utf-8"))
    told = json.loads((run / "model" / "polytask.json").read_text("utf-8"))["tasks"]["entities"]["tuned"]
    table = table_of(run)
    assert np.abs(table).max() > 0.01
    assert np.array_equal(np.array(told["transitions"], np.float32).reshape(table.shape), table)
    model = pt.load(run / "model")
    again = pt.evaluate(model, {"entities": str(run.parent / "all-test.jsonl")}).scores
    assert again["entities"]["f1"] == pytest.approx(scores["test"]["entities"]["f1"])
    assert pt.report(run).is_file()


TEXTS = ["Ingrid's café in Lyon was not bad at all.", "never again", "", "日本の映画 in Oslo", "Lee " * 40]


def test_a_chain_runs_over_the_whole_of_a_text_that_is_read_in_windows(run: Path) -> None:
    from polytask.data.words import split_words

    model = pt.load(run / "model", precision="fp32")
    text = "Ann met Lee in New York . " * 20
    tokens, engine = model.reader("windows")
    (row,) = tokens.rows([text], None, [split_words(text)])
    assert len(row.ids) > 2 * model.tokens.max_tokens
    outputs = engine.run([row], [("entities",)])[0]["entities"]
    (tags,) = model.tasks["entities"].decode(outputs, [row.words])
    assert isinstance(tags, list)
    assert repair(tags) == (tags, 0)
    found = model.predict([text], ["entities"], long="windows")[0]["entities"]
    assert len(found) == sum(tag.startswith("B-") for tag in tags)


def test_other_programs_have_no_transitions(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="entities: its head has transitions between tags \\(crf\\)"):
        pt.export(run, tmp_path / "hf", to="hf")


def test_a_student_learns_a_chains_marginals(run: Path, job: Job) -> None:
    for options in ({}, {"crf": True}):
        values = job(max_steps=3)
        values["tasks"] = {"entities": {**values["tasks"]["entities"], **options}}
        values["train"]["teachers"] = [str(run)]
        assembly = assemble(validate(values))
        (source,) = assembly.train_sources(World(0, 1))
        (teacher,) = assembly.teachers
        task = pt.load(teacher.model.folder).tasks["entities"]
        transitions = Transitions.read(table_of(run).astype(np.float64))
        transitions += scheme_transitions(task.labels, bio=True)
        row = int(source.carries["entities"][0])
        logits = np.array(source.teacher_logits["entities"][row])
        np.testing.assert_allclose(np.exp(logits).sum(-1), 1.0, atol=1e-5)
        engine = pt.load(teacher.model.folder).engine
        outputs = engine.run([source.tokens(row)], [("entities",)])[0]["entities"]
        expected = np.exp(log_marginals(outputs.astype(np.float64), [len(outputs)], transitions))
        np.testing.assert_allclose(np.exp(logits), expected, atol=1e-5)
        trained = pt.train(values)
        assert trained.scores["dev"]["entities"]["f1"] is not None


def test_chains_read_and_are_read(job: Job, tmp_path: Path) -> None:
    values = job(shared=True)
    places = {**values["tasks"]["entities"], "needs": ["entities"], "reads": {"entities": "probabilities"}, "crf": True}
    places |= {"detach_reads": False}
    values = chained({**values, "tasks": {**values["tasks"], "places": places}}, gate={"epochs": 0.01})
    pt.train(values, tmp_path / "run")
    model = pt.load(tmp_path / "run")
    assert set(model.predict(["Ann met Lee in Oslo."])[0]) == {"sentiment", "topic", "entities", "places"}
    assert set(model.predict(["Ann met Lee in Oslo."], ["places"])[0]) == {"places"}


def test_tasks_share_the_transitions_with_the_head(job: Job, tmp_path: Path) -> None:
    values = chained(job())
    values["tasks"]["places"] = values["tasks"]["entities"]
    values["sharing"] = {"strategy": "global", "share_heads": [["entities", "places"]]}
    run = pt.train(values, tmp_path / "run")
    tables = {run.model.tasks[name].to_json()["tuned"]["transitions"][0] for name in ("entities", "places")}
    assert len(tables) == 1
    assert torch.is_tensor(run.model.network.head("places").learned()["transitions"])


def test_an_extended_model_keeps_its_chain(run: Path, job: Job, tmp_path: Path) -> None:
    values = job(epochs=1)
    values["tasks"] = {"more": {**values["tasks"]["entities"], "crf": True}}
    pt.extend(run, values, tmp_path / "extended")
    before, after = pt.load(run), pt.load(tmp_path / "extended")
    assert close(after.predict(TEXTS, ["entities"]), before.predict(TEXTS, ["entities"]))
    assert after.tasks["more"].to_json()["tuned"]["transitions"]
