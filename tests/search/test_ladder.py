"""The ladder of a search: steps of several tasks in one model, each answering as its own run does."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import polytask
from polytask.artifact.folder import load_bundle
from polytask.errors import Interrupted
from polytask.model.parameters import count_parameters
from polytask.page import report
from polytask.search.ladder import Standing
from polytask.search.record import way_of
from polytask.search.stages import Stages
from polytask.search.table import show_search
from polytask.sharing.plan import global_plan
from polytask.sharing.sharing import PartKind, Sharing
from polytask.training.loop import Trainer
from samples import corpus_rows, write_jsonl

WORSE, BETTER, ABOVE = Standing(-0.03, -0.05, -0.01, 0.0), Standing(-0.02, -0.04, 0.0, 0.1), Standing(0.0, 0, 0, 1.0)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> dict[str, Any]:
    """A configuration of three tasks."""
    folder = tmp_path_factory.mktemp("three")
    rows = corpus_rows(48)
    for split, part in (("train", rows[:24]), ("dev", rows[24:36]), ("test", rows[36:])):
        write_jsonl(folder / f"{split}.jsonl", [{**row, "again": row.get("topic")} for row in part])
    data = {split: str(folder / f"{split}.jsonl") for split in ("train", "dev", "test")}
    labels = ("sentiment", "topic", "again")
    tasks = {label: {"type": "classification", "data": data, "label": label} for label in labels}
    train = {"epochs": 2, "batch_size": 8, "seed": 5, "precision": "fp32"}
    return {"encoder": str(tiny), "max_tokens": 48, "tasks": tasks, "train": train}


Judge = Callable[[str, str], Standing]


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[[Judge], None]:
    """Let a function of the task and the folder's name say how tasks compare: in the winner, and after each step.

    The ladder gets five trainings.
    """

    def judge(function: Judge) -> None:
        def stand(self: Stages) -> None:
            self.state.standings = {task: function(task, "") for task in self.inputs.judged}
            self.outline = replace(self.outline, ladder=5.0)

        def standing_of(self: Stages, task: str, folder: Path) -> Standing:
            del self
            return function(task, folder.name)

        monkeypatch.setattr(Stages, "_stand", stand)
        monkeypatch.setattr(Stages, "standing_of", standing_of)

    return judge


def probabilities(folder: Path, task: str, texts: list[str]) -> list[Any]:
    return [answer[task] for answer in polytask.load(folder).predict(texts)]


TEXTS = ["A luminous film.", "The phone broke after a day.", "Rates rise again, the bank says."]


def test_steps_of_two_tasks_are_combined_and_each_answers_as_its_run(
    three: dict[str, Any], judged: Callable[[Judge], None], tmp_path: Path
) -> None:
    def judge(task: str, place: str) -> Standing:
        return ABOVE if task == "again" or place.startswith(f"{task}-own_third") else WORSE

    judged(judge)
    found = polytask.auto(three, tmp_path / "out", budget=4)
    steps = [(step["task"], step["step"], step["taken"]) for step in found.record["ladder"]]
    assert steps == [("sentiment", "own_third", True), ("topic", "own_third", True)]
    assert {task: row["lifted_by"] for task, row in found.tasks.items()} == {
        "sentiment": "own_third", "topic": "own_third", "again": None,
    }  # fmt: skip
    for task in ("sentiment", "topic"):
        (run,) = (found.folder / "ladder").glob(f"{task}-own_third-*")
        assert probabilities(found.model, task, TEXTS) == probabilities(run, task, TEXTS)
    winner = found.folder / [row["run"] for row in found.record["candidates"] if row["share"] == 1][-1]
    assert probabilities(found.model, "again", TEXTS) == probabilities(winner, "again", TEXTS)
    bundle = load_bundle(found.model)
    assert found.passes == bundle.model.passes() < 3
    assert found.size == pytest.approx(count_parameters(bundle.model).total / bundle.model.size_of_single(), abs=1e-4)


def test_ctrl_c_in_a_step_of_the_ladder_tells_how_to_go_on(
    three: dict[str, Any], judged: Callable[[Judge], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Trainer.update

    def asked(self: Trainer) -> Any:
        if self.parts.checkpoints is not None and "ladder" in self.parts.checkpoints.folder.parts:
            signal.raise_signal(signal.SIGINT)
        return update(self)

    judged(lambda task, place: ABOVE if task == "again" or place else WORSE)
    monkeypatch.setattr(Trainer, "update", asked)
    with pytest.raises(Interrupted, match=r"own_third-\w+: stopped after step 1 of \d+, and saved; the same command"):
        polytask.auto(three, tmp_path / "out", budget=4)


@pytest.mark.parametrize("step", ["own_third", "lora"])
@pytest.mark.parametrize("heads", [[], [["topic", "again"]]], ids=["own heads", "topic and again share a head"])
def test_tasks_that_read_another_get_parts_of_their_own_too(
    three: dict[str, Any], judged: Callable[[Judge], None], tmp_path: Path, step: str, heads: list[list[str]]
) -> None:
    def judge(task: str, place: str) -> Standing:
        return ABOVE if task == "again" or place.startswith(f"{task}-{step}") else WORSE

    judged(judge)
    reads = {"needs": ["again"], "reads": ["again"]}
    readers = ("sentiment",) if heads else ("sentiment", "topic")  # tasks with one head read the same
    tasks = {name: {**task, **(reads if name in readers else {})} for name, task in three["tasks"].items()}
    values = {**three, "tasks": tasks, **({"sharing": {"strategy": "global", "share_heads": heads}} if heads else {})}
    found = polytask.auto(values, tmp_path / "out", budget=4)
    assert {task: row["lifted_by"] for task, row in found.tasks.items()} == {
        "sentiment": step, "topic": step, "again": None,
    }  # fmt: skip
    winner = found.folder / [row["run"] for row in found.record["candidates"] if row["share"] == 1][-1]
    assert probabilities(found.model, "again", TEXTS) == probabilities(winner, "again", TEXTS)
    for task in ("sentiment", "topic"):
        (run,) = (found.folder / "ladder").glob(f"{task}-{step}-*")
        assert probabilities(found.model, task, TEXTS) == probabilities(run, task, TEXTS)
    assert load_bundle(found.model).tasks["sentiment"].options.reads == {"again": "probabilities"}
    assert found.size < 2


def test_a_task_that_is_read_gets_no_parts_of_its_own_and_the_reason_is_told(
    three: dict[str, Any], judged: Callable[[Judge], None], tmp_path: Path
) -> None:
    judged(lambda task, _: WORSE if task == "again" else ABOVE)
    reads = {"needs": ["again"], "reads": ["again"]}
    tasks = {**three["tasks"], "topic": {**three["tasks"]["topic"], **reads}}
    found = polytask.auto({**three, "tasks": tasks}, tmp_path / "out", budget=4)
    why = {step["step"]: step["why"] for step in found.record["ladder"]}
    assert why["own_third"] == why["lora"] == "the answers of topic, which reads its predictions, would change"
    assert why["graft"] == "another task reads its predictions"


def test_where_one_task_needs_low_rank_parts_another_gets_them_instead_of_layers(
    three: dict[str, Any], judged: Callable[[Judge], None], tmp_path: Path
) -> None:
    def judge(task: str, place: str) -> Standing:
        lifts = {"sentiment": ("lora", "own_third"), "topic": ("lora",), "again": ("",)}
        return ABOVE if any(place.startswith(f"{task}-{step}" if step else "") for step in lifts[task]) else WORSE

    judged(judge)
    found = polytask.auto(three, tmp_path / "out", budget=4, max_size=2.5, max_passes=2.2)
    lifted = {task: row["lifted_by"] for task, row in found.tasks.items()}
    assert lifted == {"sentiment": "lora", "topic": "lora", "again": None}
    (layers,) = [one for one in found.record["ladder"] if one["task"] == "sentiment" and one["step"] == "own_third"]
    assert layers["lifts"]
    assert not layers["taken"]
    # A task that no step touched is not said to have parts of its own.
    assert found.tasks["again"]["how"] == "shares the whole encoder"
    assert found.tasks["topic"]["how"].startswith("own lora parts in layer")


def test_layers_that_are_too_large_together_give_way_to_low_rank_parts(
    three: dict[str, Any], judged: Callable[[Judge], None], tmp_path: Path
) -> None:
    def judge(task: str, place: str) -> Standing:
        return ABOVE if task == "again" or place.startswith((f"{task}-lora", f"{task}-own_third")) else WORSE

    judged(judge)
    roomy = polytask.auto(three, tmp_path / "out", budget=4)
    lifted = {task: row["lifted_by"] for task, row in roomy.tasks.items()}
    assert lifted == {"sentiment": "own_third", "topic": "own_third", "again": None}
    tight = polytask.auto(three, tmp_path / "out", budget=4, max_size=round(roomy.size, 2) - 0.01)
    lifted = {task: row["lifted_by"] for task, row in tight.tasks.items()}
    assert lifted == {"sentiment": "lora", "topic": "lora", "again": None}
    assert tight.size < roomy.size


def test_a_branch_is_the_base_if_it_leaves_the_worst_task_best(
    three: dict[str, Any], judged: Callable[[Judge], None], tmp_path: Path
) -> None:
    def judge(task: str, place: str) -> Standing:
        if place.startswith("topic-branch"):
            return ABOVE
        return WORSE if task == "topic" else ABOVE

    judged(judge)
    found = polytask.auto(three, tmp_path / "out", budget=4, max_size=1.9)
    assert found.tasks["topic"]["lifted_by"] == "branch"
    (run,) = (found.folder / "ladder").glob("topic-branch-*")
    for task in three["tasks"]:
        assert probabilities(found.model, task, TEXTS) == probabilities(run, task, TEXTS)
    (branch,) = [step for step in found.record["ladder"] if step["step"] == "branch"]
    assert branch["taken"]
    assert branch["trained_further"] == ["sentiment", "again"]


def test_a_branch_that_is_kept_for_other_tasks_only_is_told_as_such(
    three: dict[str, Any], judged: Callable[[Judge], None], tmp_path: Path
) -> None:
    def judge(task: str, place: str) -> Standing:
        if task == "again" and place.startswith("topic-branch"):
            return ABOVE
        return ABOVE if task == "sentiment" else WORSE

    judged(judge)
    found = polytask.auto(three, tmp_path / "out", budget=4)
    steps = {(step["task"], step["step"]): step for step in found.record["ladder"]}
    assert steps["topic", "graft"]["taken"]
    branch = steps["topic", "branch"]
    assert not branch["taken"]
    assert branch["trained_further"] == ["sentiment", "again"]
    (run,) = (found.folder / "ladder").glob("topic-branch-*")
    for task in branch["trained_further"]:
        assert probabilities(found.model, task, TEXTS) == probabilities(run, task, TEXTS)
        assert found.tasks[task]["how"] == "shares the whole encoder, trained further in the branch of topic"
    written = io.StringIO()
    show_search(found, Console(file=written, width=300))
    told = "topic: branch: does not lift it, -3.0 points on dev; kept for sentiment, again, trained further in it"
    assert told in written.getvalue()
    assert "kept for sentiment, again, trained further in it" in report(found.folder).read_text("utf-8")
    first = (found.folder / "config.yaml").read_text("utf-8")
    assert "then: topic: graft; sentiment, again: trained further in the branch of topic." in first


def test_a_branch_that_puts_another_task_below_the_floor_is_not_taken(
    three: dict[str, Any], judged: Callable[[Judge], None], tmp_path: Path
) -> None:
    def judge(task: str, place: str) -> Standing:
        if place.startswith("topic-branch"):
            return WORSE if task == "again" else ABOVE
        return BETTER if task == "topic" else ABOVE

    judged(judge)
    found = polytask.auto(three, tmp_path / "out", budget=4, max_size=1.9)
    assert found.tasks["topic"]["lifted_by"] is None
    assert found.tasks["topic"]["below_floor"]
    assert "--max-size 2" in found.tasks["topic"]["would_need"]
    assert not any(step["taken"] for step in found.record["ladder"])


def test_the_nearest_step_is_kept_where_none_lifts(
    three: dict[str, Any], judged: Callable[[Judge], None], tmp_path: Path
) -> None:
    def judge(task: str, place: str) -> Standing:
        if place.startswith("topic-own"):
            return BETTER if task == "topic" else ABOVE
        return WORSE if task == "topic" else ABOVE

    judged(judge)
    found = polytask.auto(three, tmp_path / "out", budget=4, max_size=1.9)
    assert found.tasks["topic"]["lifted_by"] is None
    assert found.tasks["topic"]["dev"]["delta"] == -0.02
    (kept,) = [step for step in found.record["ladder"] if step["taken"]]
    assert kept["step"].startswith("own")
    assert not kept["lifts"]
    assert f"then: topic: {kept['step']}." in (found.folder / "config.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("plan", "kind", "told"),
    [
        ([], "copy", "shares the whole encoder"),
        ([(5, ["a"])], "copy", "own layers 5 to 6"),
        ([(6, ["a"])], "copy", "own layer 6"),
        ([(4, ["a"])], "lora", "own lora parts in layers 4 to 6"),
        ([(5, ["a", "b"])], "copy", "shares layers 1 to 4 with all tasks, layers 5 to 6 with b"),
        ([(6, ["a", "b", "c"])], "copy", "shares layers 1 to 5 with all tasks, layer 6 with b and c"),
        (
            [(3, ["a", "b", "c"]), (5, ["a", "b"])], "copy",
            "shares layers 1 to 2 with all tasks, layers 3 to 4 with b and c, layers 5 to 6 with b",
        ),
        ([(5, ["a", "b"])], "lora", "shares its layers with all tasks, lora parts in layers 5 to 6 with b"),
        ([(0, ["a", "b", "c"]), (4, ["a", "b"])], "copy", "shares layers 1 to 3 with b and c, layers 4 to 6 with b"),
        ([(0, ["a"])], "copy", "a trunk of its own"),
    ],
)  # fmt: skip
def test_what_a_task_shares_is_said_for_every_layer(plan: list[tuple[int, list[str]]], kind: Any, told: str) -> None:
    tree = global_plan(["a", "b", "c", "d"], 6)
    for level, group in plan:
        tree = tree.split(level, group)
    assert way_of("a", Sharing(tree, PartKind(kind))) == told
