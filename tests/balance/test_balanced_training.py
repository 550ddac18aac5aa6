"""Balancers in a run: what they log, and what they cannot be combined with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_steps import BRANCH, TASKS, Job

import polytask as pt
from polytask.assemble import assemble
from polytask.config import validate
from polytask.errors import ConfigError
from polytask.model.parameters import gradient_groups, top_group

SEQUENTIAL = {"strategy": "sequential"}


def steps(run: Path) -> list[dict[str, Any]]:
    lines = (run / "events.jsonl").read_text("utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "step"]


@pytest.mark.parametrize(
    ("balance", "train", "weighs"),
    [
        ({"method": "sum"}, {}, False),
        ({"method": "stch"}, {}, True),
        ({"method": "famo"}, {"gradient_accumulation_steps": 2}, True),
        ({"method": "nash_mtl"}, {"gradient_accumulation_steps": 2}, True),
        ({"method": "gradnorm"}, {"gradient_checkpointing": True}, True),
        pytest.param({"method": "graddrop"}, {"precision": "bf16"}, False, marks=pytest.mark.slow),
        pytest.param(
            {"method": "upgrad"}, {"precision": "bf16", "gradient_checkpointing": True}, True, marks=pytest.mark.slow
        ),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_balanced_runs_train_and_log_the_weights(
    job: Job, tmp_path: Path, balance: dict[str, Any], train: dict[str, Any], weighs: bool
) -> None:
    values = {**job(max_steps=4, logging_steps=2, learning_rate=5e-3, **train), "sharing": BRANCH, "balance": balance}
    run = pt.train(values, tmp_path / "run")
    assert set(run.scores["test"]) == set(TASKS)
    logged = steps(tmp_path / "run")
    assert [event["step"] for event in logged] == [2, 4]
    for event in logged:
        assert ("weights" in event) == weighs
        assert set(event.get("weights", TASKS)) == set(TASKS)
    assert sum(logged[1]["losses"].values()) < sum(logged[0]["losses"].values())


def test_a_schedule_that_trains_one_task_a_step_at_times_is_balanced_when_it_does_not(job: Job, tmp_path: Path) -> None:
    values = {
        **job(epochs=1, logging_steps=1),
        "schedule": {**SEQUENTIAL, "replay": 0.5},
        "balance": {"method": "imtl_g"},
    }
    pt.train(values, tmp_path / "run")
    found = [set(event["weights"]) for event in steps(tmp_path / "run")]
    assert {"sentiment"} in found
    assert any(len(tasks) > 1 for tasks in found)
    alone = [event["weights"] for event in steps(tmp_path / "run") if len(event["weights"]) == 1]
    assert all(set(weights.values()) == {1.0} for weights in alone)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"balance": {"method": "upgrad"}, "schedule": SEQUENTIAL},
         r"balance\.method: upgrad balances tasks against each other, and this schedule trains one task per step; "
         r"use schedule\.strategy=parallel, or balance\.method=sum"),
        ({"balance": {"method": "stch"}, "schedule": SEQUENTIAL}, "trains one task per step"),
        ({"balance": {"method": "graddrop"}, "tasks": ["topic"]}, r"the only task is 'topic'; use balance\.method=sum"),
        ({"balance": {"method": "cagrad"}, "sharing": {"strategy": "independent"}},
         r"they share none that are trained; choose another sharing\.strategy, or balance\.method=sum"),
        ({"balance": {"method": "dwa"}, "sharing": {"strategy": "partial", "layers": {
            "embeddings": [["sentiment", "topic"], ["entities"]], "1-2": [["sentiment", "topic"], ["entities"]]}}},
         r"dwa balances all tasks in the parameters they share, and entities shares none that are trained; choose"),
        ({"balance": {"method": "gradnorm"}, "rows": 2},
         r"gradnorm needs all 3 tasks in a step, and this schedule trains at most 2 together; .*a larger "
         r"train\.batch_size"),
        ({"balance": {"method": "upgrad", "measure": "top"}, "gradient_accumulation_steps": 2},
         r"balance\.measure: found top with train\.gradient_accumulation_steps=2; .*set balance\.measure=all"),
        ({"balance": {"method": "gradnorm"}, "max_tokens_per_batch": 4096}, r"set .*train\.max_tokens_per_batch=null"),
        ({"balance": {"method": "gradnorm"}, "gradient_accumulation_steps": 2}, r"set balance\.measure=all"),
        ({"balance": {"method": "pcd", "primary": "topik"}}, r"balance\.primary: found 'topik'; .*mean 'topic'"),
        ({"balance": {"method": "krum", "outliers": 1}}, "krum with these options needs 4 tasks or more; found 3"),
        ({"balance": {"method": "krum", "selected": 5}}, "needs 5 tasks or more; found 3"),
        ({"balance": {"method": "trimmed_mean", "trim": 2}}, "trim=2 needs 5 tasks or more; found 3"),
        ({"balance": {"method": "trimmed_mean"}, "tasks": ["topic", "entities"]}, "needs 3 tasks or more; found 2"),
        ({"balance": {"method": "pc_grad"}}, r"balance.*pc_grad.*pcgrad.*did you mean 'pcgrad'"),
        ({"balance": {"method": "cagrad", "d": 1}}, r"balance\.d: unknown key; accepted: c, every, gradient_precision, "
         "measure, method"),
        ({"balance": {"method": "dwa", "window": 0}}, r"balance\.window"),
    ],
    ids=lambda value: None if isinstance(value, str) else value["balance"]["method"],
)  # fmt: skip
def test_mistakes_are_found_before_the_first_step(job: Job, changed: dict[str, Any], told: str) -> None:
    options = {**changed}
    found = {
        "batch_size": options.pop("rows", 8),
        "gradient_accumulation_steps": options.pop("gradient_accumulation_steps", 1),
        "max_tokens_per_batch": options.pop("max_tokens_per_batch", None),
    }
    values = job(shared=found["batch_size"] > 3, **found)
    tasks = options.pop("tasks", TASKS)
    values = {**values, **options, "tasks": {name: values["tasks"][name] for name in tasks}}
    with pytest.raises(ConfigError, match=f"(?s){told}"):
        assemble(validate(values))


@pytest.mark.parametrize("balance", [{"method": "sum"}, {}])
def test_the_sum_goes_with_everything(job: Job, balance: dict[str, Any]) -> None:
    values = {**job(), **({"balance": balance} if balance else {})}
    for more in ({"schedule": SEQUENTIAL}, {"sharing": {"strategy": "independent"}}):
        assert assemble(validate({**values, **more})).config.balance.method == "sum"


@pytest.mark.parametrize(
    ("sharing", "level"),
    [
        ({"strategy": "global"}, 1),
        ({"strategy": "partial", "shared_layers": 1}, 0),
        ({"strategy": "partial", "branches": [{"from_layer": 2, "groups": [["sentiment", "topic"], ["entities"]]}]}, 0),
        ({"strategy": "partial", "shared_layers": 1, "kind": "lora", "rank": 2, "base": "frozen"}, 0),
    ],
    ids=["global", "own top", "branch", "frozen below adapters"],
)
def test_the_top_is_the_highest_layer_in_which_most_tasks_meet_and_train(
    job: Job, sharing: dict[str, Any], level: int
) -> None:
    model = assemble(validate({**job(), "sharing": sharing})).model
    top = top_group(model)
    assert set(top) == set(TASKS)
    found, expected = (
        {task: [id(one) for one in listed] for task, listed in group.items()}
        for group in (top, gradient_groups(model)[level])
    )
    assert found == expected
