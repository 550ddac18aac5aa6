"""Training under a plan that changes: nothing jumps at a change, nothing is lost by stopping, and it ships."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from several_processes import in_processes, without_dropout
from torch import Tensor

import polytask as pt
from polytask.assemble import assemble
from polytask.config import validate
from polytask.data.stream import DrawnRow
from polytask.errors import Interrupted
from polytask.model.parameters import compared_parameters
from polytask.sharing import Plan
from polytask.sharing.plan import global_plan
from polytask.training.distribution import World
from polytask.training.events import Events
from polytask.training.loop import Trainer
from polytask.training.selection import DevScores
from polytask.training.state import TrainingState

Job = Callable[..., dict[str, Any]]
TASKS = ("sentiment", "topic", "entities")
SOON = {"strategy": "adaptive", "interval": 2, "patience": 1, "min_measurements": 2, "confidence": 0.0}
# Any two gradients are less alike than 1, so that every measurement splits once there is something to compare with.
SPLITS: dict[str, Any] = {**SOON, "threshold": 1.0}
MERGES: dict[str, Any] = {
    **SOON,
    "start": {"strategy": "partial", "shared_layers": 0},
    "threshold": -1.0,
    "min_measurements": 1,
    "merge": True,
    "merge_similarity": -1.0,
    "merge_distance": 100.0,
}
TEXTS = ["A quiet film by Ang Lee.", "The bank of Lisbon raised its rates"]


def events(run: Path, *kinds: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]
    return [event for event in found if event["event"] in kinds or not kinds]


def changes(run: Path) -> list[dict[str, Any]]:
    """Return what was decided and when; wall time does not count."""
    return [{**event, "time": None} for event in events(run, "split", "merge")]


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def plan_of(run: Path) -> Plan:
    return Plan.from_json(json.loads((run / "model" / "polytask.json").read_text("utf-8"))["sharing"]["plan"])


# At a change


class Watched:
    """Looks at a trainer before and after each change of its plan."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[dict[str, Any]] = []
        change = TrainingState.change_plan

        def watching(state: TrainingState, plan: Plan) -> None:
            before = self.look(state)
            change(state, plan)
            self.seen.append({"before": before, "after": self.look(state)})

        monkeypatch.setattr(TrainingState, "change_plan", watching)

    @staticmethod
    def look(state: TrainingState) -> dict[str, Any]:
        model, training = state.parts.model, state.parts.model.training
        sources = state.parts.sources
        rows = [
            DrawnRow(0, row, tuple(task for task in TASKS if row in sources[0].carries[task]))
            for row in range(len(sources[0]))
        ]
        batch = state.parts.collator.from_sources(sources, [row for row in rows if row.tasks])
        model.eval()
        with torch.inference_mode():
            outputs = model(batch)
            losses = {name: state.parts.tasks[name].loss(outputs[name], batch.targets[name]) for name in TASKS}
        model.train(training)
        used = {task: compared_parameters(model, task) for task in TASKS}  # layers x parameters
        return {
            "plan": model.plan,
            "losses": losses,
            "weights": {task: [[p.detach().clone() for p in layer] for layer in used[task]] for task in TASKS},
            "places": {task: [layer[0].data_ptr() for layer in used[task]] for task in TASKS},
            "averages": {task: _state(state, used[task], "exp_avg") for task in TASKS},
            "squares": {task: _state(state, used[task], "exp_avg_sq") for task in TASKS},
            "states": [value.data_ptr() for state in state.optimizer.state.values() for value in state.values()],
            "optimized": {id(p) for group in state.optimizer.param_groups for p in group["params"]},
            "parameters": {id(p) for p in model.parameters()},
        }


def _state(state: TrainingState, layers: list[list[Any]], quantity: str) -> list[list[Tensor]]:
    return [[state.optimizer.state[p][quantity].clone() for p in layer] for layer in layers]


def require_equal(one: Mapping[str, list[list[Tensor]]], other: Mapping[str, list[list[Tensor]]]) -> None:
    for task in TASKS:
        for layer, same in zip(one[task], other[task], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(layer, same, strict=True))


