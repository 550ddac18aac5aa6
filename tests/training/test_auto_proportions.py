"""Proportions of `auto`: what a run with unequal tasks resolves them to, says of them, and draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polytask.assemble import assemble
from polytask.config import validate
from samples import corpus_rows, write_jsonl


def job(folder: Path, encoder: Path, rows: tuple[int, int], **schedule: Any) -> dict[str, Any]:
    """Return a configuration of two tasks with separate files of so many rows."""
    found = [row for row in corpus_rows(400) if row.get("topic") is not None]
    tasks: dict[str, Any] = {}
    for place, (name, count) in enumerate(zip(("large", "small"), rows, strict=True)):
        file = folder / f"{name}.jsonl"
        write_jsonl(file, [{"text": f"{place} {row['text']}", "topic": row["topic"]} for row in found[:count]])
        tasks[name] = {"type": "classification", "label": "topic", "data": {"train": str(file), "dev": str(file)}}
    values: dict[str, Any] = {"encoder": str(encoder), "max_tokens": 32, "tasks": tasks, "train": {"batch_size": 10}}
    return {**values, **({"schedule": schedule} if schedule else {})}


@pytest.mark.parametrize(
    ("rows", "way", "reason"),
    [
        ((200, 20), "temperature", "large has 10 times the rows of small"),
        ((100, 50), "proportional", "no task has more than 2 times the rows of another"),
    ],
)
@pytest.mark.parametrize("schedule", [{}, {"strategy": "dynamic", "policy": "loss_rate"}], ids=["default", "dynamic"])
def test_unequal_tasks_get_shares_by_temperature(
    tmp_path: Path, tiny: Path, rows: tuple[int, int], way: str, reason: str, schedule: dict[str, Any]
) -> None:
    assembly = assemble(validate(job(tmp_path, tiny, rows, **schedule)))
    assert assembly.config.to_json()["schedule"]["proportions"] == way
    (choice,) = [one for one in assembly.choices if one.option == "schedule.proportions"]
    assert (choice.value, choice.reason) == (way, reason)


def test_the_resolved_configuration_is_the_same_run(tmp_path: Path, tiny: Path) -> None:
    values = job(tmp_path, tiny, (200, 20))
    resolved = assemble(validate(values))
    again = assemble(validate({**values, "schedule": {"strategy": "parallel", "proportions": "temperature"}}))
    assert again.identity == resolved.identity
    step = resolved.schedule().shares()
    assert step["small"] / sum(step.values()) == pytest.approx(20**0.5 / (20**0.5 + 200**0.5))


def test_given_proportions_are_kept_and_one_task_has_none(tmp_path: Path, tiny: Path) -> None:
    assembly = assemble(validate(job(tmp_path, tiny, (200, 20), strategy="parallel", proportions="proportional")))
    assert not any(one.option == "schedule.proportions" for one in assembly.choices)
    values = job(tmp_path, tiny, (200, 20))
    del values["tasks"]["small"]
    alone = assemble(validate(values))
    assert not any(one.option == "schedule.proportions" for one in alone.choices)
    assert alone.config.to_json()["schedule"]["proportions"] == "proportional"


def test_tasks_that_wait_for_others_keep_proportional_shares(tmp_path: Path, tiny: Path) -> None:
    values = job(tmp_path, tiny, (200, 20))
    values["tasks"]["small"]["needs"] = ["large"]
    assembly = assemble(validate(values))
    (choice,) = [one for one in assembly.choices if one.option == "schedule.proportions"]
    assert (choice.value, choice.reason) == ("proportional", "tasks wait for others to pass through their rows")
