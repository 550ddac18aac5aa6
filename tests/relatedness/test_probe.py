"""The probe: within its budget, the same for a seed, its plan accepted; and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from polytask.cli import app
from polytask.errors import ConfigError, UserError
from polytask.probe import budget

Job = Callable[..., dict[str, Any]]


def test_a_probe_keeps_its_budget_repeats_itself_and_proposes_a_plan_that_trains(job: Job, tmp_path: Path) -> None:
    values = job(shared=False, epochs=20)
    found = pt.relate(values, tmp_path / "related")
    assert isinstance(found, pt.Relatedness)
    assert 0 < found.cost.share_of_joint_run <= budget.GREATEST_SHARE
    assert set(found.measures) == {"gradient_cosine", "look_ahead"}
    assert sorted(task for group in found.groups for task in group) == ["entities", "sentiment", "topic"]
    record = json.loads((tmp_path / "related" / "relatedness.json").read_text())
    again = pt.relate(values).to_json()
    for one in (record, again):
        del one["cost"]["seconds"]
    assert record == again
    assert record["sentences"]
    assert list(record["measures"]["gradient_cosine"]["layers"]) == ["1", "2"]

    values["sharing"] = {"strategy": "from_affinity", "file": str(tmp_path / "related" / "affinity.json")}
    run = pt.train({**values, "train": {**values["train"], "max_steps": 1}})
    assert run.model.network.plan == found.plan


def test_tasks_on_the_same_texts_that_need_and_read_each_other_are_probed_freely(job: Job) -> None:
    values = job(epochs=20)
    values["tasks"]["entities"] |= {"needs": ["topic"], "reads": {"topic": "probabilities"}}
    values["sharing"] = {"strategy": "independent"}
    said = " ".join(pt.relate(values).sentences)
    assert "no head read another task's predictions" in said
    assert "'independent'" in said


def test_what_cannot_be_related_is_refused(job: Job, tmp_path: Path) -> None:
    values = job()
    one = {**values, "tasks": {"topic": values["tasks"]["topic"]}}
    with pytest.raises(ConfigError, match="found topic alone; relatedness is between two or more"):
        pt.relate(one)
    with pytest.raises(ConfigError, match="too short for a probe.*raise train.epochs"):
        pt.relate(job(max_steps=1))
    with pytest.raises(UserError, match="no comparison.json; name the folder"):
        pt.relate(values, comparison=tmp_path)
    write_comparison(tmp_path, ["topic", "other"], {})
    with pytest.raises(UserError, match="about topic, other, and the configuration has sentiment, topic, entities"):
        pt.relate(values, comparison=tmp_path)
    (tmp_path / "comparison.json").write_text("[]")
    with pytest.raises(UserError, match="not the record of a comparison"):
        pt.relate(values, comparison=tmp_path)


def write_comparison(folder: Path, tasks: list[str], runs: dict[str, list[str]], transfer: Any = None) -> None:
    value = {"tasks": {task: {} for task in tasks}, "arms": {"single": {"runs": runs}}, "transfer": transfer}
    (folder / "comparison.json").write_text(json.dumps(value))


def test_a_comparison_adds_cka_and_what_the_measures_foretold(job: Job, tmp_path: Path) -> None:
    values = job(shared=False, epochs=20)
    singles: list[str] = []
    for task, options in values["tasks"].items():
        single = {**values, "tasks": {task: options}, "train": {**values["train"], "max_steps": 2}}
        pt.train(single, tmp_path / "runs" / task)
        singles.append(f"runs/{task}")
    names = list(values["tasks"])
    matrix = [[None, 0.1, 0.2], [0.3, None, -0.1], [0.4, 0.0, None]]
    write_comparison(tmp_path, names, {"1": singles}, {"tasks": names, "matrix": matrix})
    found = pt.relate(values, comparison=tmp_path)
    assert set(found.measures) == {"gradient_cosine", "look_ahead", "cka", "transfer"}, found.sentences[-1]
    assert found.measures["cka"].matrix.diagonal() == pytest.approx(1.0)
    assert set(found.rank_correlation) == {"gradient_cosine", "look_ahead", "cka"}
    assert all(one.pairs == 6 and one.spearman is not None for one in found.rank_correlation.values())

    write_comparison(tmp_path, names, {"1": singles[:2]})
    found = pt.relate(values, comparison=tmp_path)
    assert any("keeps no single-task model of entities" in sentence for sentence in found.sentences)


def test_the_command_prints_matrices_groups_plan_and_cost(job: Job, tmp_path: Path) -> None:
    import yaml
    from typer.testing import CliRunner

    (tmp_path / "config.yaml").write_text(yaml.safe_dump(job(shared=False, epochs=20)))
    done = CliRunner().invoke(app, ["relate", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "related")])
    assert done.exit_code == 0, done.output
    for text in ("Gradient cosine", "Look-ahead", "Groups", "Proposed plan", "row passes"):
        assert text in done.output
    cosines = done.output.partition("Gradient cosine")[2].partition("Look-ahead")[0]
    assert re.search(r"-?[01]\.\d\d ± [01]\.\d\d", cosines)
    assert not re.search(r"\d\.\d{3}|e-\d", cosines)
    assert (tmp_path / "related" / "affinity.json").is_file()
