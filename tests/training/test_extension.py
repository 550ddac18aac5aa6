"""Adding tasks to a trained model: frozen changes no old answer, joint replays, and bad input is refused in time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from interruptions import interrupt_after
from safetensors.torch import load_file
from typer.testing import CliRunner

import polytask as pt
from every_type import job_of_every_type
from polytask.artifact.folder import load_bundle, save_bundle
from polytask.cli import app
from polytask.errors import ConfigError, Interrupted, UserError
from polytask.model.parameters import count_parameters
from polytask.tasks import Task
from polytask.tasks.task import ON_DEV
from samples import close, small_job

Job = Callable[..., dict[str, Any]]
Old = Callable[..., Path]
TEXTS = ["The phone died after two days.", "A moving film by Ang Lee, shown in Leeds.", "Bread."]
PLANS: dict[str, dict[str, Any]] = {
    "global": {"strategy": "global"},
    "tree": {"strategy": "partial", "shared_layers": 1},
    "lora": {"strategy": "partial", "shared_layers": 1, "kind": "lora", "rank": 2},
    "soft": {"strategy": "partial", "shared_layers": 1, "kind": "soft"},
    "independent": {"strategy": "independent"},
}
LONG = {"max_steps": None, "epochs": 20, "learning_rate": 5e-3, "logging_steps": 1}
COPY = {"shared_layers": 1, "kind": "copy"}
WAYS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "head": ("global", None),
    "whole encoder shared": ("global", {"shared_layers": 2}),
    "copies": ("global", COPY),
    "copies from the embeddings": ("global", {"shared_layers": 0}),
    "lora": ("global", {"shared_layers": 1, "kind": "lora", "rank": 3}),
    "adapter": ("global", {"shared_layers": 0, "kind": "adapter", "rank": 3}),
    "head on a tree": ("tree", {"follow": "topic"}),
    "copies on a tree": ("tree", {"follow": "topic", "shared_layers": 1}),
    "lora on lora": ("lora", {"follow": "sentiment", "shared_layers": 0}),
    "soft": ("soft", {"follow": "topic", "shared_layers": 1}),
    "encoder of its own trunk": ("independent", {"follow": "sentiment", "shared_layers": 1}),
}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Old:
    """Return what gives a run of sentiment and topic that shares by a plan: trained once, and read by all tests."""
    home = tmp_path_factory.mktemp("old")
    values = small_job(home, tiny, max_steps=3, weight_decay=0.5)

    def trained(plan: str = "global") -> Path:
        if not (home / plan).exists():
            tasks = {name: values["tasks"][name] for name in ("sentiment", "topic")}
            pt.train({**values, "tasks": tasks, "sharing": PLANS[plan]}, home / plan)
        return home / plan

    return trained


def adding(values: dict[str, Any], *tasks: str, **changed: Any) -> dict[str, Any]:
    """Return a configuration of entities, and of other tasks."""
    chosen = {name: values["tasks"][name] for name in (*tasks, "entities")}
    return {key: value for key, value in {**values, "tasks": chosen, **changed}.items() if key != "max_tokens"}


@pytest.mark.parametrize("way", WAYS)
def test_frozen_leaves_every_old_answer_as_it_was(job: Job, old: Old, tmp_path: Path, way: str) -> None:
    values = job(max_steps=3, weight_decay=0.5)
    plan, options = WAYS[way]
    home = old(plan)
    run = pt.extend(home, adding(values, **({} if options is None else {"extend": options})), tmp_path / "new")
    before, after = pt.load(home / "model"), pt.load(tmp_path / "new" / "model")
    assert list(after.tasks) == ["sentiment", "topic", "entities"]
    assert after.predict(TEXTS, tasks=["sentiment", "topic"]) == before.predict(TEXTS)
    for answer, old in zip(after.predict(TEXTS), before.predict(TEXTS), strict=True):
        assert close({name: answer[name] for name in old}, old)
        assert "entities" in answer
    found, old_weights = after.network.state_dict(), before.network.state_dict()
    moved = {name for name in found if name in old_weights and not torch.equal(found[name], old_weights[name])}
    assert not moved
    trains = sum(one.numel() for one in run.model.network.parameters() if one.requires_grad)
    shared = count_parameters(after.network)
    assert trains == shared.own["entities"]
    if options is None:
        assert trains == sum(one.numel() for one in after.network.head("entities").parameters())
    else:
        assert after.network.plan.part(2, "entities") == (
            {"entities"} if options.get("shared_layers", 2) < 2 else after.network.plan.part(2, "topic")
        )


def test_a_new_branch_learns(job: Job, old: Old, tmp_path: Path) -> None:
    values = job(max_steps=2)
    home = old()
    config = adding(values, extend=COPY, train={**values["train"], **LONG})
    pt.extend(home, config, tmp_path / "new")
    log = [json.loads(line) for line in (tmp_path / "new" / "events.jsonl").read_text().splitlines()]
    losses = [event["losses"]["entities"] for event in log if event["event"] == "step"]
    assert losses[-1] < 0.8 * losses[0]


def test_the_new_run_is_an_ordinary_one_that_can_be_extended_again(job: Job, old: Old, tmp_path: Path) -> None:
    values = job(max_steps=2)
    home = old()
    pt.extend(home / "model", adding(values, extend={"shared_layers": 1, "kind": "lora"}), tmp_path / "new")
    files = {file.name for file in (tmp_path / "new").iterdir()}
    assert {"config.yaml", "events.jsonl", "scores.json", "baselines.json", "run.json", "model"} <= files
    assert set(json.loads((tmp_path / "new" / "scores.json").read_text())["dev"]) == {"entities"}
    about = pt.load(tmp_path / "new" / "model").about
    assert set(about["scores"]["test"]) == {"sentiment", "topic", "entities"}
    record = json.loads((tmp_path / "new" / "run.json").read_text())["extended"]
    assert (record["new"], record["kept"], record["mode"]) == (["entities"], ["sentiment", "topic"], "frozen")
    again = adding(values, extend={"follow": "entities", "shared_layers": 1})
    again["tasks"] = {"more": again["tasks"]["entities"]}
    pt.extend(tmp_path / "new", again, tmp_path / "newer")
    first, second = pt.load(tmp_path / "new" / "model"), pt.load(tmp_path / "newer" / "model")
    assert second.predict(TEXTS, tasks=["sentiment", "topic", "entities"]) == first.predict(TEXTS)


def test_joint_replays_old_tasks_and_says_what_became_of_them(job: Job, old: Old, tmp_path: Path) -> None:
    values = job(max_steps=4)
    home = old()
    values["schedule"] = {"strategy": "parallel", "proportions": "uniform"}
    run = pt.extend(home, adding(values, "sentiment"), tmp_path / "new", mode="joint")
    old = json.loads((home / "scores.json").read_text())
    assert run.before == {split: {"sentiment": found["sentiment"]} for split, found in old.items()}
    record = json.loads((tmp_path / "new" / "run.json").read_text())
    assert record["extended"]["before"] == run.before
    assert record["extended"]["after"]["test"]["sentiment"] == run.scores["test"]["sentiment"]
    assert record["extended"]["replayed"] == ["sentiment"]
    assert record["exposure"]["sentiment"]["rows"] > 0
    assert any(note.startswith("extend: topic: no rows here") and "may fall" in note for note in record["notes"])
    found, before = run.model.network.state_dict(), load_file(home / "model" / "model.safetensors")
    changed = {name for name in before if not torch.equal(found[name], before[name])}
    assert "heads.task-topic.out.weight" not in changed
    assert {"heads.task-sentiment.out.weight"} < changed
    assert set(pt.load(tmp_path / "new" / "model").about["scores"]["dev"]) == {"sentiment", "entities"}


@pytest.mark.parametrize("mode", ["frozen", "joint"])
@pytest.mark.parametrize("method", ["uncertainty", "pcgrad", "graddrop"])
def test_balancers_work_where_not_all_tasks_train(job: Job, old: Old, tmp_path: Path, mode: Any, method: str) -> None:
    values = job(max_steps=2)
    home = old("tree")
    config = adding(values, extend={"follow": "topic", "shared_layers": 1}, balance={"method": method})
    if mode == "joint":
        config["tasks"] = {"sentiment": values["tasks"]["sentiment"], **config["tasks"]}
    else:
        config["tasks"] = {**config["tasks"], "again": values["tasks"]["topic"]}
    run = pt.extend(home, config, mode=mode)
    assert run.folder is None
    if mode == "frozen":
        assert run.model.predict(TEXTS, tasks=["topic"]) == pt.load(home / "model").predict(TEXTS, tasks=["topic"])


def test_interrupted_and_resumed_equals_uninterrupted(
    job: Job, old: Old, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = job(max_steps=5)
    home = old()
    config = adding(values, "topic", extend=COPY)
    whole = pt.extend(home, config, tmp_path / "whole", mode="joint")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(Interrupted):
            pt.extend(home, config, tmp_path / "stopped", mode="joint")
    resumed = pt.extend(home, config, tmp_path / "stopped", mode="joint", resume=True)
    assert resumed.before == whole.before
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("plan", ["global", "tree", "lora"])
def test_a_model_trains_on_without_a_new_task(plan: str, job: Job, old: Old, tmp_path: Path) -> None:
    values = job(max_steps=2)
    home = old(plan)
    config = adding(values)
    config["tasks"] = {"topic": values["tasks"]["topic"]}
    run = pt.extend(home, config, tmp_path / "on", mode="joint")
    before = pt.load(home)
    assert list(run.model.tasks) == list(before.tasks)
    assert run.model.predict(TEXTS) != before.predict(TEXTS)
    assert run.before["dev"]["topic"] == pt.evaluate(home, values["tasks"]["topic"]["data"]["dev"]).scores["topic"]


def test_the_command_adds_a_task_and_shows_the_old_ones(job: Job, old: Old, tmp_path: Path) -> None:
    values = job(max_steps=2)
    home = old()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(adding(values, "topic")), "utf-8")
    command = ["extend", str(home / "model"), str(tmp_path / "config.yaml"), "--out", str(tmp_path / "new")]
    done = CliRunner().invoke(app, [*command, "--mode", "joint"])
    assert done.exit_code == 0, done.output
    assert "dev before" in done.stdout
    assert "sentiment: no rows here" in done.stderr
    odd = CliRunner().invoke(app, [*command, "--mode", "frosen"])
    assert isinstance(odd.exception, UserError)
    assert "did you mean 'frozen'" in str(odd.exception)


def test_bad_extensions_are_refused_before_training(job: Job, old: Old, tmp_path: Path) -> None:
    values = job(max_steps=1)
    home, tree, lora = map(old, ("global", "tree", "lora"))
    odd = {**values["tasks"]["sentiment"], "label": "topic"}
    cases: list[tuple[Path, dict[str, Any], Any, str]] = [
        (home, adding(values, "topic"), "frozen", r"tasks.topic: .* of this name.*rename it.* mode joint"),
        (home, adding(values, encoder="other"), "frozen", r"encoder: found 'other', but the model is built on .*"),
        (home, adding(values, sharing={"strategy": "global"}), "frozen", r"sharing: found a plan.*extend: \{shared"),
        (home, adding(values, extend={"kind": "lora"}), "frozen", r"extend: found kind without shared_layers"),
        (home, adding(values, extend={"shared_layers": 3}), "frozen", r"extend.shared_layers: found layer 3.*0 to 2"),
        (home, adding(values, extend={"follow": "topics"}), "frozen", r"extend.follow: .*did you mean 'topic'"),
        (tree, adding(values), "frozen", r"extend.follow: .*different layers(.|\n)*\[sentiment\](.|\n)*name the task"),
        (lora, adding(values, extend={"follow": "topic", "shared_layers": 1, "kind": "copy"}), "frozen",
         r"extend.kind: found copy, .* have lora; .* leave kind out"),
        (home, {**adding(values), "max_tokens": 99}, "frozen", r"max_tokens: found 99, but the model reads 48"),
        (home, adding(values, train={"precision": "bf16"}), "frozen", r"train.precision: found bf16, .* in fp32"),
        (home, {**adding(values, extend=COPY), "tasks": {"topic": values["tasks"]["topic"]}}, "joint",
         r"extend: found, but .* already has all of these tasks \(topic\)"),
        (home, {**adding(values), "tasks": {"topic": values["tasks"]["topic"]}}, "frozen", r"topic: .* mode joint"),
        (home, {**adding(values), "tasks": {"sentiment": odd, "new": odd}}, "joint",
         r"tasks.sentiment: .*only 'sentiment' has the labels .*replay rows of the same labels"),
        (home, {**adding(values), "tasks": {"topic": {**values["tasks"]["topic"], "pooling": "cls"}, "new": odd}},
         "joint", r"tasks.topic: its head would differ .*pooling: found cls; give mean"),
        (home, {**adding(values), "tasks": {"topic": values["tasks"]["entities"], "new": odd}}, "joint",
         r"tasks.topic: .*their types are classification and tagging"),
        (home, adding(values), "melted", r"mode: found 'melted'; accepted: frozen, joint"),
    ]  # fmt: skip
    for model, config, mode, message in cases:
        with pytest.raises(ConfigError, match=message):
            pt.extend(model, config, tmp_path / "new", mode=mode)
        assert not (tmp_path / "new").exists(), message
    with pytest.raises(ConfigError, match=r"extend: found, .*polytask extend MODEL CONFIG"):
        pt.train(adding(values, extend={"shared_layers": 1}))


def test_mixed_models_are_not_extended(job: Job, tmp_path: Path) -> None:
    values = job(max_steps=1)
    tasks = {name: values["tasks"][name] for name in ("sentiment", "topic")}
    pt.train({**values, "tasks": tasks, "sharing": {"strategy": "mmoe", "from_layer": 2}}, tmp_path / "old")
    with pytest.raises(ConfigError, match=r"uses mmoe, .*train all tasks together"):
        pt.extend(tmp_path / "old", adding(values))


# Values that no task has by default, for every field that is fitted on dev.
FITTED: dict[str, Callable[[Task], Any]] = {
    "temperature": lambda task: 2.5,
    "cut": lambda task: -0.3 if task.options.threshold == "tuned" else None,
    "cuts": lambda task: (-0.2,) * len(task.labels),
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> tuple[Path, dict[str, Any]]:
    """A model with a task of every type that answers, each with values as if fitted on dev, and its configuration."""
    home = tmp_path_factory.mktemp("fitted")
    values = job_of_every_type(home, tiny)
    tasks = values["tasks"]
    del tasks["words"]
    tasks["weather"] = {"type": "classification", "label": "topic", "positive": "PlayMusic", "threshold": "tuned"}
    tasks["weather"]["data"] = tasks["kind"]["data"]
    tasks["mentions"]["threshold"] = "tuned"
    pt.train(values, home / "run")
    bundle = load_bundle(home / "run" / "model")
    changed: dict[str, Task] = {}
    for name, task in bundle.tasks.items():
        names = [field.name for field in fields(task) if field.metadata == ON_DEV]  # type: ignore[arg-type]
        changed[name] = replace(task, **{field: FITTED[field](task) for field in names})  # type: ignore[type-var]
    with_fit = {name for name, task in changed.items() if task != task.unfitted()}
    assert with_fit == {"stars", "kind", "marks", "chain", "best", "mentions", "topic", "drink", "weather"}
    save_bundle(home / "model", replace(bundle, tasks=changed))
    return home / "model", values


@pytest.mark.parametrize("mode", ["joint", "frozen"])
def test_the_scores_before_are_those_that_evaluate_gives(fitted: tuple[Path, dict[str, Any]], mode: str) -> None:
    home, values = fitted
    tasks = pt.load(home).tasks
    assert tasks["chain"].to_json()["tuned"]["transitions"]
    assert tasks["mentions"].to_json()["tuned"]["table"]
    config = {name: values[name] for name in ("encoder", "tasks")} | {"train": {**values["train"], "max_steps": 1}}
    if mode == "frozen":
        config["extend"] = {"own": list(values["tasks"]), "shared_layers": 1}
    run = pt.extend(home, config, mode=mode)
    expected = pt.evaluate(home, values["tasks"]["kind"]["data"]["dev"]).scores
    assert run.before.keys() == {"dev"}
    assert close(run.before["dev"], expected)
    # The old model decided by its own thresholds, whatever the options are now.
    marks = {**config["tasks"]["marks"], "threshold": 0.1}
    run = pt.extend(home, {**config, "tasks": {**config["tasks"], "marks": marks}}, mode=mode)
    assert close(run.before["dev"], expected)
