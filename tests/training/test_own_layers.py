"""Own layers for a task that a trained model has: it starts from its answers, and all others keep theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from polytask.errors import ConfigError
from polytask.model.parameters import count_parameters
from samples import close, small_job

TEXTS = ["The phone died after two days.", "A moving film by Ang Lee, shown in Leeds.", "Bread."]
Old = Callable[[str], Path]
PLANS: dict[str, dict[str, Any]] = {
    "global": {"strategy": "global"},
    "one head": {"strategy": "global", "share_heads": [["sentiment", "again"]]},
    "tree": {"strategy": "partial", "shared_layers": 1},
    "groups": {"strategy": "partial", "branches": [{"from_layer": 2, "groups": [["sentiment", "topic"], ["again"]]}]},
    "lora": {"strategy": "partial", "shared_layers": 1, "kind": "lora", "rank": 2},
    "soft": {"strategy": "partial", "shared_layers": 1, "kind": "soft"},
    "independent": {"strategy": "independent"},
}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "head": ("global", {}),
    "head of its own": ("one head", {}),
    "copies": ("global", {"shared_layers": 1}),
    "copies under one head": ("one head", {"shared_layers": 1, "kind": "copy"}),
    "lora": ("global", {"shared_layers": 1, "kind": "lora", "rank": 3}),
    "lora under one head": ("one head", {"shared_layers": 0, "kind": "lora", "rank": 3}),
    "adapter": ("global", {"shared_layers": 0, "kind": "adapter", "rank": 3}),
    "own already": ("tree", {"shared_layers": 1}),
    "more of its own": ("tree", {"shared_layers": 0}),
    "out of a group": ("groups", {"shared_layers": 1}),
    "lora on lora": ("lora", {"shared_layers": 0}),
    "soft": ("soft", {"shared_layers": 0}),
    "trunk of its own": ("independent", {"shared_layers": 1}),
    "reader, head": ("reader", {}),
    "reader, copies": ("reader", {"shared_layers": 1}),
    "reader, lora": ("reader", {"shared_layers": 0, "kind": "lora", "rank": 3}),
    "reader, own already": ("reader in a tree", {"shared_layers": 1}),
    "reader under one head": ("readers under one head", {"shared_layers": 1}),
    "reader, undetached": ("undetached reader", {"shared_layers": 1}),
}
READS = {"needs": ["topic"], "reads": {"topic": "probabilities"}}
# Models in which sentiment, and possibly others, read topic: their plans, and what their tasks say of it.
READERS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "reader": ("global", {"sentiment": READS}),
    "reader in a tree": ("tree", {"sentiment": READS}),
    "readers under one head": ("one head", {"sentiment": READS, "again": READS}),
    "undetached reader": ("global", {"sentiment": {**READS, "detach_reads": False}}),
}


def tasks_of(values: dict[str, Any]) -> dict[str, Any]:
    """Return three tasks, two of which could share a head."""
    tasks = {name: values["tasks"][name] for name in ("sentiment", "topic")}
    return {**tasks, "again": {**tasks["sentiment"]}}


def reading(values: dict[str, Any], model: str) -> dict[str, Any]:
    """Return the three tasks as a model has them."""
    _, reads = READERS.get(model, (model, {}))
    return {name: {**task, **reads.get(name, {})} for name, task in tasks_of(values).items()}


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> dict[str, Any]:
    return small_job(tmp_path_factory.mktemp("own"), tiny, max_steps=3, weight_decay=0.5)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> Old:
    """Return what gives a run of three tasks that share by a plan: trained once, and read by all tests."""
    home = tmp_path_factory.mktemp("old")

    def trained(plan: str) -> Path:
        if not (home / plan).exists():
            sharing = PLANS[READERS.get(plan, (plan, {}))[0]]
            pt.train({**values, "tasks": reading(values, plan), "sharing": sharing}, home / plan)
        return home / plan

    return trained


def own(
    values: dict[str, Any], options: dict[str, Any], *others: str, model: str = "global", **train: Any
) -> dict[str, Any]:
    """Return a configuration that gives sentiment its own layers."""
    tasks = {name: task for name, task in reading(values, model).items() if name in ("sentiment", *others)}
    kept = {key: value for key, value in values.items() if key != "max_tokens"}
    extend = {"own": ["sentiment"], **options}
    return {**kept, "tasks": tasks, "extend": extend, "train": {**values["train"], **train}}


@pytest.mark.parametrize("way", WAYS)
def test_all_others_keep_their_answers_and_only_what_is_its_own_trains(
    values: dict[str, Any], old: Old, tmp_path: Path, way: str
) -> None:
    plan, options = WAYS[way]
    home = old(plan)
    run = pt.extend(
        home, own(values, options, model=plan, learning_rate=1e-3, head_learning_rate=1e-2), tmp_path / "new"
    )
    before, after = pt.load(home), pt.load(tmp_path / "new")
    assert list(after.tasks) == list(before.tasks)
    assert after.predict(TEXTS, tasks=["topic", "again"]) == before.predict(TEXTS, tasks=["topic", "again"])
    assert not close(after.predict(TEXTS, tasks=["sentiment"]), before.predict(TEXTS, tasks=["sentiment"]))
    trains = sum(one.numel() for one in run.model.network.parameters() if one.requires_grad)
    assert trains == count_parameters(after.network).own["sentiment"]
    record = json.loads((tmp_path / "new" / "run.json").read_text())["extended"]
    assert (record["new"], record["own"], record["replayed"]) == ([], ["sentiment"], [])


@pytest.mark.parametrize("way", WAYS)
def test_it_starts_from_its_answers(values: dict[str, Any], old: Old, tmp_path: Path, way: str) -> None:
    plan, options = WAYS[way]
    home = old(plan)
    config = own(values, options, model=plan, learning_rate=1e-12, head_learning_rate=1e-12, weight_decay=0.0)
    pt.extend(home, config, tmp_path / "new")
    before, after = pt.load(home), pt.load(tmp_path / "new")
    for answer, old_answer in zip(after.predict(TEXTS), before.predict(TEXTS), strict=True):
        assert close(answer, old_answer)


def test_joint_trains_all_tasks_that_have_rows(values: dict[str, Any], old: Old, tmp_path: Path) -> None:
    config = own(values, {"shared_layers": 1}, "topic", "again", learning_rate=1e-3)
    run = pt.extend(old("global"), config, tmp_path / "new", mode="joint")
    plan = run.model.network.plan
    assert plan.part(2, "sentiment") == {"sentiment"}
    assert plan.part(2, "topic") == {"topic", "again"}
    record = json.loads((tmp_path / "new" / "run.json").read_text())["extended"]
    assert (record["own"], record["replayed"]) == (["sentiment"], ["topic", "again"])


def test_a_new_task_and_an_old_one_may_get_layers_together(values: dict[str, Any], old: Old, tmp_path: Path) -> None:
    config = own(values, {"shared_layers": 1})
    config["tasks"]["entities"] = values["tasks"]["entities"]
    run = pt.extend(old("global"), config, tmp_path / "new")
    plan = run.model.network.plan
    assert {plan.part(2, task) for task in ("sentiment", "entities")} == {
        frozenset({"sentiment"}), frozenset({"entities"}),
    }  # fmt: skip
    before = pt.load(old("global")).predict(TEXTS, tasks=["topic", "again"])
    assert run.model.predict(TEXTS, tasks=["topic", "again"]) == before


@pytest.mark.parametrize(
    ("options", "others", "message"),
    [
        ({"own": ["sentimental"]}, (), r"extend.own: .*did you mean 'sentiment'"),
        ({"own": ["topic"]}, (), r"tasks.sentiment: .* give it layers of its own with extend.own"),
        ({"own": ["sentiment", "topic"]}, (), r"extend.own: found topic, which has no rows here; add it to `tasks`"),
        ({}, ("topic",), r"tasks.topic: .* of this name"),
        ({"shared_layers": 9}, (), r"extend.shared_layers: found layer 9"),
        ({"kind": "lora"}, (), r"extend: found kind without shared_layers"),
    ],
)
def test_what_cannot_be_given_is_refused(
    values: dict[str, Any], old: Old, tmp_path: Path, options: dict[str, Any], others: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        pt.extend(old("global"), own(values, options, *others), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_task_that_others_read_keeps_its_answers(values: dict[str, Any], tmp_path: Path) -> None:
    tasks = tasks_of(values)
    tasks["topic"] = {**tasks["topic"], "needs": ["sentiment"], "reads": {"sentiment": "probabilities"}}
    pt.train({**values, "tasks": tasks}, tmp_path / "old")
    with pytest.raises(ConfigError, match=r"extend.own: found sentiment, whose predictions topic reads"):
        pt.extend(tmp_path / "old", own(values, {"shared_layers": 1}), tmp_path / "new")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"needs": [], "reads": {}},
            r"differ from the trained one; reads: found none, .* with topic: add needs: \[topic\] and reads",
        ),
        ({"detach_reads": False}, r"detach_reads: found false; give true, with which"),
        ({"pooling": "last"}, r"pooling: found last; give mean, with which"),
        ({"needs": ["topics"], "reads": {"topics": "probabilities"}}, r"reads: found 'topics'; .*did you mean 'topic'"),
        ({"needs": ["again"], "reads": {"again": "probabilities"}}, r"reads: found again, and .* with topic: add"),
    ],
)
def test_a_head_that_would_differ_is_refused_in_words(
    values: dict[str, Any], old: Old, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    config = own(values, {"shared_layers": 1}, model="reader")
    config["tasks"]["sentiment"] |= options
    with pytest.raises(ConfigError, match=message) as refused:
        pt.extend(old("reader"), config, tmp_path / "new")
    assert "HeadSpec" not in str(refused.value)


def test_what_is_read_has_rows_where_everything_trains(values: dict[str, Any], old: Old, tmp_path: Path) -> None:
    config = own(values, {"shared_layers": 1}, model="reader")
    with pytest.raises(ConfigError, match=r"tasks.sentiment.needs: found 'topic', .* add it to `tasks`"):
        pt.extend(old("reader"), config, tmp_path / "new", mode="joint")


@pytest.mark.parametrize("detach", [True, False])
def test_a_new_task_reads_an_old_one_that_does_not_train(
    values: dict[str, Any], old: Old, tmp_path: Path, detach: bool
) -> None:
    entities = {**values["tasks"]["entities"], **READS, "detach_reads": detach}
    config = {**own(values, {"own": []}), "tasks": {"entities": entities}}
    run = pt.extend(old("global"), config, tmp_path / "new")
    everyone = ["sentiment", "topic", "again"]
    assert run.model.predict(TEXTS, tasks=everyone) == pt.load(old("global")).predict(TEXTS, tasks=everyone)
    assert run.model.predict(TEXTS, tasks=["entities"])
    assert pt.load(tmp_path / "new").tasks["entities"].options.reads == READS["reads"]