@pytest.mark.parametrize("kind", ["copy", "soft", "lora"])
def test_at_a_split_no_loss_changes_and_copies_take_over_the_optimizers_state(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    watched = Watched(monkeypatch)
    pt.train({**job(max_steps=6), "sharing": {**SPLITS, "kind": kind}}, tmp_path / "run")
    assert len(watched.seen) == len(events(tmp_path / "run", "split")) == 2
    for change in watched.seen:
        before, after = change["before"], change["after"]
        assert before["plan"] != after["plan"]
        assert all(torch.equal(before["losses"][task], after["losses"][task]) for task in TASKS)
        for what in ("weights", "averages", "squares"):
            require_equal(before[what], after[what])
        assert any(found.any() for task in TASKS for layer in after["averages"][task] for found in layer)
        assert len(set(after["states"])) == len(after["states"])  # no two parameters share a state
        assert after["optimized"] == after["parameters"]
    last = watched.seen[-1]["after"]
    copies = [len({last["places"][task][layer] for task in TASKS}) for layer in range(2)]
    assert copies == ([1, 1] if kind == "lora" else [3, 3])


def test_where_copies_are_joined_they_take_over_the_mean_of_weights_and_state(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    pt.train({**job(max_steps=6), "sharing": MERGES}, tmp_path / "run")
    assert len(watched.seen) == 3
    for change in watched.seen:
        before, after = change["before"], change["after"]
        for number in range(2):
            for part in after["plan"].levels[number + 1]:
                olds = [old for old in before["plan"].levels[number + 1] if old <= part]
                for what in ("weights", "averages", "squares"):
                    found = [before[what][min(old)][number] for old in olds]
                    means = [torch.stack(same).mean(0) for same in zip(*found, strict=True)]
                    assert all(map(torch.equal, means, after[what][min(part)][number]))


def test_the_log_tells_each_change_with_its_numbers(job: Job, tmp_path: Path) -> None:
    run = pt.train({**job(max_steps=6), "sharing": SPLITS}, tmp_path / "run")
    log = changes(tmp_path / "run")
    assert [event["event"] for event in log] == ["split", "split"]
    plan = global_plan(TASKS, 2)
    for event in log:
        one, other = (frozenset(group) for group in event["groups"])
        assert one | other in plan.levels[event["layer"]]
        plan = plan.split(event["layer"], one)
        assert Plan.from_json(event["plan"]) == plan
        assert all(-1 <= value < 1 for value in event["similarity"])
        assert len(event["similarity"]) == 3 - event["layer"]
    assert [len(level) for level in plan.levels] == [1, 3, 3]
    assert 1 <= log[0]["measurements"] < log[1]["measurements"]
    run.model.network.follow(plan)
    assert event["parameters"] == sum(parameter.numel() for parameter in run.model.network.parameters())


# Stopping and going on


class Killed(BaseException):
    """Stands for a signal that nothing can catch."""


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, killed: bool) -> type[BaseException]:
    """Stop in the update of this number: with Ctrl-C, which saves; or killed once it is done, before it is saved."""
    update, keep = Trainer.update, Trainer._keep

    def asking(self: Trainer) -> Any:
        self.requests.stop = self.state.step == step
        return update(self)

    def dying(self: Trainer, bar: Any) -> None:
        if self.state.step == step + 1:
            raise Killed
        keep(self, bar)

    monkeypatch.setattr(Trainer, *(("_keep", dying) if killed else ("update", asking)))
    return Killed if killed else Interrupted


@pytest.mark.parametrize(
    ("sharing", "ways"),
    [
        ({"kind": "copy", **SPLITS}, [False, True]),
        ({"kind": "lora", "rank": 2, **SPLITS}, [True]),
        (MERGES, [True]),
    ],
    ids=["split copies", "split adapters", "join copies"],
)
def test_a_run_stopped_between_two_changes_goes_on_to_the_same_plans_and_weights(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharing: dict[str, Any], ways: list[bool]
) -> None:
    values = {**job(max_steps=7, save_steps=1, logging_steps=1), "sharing": sharing}
    whole = pt.train(values, tmp_path / "whole")
    expected = changes(tmp_path / "whole")
    # The first change that has a checkpoint before it, and one after it.
    count = next(number for number, event in enumerate(expected, start=1) if event["step"] > 1)
    assert len(expected) > count
    update = expected[count - 1]["step"] - 1  # updates are counted from 0
    for killed in ways:
        run = tmp_path / ("killed" if killed else "interrupted")
        with monkeypatch.context() as patch, pytest.raises(stop_at(patch, update, killed)):
            pt.train(values, run)
        assert changes(run) == expected[:count]
        resumed = pt.train(values, run, resume=True)
        assert changes(run) == expected
        assert [(e["step"], e["losses"]) for e in events(run, "step")] == [
            (e["step"], e["losses"]) for e in events(tmp_path / "whole", "step")
        ]
        assert weights(run) == weights(tmp_path / "whole")
        assert plan_of(run) == plan_of(tmp_path / "whole")
        assert resumed.scores == whole.scores


# What is kept


def stage(monkeypatch: pytest.MonkeyPatch, best: int) -> dict[int, dict[str, Any]]:
    """Make the evaluation of this number the best, and return what each of them saw, by its step."""
    seen: dict[int, dict[str, Any]] = {}
    evaluate = Trainer._evaluate

    def staged(self: Trainer, bar: Any) -> None:
        model = self.parts.model
        seen[self.state.step] = {"plan": model.plan, "weights": {k: v.clone() for k, v in model.state_dict().items()}}
        score = 0.9 if len(seen) == best else 0.1
        scores = {name: {task.metric: 0.5} for name, task in self.parts.tasks.items()}
        object.__setattr__(self.parts, "evaluate", lambda model: DevScores(scores, {"topic": score}))
        evaluate(self, bar)

    monkeypatch.setattr(Trainer, "_evaluate", staged)
    return seen


@pytest.mark.parametrize("kind", ["copy", "lora"])
def test_the_saved_model_has_the_final_plan_and_predicts_the_same(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    stage(monkeypatch, best=2)
    run = pt.train({**job(max_steps=6), "sharing": {**SPLITS, "kind": kind}}, tmp_path / "run")
    loaded = pt.load(tmp_path / "run" / "model")
    assert [len(level) for level in loaded.network.plan.levels] == [1, 3, 3]
    assert loaded.network.sharing == run.model.network.sharing
    assert loaded.network.sharing.kind.name == kind
    assert loaded.predict(TEXTS) == run.model.predict(TEXTS)
    found = loaded.network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in run.model.network.state_dict().items())


@pytest.mark.parametrize("kept", [True, False])
def test_the_best_weights_come_back_with_the_plan_that_they_were_trained_under(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    values = {**job(epochs=3), "sharing": SPLITS}
    seen = stage(monkeypatch, best=1)
    run = pt.train(values, tmp_path / "run" if kept else None)
    plans = [found["plan"] for found in seen.values()]
    assert [len(plan.levels[1]) for plan in plans] == [2, 3, 3]
    best = next(iter(seen.values()))
    assert run.model.network.plan == best["plan"]
    found = run.model.network.state_dict()
    assert set(found) == set(best["weights"])
    assert all(torch.equal(found[name], value) for name, value in best["weights"].items())
    if kept:
        loaded = pt.load(tmp_path / "run" / "model")
        assert loaded.network.plan == best["plan"]
        assert loaded.predict(TEXTS) == run.model.predict(TEXTS)


def test_the_best_weights_of_an_earlier_plan_outlive_an_interruption(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {**job(epochs=3), "sharing": SPLITS}
    seen = stage(monkeypatch, best=1)
    with monkeypatch.context() as patch, pytest.raises(stop_at(patch, 6, killed=False)):
        pt.train(values, tmp_path / "run")
    run = pt.train(values, tmp_path / "run", resume=True)
    step, best = next(iter(seen.items()))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["best_step"] == step
    assert run.model.network.plan == plan_of(tmp_path / "run") == best["plan"] != seen[9]["plan"]
    found = run.model.network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in best["weights"].items())


# Several processes


class Follower(World):
    """A process that another one leads; alone, so that nothing is exchanged."""

    @property
    def is_main(self) -> bool:
        return False


def test_a_process_that_does_not_lead_reads_no_best_weights_that_the_leader_may_have_deleted(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {**job(epochs=3), "sharing": SPLITS}
    with monkeypatch.context() as patch, pytest.raises(stop_at(patch, 6, killed=False)):
        pt.train(values, tmp_path / "run")
    other = assemble(validate(values)).trainer(Follower(0, 1), tmp_path / "run", Events(None))
    assert other.parts.checkpoints is not None
    newest = other.parts.checkpoints.newest()
    monkeypatch.setattr(Follower, "broadcast", lambda self, value: newest if value is None else value)
    assert other.state.resume()
    (best,) = (tmp_path / "run" / "checkpoints").glob("best-*")
    best.rename(best.with_name("best-00000009"))
    other.state.snapshots.load(other.parts.model)


@pytest.mark.usefixtures("quick_processes")
def test_two_processes_decide_and_learn_as_one(job: Job, tmp_path: Path) -> None:
    values = without_dropout({**job(max_steps=6, logging_steps=1), "sharing": SPLITS})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    with in_processes(["-m", "polytask", "train", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "two")]):
        pt.train(values, tmp_path / "one")
    logs = [tmp_path / "one", tmp_path / "two"]
    assert [event["processes"] for log in logs for event in events(log, "start")] == [1, 2]
    one, two = (changes(log) for log in logs)
    assert len(one) == len(two) == 2
    for alone, together in zip(one, two, strict=True):
        assert together.pop("similarity") == pytest.approx(alone.pop("similarity"), abs=1e-3)
        assert together == alone
    alone, together = (events(log, "step") for log in logs)
    assert len(alone) == len(together) == 6
    for before, after in zip(alone, together, strict=True):
        assert after["losses"] == pytest.approx(before["losses"], abs=2e-3)
        assert after["norm"] == pytest.approx(before["norm"], rel=2e-2)
    assert plan_of(tmp_path / "two") == plan_of(tmp_path / "one")
