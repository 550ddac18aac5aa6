"""What `auto` becomes: rates by the width of the encoder, a balancer by what the tasks share; and the rate's shape."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from polytask.assemble import assemble
from polytask.assembly import Assembly
from polytask.balance import AutoOptions
from polytask.cli import main
from polytask.comparison.arms import single_config
from polytask.comparison.budget import planned
from polytask.config import validate
from polytask.errors import ConfigError
from polytask.model.parameters import own_parameters
from polytask.tasks.objective import RateBound
from polytask.training.distribution import World
from polytask.training.events import Events
from polytask.training.optimizer import rate_factor
from polytask.training.options import TrainOptions
from polytask.training.recipe import resolve_rates
from samples import corpus_rows

Job = Callable[..., dict[str, Any]]
AUTO = {"learning_rate": "auto", "head_learning_rate": "auto"}


def built(job: Job, tasks: int = 3, **sections: Any) -> Assembly:
    values = {**job(**AUTO), **sections}
    return assemble(validate({**values, "tasks": dict(list(values["tasks"].items())[:tasks])}))


@pytest.mark.parametrize(
    ("width", "layers", "rate", "heads"),
    [
        (384, 6, 3e-4, 7.5e-3),
        (384, 12, 5.3e-5, 7.473e-3),
        (256, 12, 7.9e-5, 1e-2),
        (768, 12, 2.6e-5, 3.666e-3),
        (1024, 24, 1e-5, 2.81e-3),
        (128, 2, 1.6e-3, 1e-2),
    ],
)
def test_the_rate_follows_the_size_of_the_encoder(width: int, layers: int, rate: float, heads: float) -> None:
    options, choices = resolve_rates(TrainOptions(), width, layers)
    assert (options.learning_rate, options.head_learning_rate) == (rate, pytest.approx(heads))
    assert [choice.option for choice in choices] == ["train.learning_rate", "train.head_learning_rate"]
    assert str(width) in choices[0].reason


MATCHING, PAIRS = RateBound(3e-5, "labels"), RateBound(1e-4, "pairs")


@pytest.mark.parametrize(
    ("width", "layers", "bounds", "rate", "forgotten"),
    [
        (384, 6, [MATCHING], 3e-5, "labels"),
        (384, 12, [MATCHING], 3e-5, "labels"),
        (768, 12, [MATCHING], 2.6e-5, ""),
        (384, 6, [PAIRS], 1e-4, "pairs"),
        (384, 6, [PAIRS, MATCHING], 3e-5, "labels"),
        (384, 6, [PAIRS, None], 3e-4, ""),
        (384, 6, [], 3e-4, ""),
    ],
)
def test_the_rate_is_bounded_where_all_tasks_have_a_bound(
    width: int, layers: int, bounds: list[RateBound | None], rate: float, forgotten: str
) -> None:
    options, choices = resolve_rates(TrainOptions(), width, layers, bounds)
    assert options.learning_rate == rate
    assert ("forgets" in choices[0].reason) == bool(forgotten)
    assert forgotten in choices[0].reason
    assert resolve_rates(TrainOptions(learning_rate=1e-3), width, layers, bounds)[0].learning_rate == 1e-3


@pytest.mark.parametrize(
    ("types", "given", "expected", "told"),
    [
        (["matching"], "auto", 3e-5, []),
        (["matching", "matching"], "auto", 3e-5, []),
        (["matching", "classification"], "auto", 6.2e-3, ["topic"]),
        (["classification"], "auto", 6.2e-3, []),
        (["matching"], 2e-5, 2e-5, []),
        (["matching"], 1e-4, 1e-4, ["topic"]),
    ],
)
def test_who_trains_a_task_above_its_bound_is_told(
    types: list[str], given: Any, expected: float, told: list[str], job: Job
) -> None:
    values = job(rows=12, **{**AUTO, "learning_rate": given})
    named = zip(("topic", "sentiment"), types, strict=False)
    values["tasks"] = {name: {**values["tasks"][name], "type": kind} for name, kind in named}
    found = assemble(validate(values))
    assert found.config.train.learning_rate == pytest.approx(expected, rel=0.02)
    assert [note.place for note in found.notes if "can forget" in note.message] == told


def test_pairs_have_a_bound_and_scores_have_none(job: Job) -> None:
    rows = [{"text": f"One {word}.", "positive": f"Another {word}.", "score": at} for at, word in enumerate("abcdef")]
    for more, expected in (({}, 1e-4), ({"score": "score"}, 6.2e-3)):
        values = {**job(**AUTO), "tasks": {"near": {"type": "embedding", "data": {"train": rows, "dev": rows}, **more}}}
        assert assemble(validate(values)).config.train.learning_rate == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("rate", "head_rate", "expected"),
    [(1e-5, "auto", 2.5e-4), (1e-3, "auto", 1e-2), (2e-2, "auto", 2e-2), (1e-4, 3e-5, 3e-5), ("auto", 1e-3, 1e-3)],
)
def test_what_is_given_stays_and_heads_follow_it_up_to_a_cap(rate: Any, head_rate: Any, expected: float) -> None:
    given = TrainOptions(learning_rate=rate, head_learning_rate=head_rate)
    options, choices = resolve_rates(given, 384, 6)
    assert options.head_learning_rate == pytest.approx(expected)
    assert options.learning_rate == (3e-4 if rate == "auto" else rate)
    assert len(choices) == [rate, head_rate].count("auto")
    assert resolve_rates(options, 384, 6) == (options, ())


def test_an_update_has_fewer_rows_where_a_row_trains_many_tasks_together(job: Job) -> None:
    def rows(tasks: int = 3, *, labels: int = 3, **sections: Any) -> int:
        values = {**job(rows=24), **sections}
        chosen = dict(list(values["tasks"].items())[:tasks])
        for number, task in enumerate(chosen.values()):
            cells = [{**row} for row in corpus_rows(24)]
            for row in cells[labels * 8 :] if number else []:
                row.pop(task.get("label", "entities"))
            task["data"] = {"train": cells, "dev": cells}
        return assemble(validate({**values, "tasks": chosen, "train": {"device": "cpu"}})).workload.batch_size

    assert rows() == 8
    assert rows(tasks=2) == 16
    assert rows(schedule={"strategy": "sequential"}) == 16
    assert rows(sharing={"strategy": "independent"}) == 16
    assert rows(sharing={"strategy": "partial", "shared_layers": 1}) == 8


def test_one_model_a_task_keeps_the_rows_of_its_own_recipe(job: Job) -> None:
    values = job(rows=96, epochs=1.5)
    del values["train"]["batch_size"]
    assembly = assemble(validate(values))
    budget = planned(assembly)
    assert (assembly.workload.batch_size, budget.batch_size) == (8, 8)
    for task in values["tasks"]:
        alone = single_config(validate(values), task, budget.alone(task))
        workload = assemble(alone).workload
        assert workload.batch_size == 16
        assert planned(assemble(alone)).rows[task] == pytest.approx(budget.rows[task], abs=16)
    assert budget.pair("sentiment", "topic")["batch_size"] == 16
    values["train"]["batch_size"] = 12
    given = planned(assemble(validate(values)))
    assert "batch_size" not in given.alone("topic")
    assert assemble(single_config(validate(values), "topic", given.alone("topic"))).workload.batch_size == 12


def test_auto_weighs_tasks_only_where_they_train_together_in_what_they_share(job: Job) -> None:
    sequential = {"schedule": {"strategy": "sequential"}}
    methods = [
        built(job).config.balance.method,
        built(job, sharing={"strategy": "partial", "shared_layers": 1}).config.balance.method,
        built(job, tasks=1).config.balance.method,
        built(job, sharing={"strategy": "independent"}).config.balance.method,
        built(job, **sequential).config.balance.method,
        built(job, balance={"method": "uncertainty"}).config.balance.method,
    ]
    assert methods == ["equal_norms", "equal_norms", "sum", "sum", "sum", "uncertainty"]
    assert isinstance(validate(job()).balance, AutoOptions)


def test_the_run_trains_by_what_auto_became_and_writes_it_down(job: Job) -> None:
    assembly = built(job)
    trainer = assembly.trainer(World(0, 1), None, Events(None))
    rates = {group["base_rate"] for group in trainer.state.optimizer.param_groups}
    assert rates == {assembly.config.train.learning_rate, assembly.config.train.head_learning_rate}
    written = assembly.config.to_json()
    assert "auto" not in (written["train"]["learning_rate"], written["balance"]["method"])
    # Written out, it is the same run.
    assert assemble(validate(written)).identity == assembly.identity


def test_check_says_what_auto_became_and_why(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(job(**AUTO)), "utf-8")
    monkeypatch.setattr("sys.argv", ["polytask", "check", str(tmp_path / "run.yaml")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    out = capsys.readouterr().out
    assert "train.learning_rate: 0.0062 (an encoder of 2 layers and 32 features)" in out
    assert "balance.method: equal_norms (3 tasks train shared parameters together)" in out


def test_lower_layers_train_by_a_rate_that_decays_from_layer_to_layer(job: Job) -> None:
    for sharing in ({"strategy": "global"}, {"strategy": "partial", "shared_layers": 1}, {"strategy": "independent"}):
        assembly = built(job, sharing=sharing, train={**job(**AUTO)["train"], "layer_decay": 0.5})
        optimizer = assembly.trainer(World(0, 1), None, Events(None)).state.optimizer
        rates = {one: group["base_rate"] for group in optimizer.param_groups for one in group["params"]}
        top = assembly.config.train.learning_rate
        for name, parameter in assembly.model.named_parameters():
            if name.startswith("heads."):
                assert rates[parameter] == assembly.config.train.head_learning_rate
            else:
                assert isinstance(top, float)
                layer = int(name.split(".layer.")[1].split(".")[0]) + 1 if ".layer." in name else 0
                assert rates[parameter] == pytest.approx(top * 0.5 ** (2 - layer)), name


def rates_of(assembly: Assembly) -> dict[str, float]:
    optimizer = assembly.trainer(World(0, 1), None, Events(None)).state.optimizer
    rates = {one: group["base_rate"] for group in optimizer.param_groups for one in group["params"]}
    return {name: rates[parameter] for name, parameter in assembly.model.named_parameters()}


@pytest.mark.parametrize(
    "sharing",
    [
        {"strategy": "global"},
        {"strategy": "partial", "shared_layers": 1},
        {"strategy": "partial", "shared_layers": 1, "kind": "lora"},
        {"strategy": "independent"},
    ],
)
def test_a_task_has_rates_of_its_own_for_its_head_and_what_it_alone_trains(job: Job, sharing: dict[str, Any]) -> None:
    values = {**job(), "sharing": sharing}
    first = next(iter(values["tasks"]))
    train = {**values["train"], "learning_rate": 1e-3, "head_learning_rate": 2e-3}
    plain = rates_of(assemble(validate({**values, "train": train})))
    tasks = {**values["tasks"], first: {**values["tasks"][first], "learning_rate": 3e-3, "head_learning_rate": 4e-3}}
    assembly = assemble(validate({**values, "train": train, "tasks": tasks}))
    rates = rates_of(assembly)
    changed = {name for name, rate in rates.items() if rate != plain[name]}
    own = {name for name in changed if not name.startswith("heads.")}
    assert {rates[name] for name in own} == ({3e-3} if sharing["strategy"] != "global" else set())
    assert {rates[name] for name in changed - own} == {4e-3}
    assert changed - own == {name for name in rates if name.startswith(f"heads.task-{first}.")}
    told = [note for note in assembly.notes if note.place == f"tasks.{first}.learning_rate"]
    assert len(told) == (sharing["strategy"] == "global")
    # As much of the encoder as the task has to itself.
    ids = {id(parameter) for name, parameter in assembly.model.named_parameters() if name in own}
    alone = {
        id(parameter)
        for task, parameters in own_parameters(assembly.model)
        for parameter in parameters
        if task == first and parameter not in set(assembly.model.head(first).parameters())
    }
    assert ids == alone


def test_a_model_of_one_task_trains_by_the_tasks_rate(job: Job) -> None:
    values = job()
    name, task = next(iter(values["tasks"].items()))
    rates = rates_of(assemble(validate({**values, "tasks": {name: {**task, "learning_rate": 5e-3}}})))
    assert {rate for name, rate in rates.items() if not name.startswith("heads.")} == {5e-3}


def test_tasks_with_one_head_cannot_have_two_rates_for_it(job: Job) -> None:
    values = job()
    task = next(task for task in values["tasks"].values() if task["type"] == "classification")
    tasks = {"one": {**task, "head_learning_rate": 4e-3}, "two": task}
    shared = {"strategy": "global", "share_heads": [["one", "two"]]}
    with pytest.raises(ConfigError, match="'one' and 'two' share a head, but have 0.004 and none; set both"):
        assemble(validate({**values, "tasks": tasks, "sharing": shared}))
    same = {name: {**task, "head_learning_rate": 4e-3} for name in tasks}
    assert 4e-3 in rates_of(assemble(validate({**values, "tasks": same, "sharing": shared}))).values()


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_the_rate_rises_to_its_peak_and_falls_to_the_floor(kind: Any, floor: float) -> None:
    options = TrainOptions(warmup_ratio=0.1, lr_scheduler_type=kind, min_lr_ratio=floor)
    factors = [rate_factor(step, 200, options) for step in range(201)]
    assert factors[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert max(factors) == factors[20] == 1.0
    falling = factors[20:]
    assert all(after <= before for before, after in pairwise(falling))
    assert factors[200] == pytest.approx(1.0 if kind == "constant" else floor)
    middle = {"linear": 0.5, "cosine": 0.5, "constant": 1.0}[kind]
    assert factors[110] == pytest.approx(floor + (1 - floor) * middle)
    assert rate_factor(0, 1, options) == 1.0
    assert rate_factor(500, 200, options) == pytest.approx(factors[200])
