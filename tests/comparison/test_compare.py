"""Arms are trained under one budget, once each, and a comparison that was interrupted goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

import polytask
from polytask.assemble import assemble
from polytask.comparison.arms import ARMS, build_arms, read_named, with_train
from polytask.comparison.budget import planned
from polytask.comparison.compare import chosen_seeds
from polytask.comparison.preparation import prepare
from polytask.comparison.runs import RunStore
from polytask.config import validate, values_of
from polytask.errors import ConfigError, Interrupted, NothingToResume, UserError
from polytask.terminal import PlainConsole

Job = Callable[..., dict[str, Any]]
Done: TypeAlias = tuple[dict[str, Any], Path, polytask.Comparison]
ARM = {"most": ["sharing={strategy: partial, shared_layers: 1}"]}


def two_tasks(job: Job, **train: Any) -> dict[str, Any]:
    values = job(rows=24, **{"max_steps": 2, **train})
    del values["tasks"]["entities"]
    return values


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Done:
    """A comparison of two tasks with two seeds, and what it was made from."""
    from samples import corpus_rows, write_jsonl

    folder = tmp_path_factory.mktemp("comparison")
    for split, rows in (
        ("train", corpus_rows(48)[:24]),
        ("dev", corpus_rows(48)[24:36]),
        ("test", corpus_rows(48)[36:]),
    ):
        write_jsonl(folder / f"{split}.jsonl", rows)
    data = {split: str(folder / f"{split}.jsonl") for split in ("train", "dev", "test")}
    values = {
        "encoder": str(tiny),
        "max_tokens": 48,
        "tasks": {
            "sentiment": {"type": "classification", "data": data, "label": "sentiment"},
            "topic": {"type": "classification", "data": data, "label": "topic", "weight": 2.0, "needs": "sentiment"},
        },
        "train": {"epochs": 2, "batch_size": 8, "max_steps": 4, "seed": 5, "precision": "fp32"},
    }
    out = folder / "out"
    return values, out, polytask.compare(values, out, seeds=2, named=ARM)


def test_equal_arms_are_trained_once_and_nothing_is_trained_again(
    done: Done,
) -> None:
    values, out, found = done
    assert list(found.arms) == ["single", "global", "config", "most"]
    # Two single models, one for global and config, and one more, each with two seeds.
    assert (found.trained, found.reused) == (8, 0)
    assert found.arms["global"]["runs"] == found.arms["config"]["runs"]
    again = polytask.compare(values, out, seeds=2, named=ARM)
    assert (again.trained, again.reused) == (0, 8)
    assert again.record == found.record
    wider = polytask.compare(values, out, seeds=[5, 6], arms=["global"])
    assert (wider.trained, wider.reused) == (0, 8)
    # What was found before takes part, whatever is asked for now: nothing that was trained is lost.
    assert list(wider.arms) == ["single", "global", "config", "most"]
    assert wider.record == found.record


def test_the_record_holds_what_was_promised(done: Done) -> None:
    _, out, found = done
    record = json.loads((out / "comparison.json").read_text())
    if "partial" not in record:  # another comparison may have been written there since
        record = found.record
    assert record["seeds"] == [5, 6]
    assert (record["level"], record["floor"], record["notes"]) == (0.95, 0.5, [])
    for task, one in found.tasks.items():
        assert one["metric"] == "accuracy"
        assert one["verdict"] in ("share", "share_partly", "keep_apart", "cannot_tell")
        assert task in one["sentence"]
        assert {one["arms"]["single"][key] for key in ("delta", "low", "high")} == {0}
        for arm, values in one["arms"].items():
            runs = [found.arms[arm]["runs"][seed] for seed in ("5", "6")]
            tests = [json.loads((out / run / "scores.json").read_text())["test"] for listed in runs for run in listed]
            scores = [test[task]["accuracy"] for test in tests if task in test]
            assert values["values"] == pytest.approx(scores, abs=1e-6)
            assert values["mean"] == pytest.approx(sum(scores) / 2, abs=1e-6)
            assert values["delta"] == pytest.approx(values["mean"] - one["arms"]["single"]["mean"], abs=2e-6)
            assert values["low"] <= values["delta"] <= values["high"]
    arms = found.arms
    assert arms["global"]["parameters"] < arms["most"]["parameters"] < arms["single"]["parameters"]
    assert arms["most"]["overrides"] == ARM["most"]
    assert len(arms["single"]["runs"]["5"]) == 2
    assert all(arm["train_seconds"] > 0 and arm["predict_rows_per_second"] > 0 for arm in arms.values())
    assert record["recommended"] in arms
    assert record["recommended"] in record["reason"] or "separate models" in record["reason"]
    assert record["transfer"]["tasks"] == ["sentiment", "topic"]
    sharing = found.tasks["topic"]["arms"]["global"]["delta"]
    assert record["transfer"]["matrix"][0] == [None, pytest.approx(sharing, abs=1e-6)]
    assert set(record["examples"]["topic"]) == {"arm", "fixed", "broken"}


def test_every_arm_sees_as_many_rows_of_a_task(done: Done) -> None:
    _, _, found = done
    for task in found.tasks:
        seen = {name: arm["exposure"][task] for name, arm in found.arms.items()}
        assert max(seen.values()) - min(seen.values()) <= 4, seen  # half an update


@pytest.mark.parametrize(
    "schedule",
    [
        {},
        {"proportions": "uniform"},
        {"proportions": {"sentiment": 3, "topic": 1, "entities": 0.5}},
        {"strategy": "sequential", "replay": 0.2},
        {"strategy": "dynamic", "policy": "bandit"},
    ],
)
@pytest.mark.parametrize("shared", [True, False])
def test_the_single_models_plan_as_many_rows_as_the_joint_one(job: Job, schedule: dict[str, Any], shared: bool) -> None:
    config = validate({**job(rows=60, shared=shared, epochs=3, batch_size=5), "schedule": schedule})
    budget = planned(assemble(config))
    for part in ARMS["single"](config, budget).parts.values():
        own = planned(assemble(part))
        (task,) = part.tasks
        assert own.rows[task] == pytest.approx(budget.rows[task], abs=2.5)


def test_pairs_give_the_transfer_of_three_tasks(job: Job, tmp_path: Path) -> None:
    found = polytask.compare(job(rows=24, max_steps=1), tmp_path / "out", arms=["global", "pairs"], seeds=2)
    assert found.trained == 2 * (3 + 1 + 3)
    matrix = found.record["transfer"]["matrix"]
    assert [row[index] for index, row in enumerate(matrix)] == [None] * 3
    assert all(isinstance(matrix[one][other], float) for one in range(3) for other in range(3) if one != other)
    assert "pairs" not in found.tasks["topic"]["arms"]
    assert "pairs" in found.arms


@pytest.mark.parametrize("damaged", [False, True])
def test_an_interrupted_comparison_goes_on(
    damaged: bool, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from polytask.comparison import runs

    values, train = two_tasks(job), runs.train
    calls: list[Path] = []

    def stopping(config: Any, place: Path, *, resume: bool) -> Any:
        calls.append(place)
        if len(calls) == 3:
            place.mkdir(parents=True)
            (place / "events.jsonl").write_text("")
            if damaged:
                (place / "checkpoints").mkdir()
                (place / "data.json").write_text('{"sour')
            raise Interrupted("stopped after step 1 of 2, and saved; go on with --resume")
        return train(config, place, resume=resume)

    monkeypatch.setattr(runs, "train", stopping)
    with pytest.raises(
        Interrupted, match="stopped after step 1 of 2, and saved; the same command continues from there"
    ):
        polytask.compare(values, tmp_path / "out", arms=["global"], seeds=2)
    found = polytask.compare(values, tmp_path / "out", arms=["global"], seeds=2)
    assert (found.trained, found.reused) == (4, 2)
    assert calls[3] == calls[2]
    assert ("data.json cannot be read; the run is trained again" in capsys.readouterr().err) == damaged
    kept = [path for path in (tmp_path / "out/runs").iterdir() if ".damaged-" in path.name]
    assert [(path / "checkpoints").is_dir() for path in kept] == [True] * damaged


def test_a_run_of_which_no_checkpoint_is_whole_is_trained_anew(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from polytask.comparison import runs

    values, train = two_tasks(job), runs.train
    resumed: list[bool] = []

    def damaged(config: Any, place: Path, *, resume: bool) -> Any:
        resumed.append(resume)
        if len(resumed) == 1:
            (place / "checkpoints").mkdir(parents=True)
            raise NothingToResume("no checkpoint is complete")
        return train(config, place, resume=resume)

    monkeypatch.setattr(runs, "train", damaged)
    found = polytask.compare(values, tmp_path / "out", arms=["global"], seeds=2)
    assert found.trained == 6
    assert resumed == [False] * 7
    assert capsys.readouterr().err.count("no checkpoint is complete; the run is trained again") == 1
    assert len(list((tmp_path / "out/runs").glob("*.damaged-*/checkpoints"))) == 1


@pytest.mark.usefixtures("quick_processes")
def test_several_jobs_give_the_same_record(done: Done, tmp_path: Path) -> None:
    values, out, found = done
    shutil.copytree(out, tmp_path / "out")
    for (run,) in found.arms["global"]["runs"].values():
        shutil.rmtree(tmp_path / "out" / run)
    again = polytask.compare(values, tmp_path / "out", seeds=2, jobs=2, arms=["global"])
    assert (again.trained, again.reused) == (2, 6)
    assert set(again.arms) == set(found.arms)  # of which config is made of the runs that global trained
    assert again.tasks["topic"]["arms"]["global"] == found.tasks["topic"]["arms"]["global"]
    assert again.arms["global"]["runs"] == found.arms["global"]["runs"]


def test_a_run_that_another_process_trains_is_not_moved(tmp_path: Path) -> None:
    from polytask.comparison import runs

    console = PlainConsole(stderr=True)
    (tmp_path / "run/checkpoints/step-00000001").mkdir(parents=True)
    (tmp_path / "run/.lock").write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    runs._check_begun(tmp_path / "run", console)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    (tmp_path / "run/.lock").unlink()
    runs._check_begun(tmp_path / "run", console)
    assert ".damaged-" in next(tmp_path.iterdir()).name


def test_what_a_killed_process_left_in_a_complete_run_is_removed(done: Done, tmp_path: Path) -> None:
    values, out, found = done
    shutil.copytree(out, tmp_path / "out")
    (run,) = next(iter(found.arms["global"]["runs"].values()))
    folder = tmp_path / "out" / run
    (folder / "checkpoints/step-00000001").mkdir(parents=True)
    (folder / ".lock").write_text("{}")
    held = sorted(item.name for item in folder.iterdir())
    assert polytask.compare(values, tmp_path / "out", seeds=2, arms=["global"]).trained == 0
    assert sorted(item.name for item in folder.iterdir()) == [
        name for name in held if name not in (".lock", "checkpoints")
    ]


@pytest.mark.usefixtures("quick_processes")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_whose_checkpoints_are_all_damaged_is_set_aside(jobs: int, done: Done, tmp_path: Path) -> None:
    values, out, found = done
    shutil.copytree(out, tmp_path / "out")
    for (run,) in found.arms["global"]["runs"].values():
        folder = tmp_path / "out" / run
        shutil.rmtree(folder / "model")
        (folder / "scores.json").unlink()
        (folder / "checkpoints/step-00000001").mkdir(parents=True)
    again = polytask.compare(values, tmp_path / "out", seeds=2, jobs=jobs, arms=["global"])
    assert (again.trained, again.reused) == (2, 6)
    assert again.tasks["topic"]["arms"]["global"] == found.tasks["topic"]["arms"]["global"]
    assert len(list((tmp_path / "out/runs").glob("*.damaged-*/checkpoints"))) == 2


@pytest.mark.usefixtures("quick_processes")
def test_a_run_that_fails_in_a_subprocess_is_named(job: Job, tmp_path: Path) -> None:
    values = two_tasks(job, learning_rate=1e30, max_steps=9)
    with pytest.raises(polytask.PolytaskError, match=r"single-\w+-\w+: .*(is not finite|is nan|is inf).*log.txt"):
        polytask.compare(values, tmp_path / "out", seeds=2, jobs=2)


@pytest.mark.usefixtures("quick_processes")
def test_ctrl_c_saves_all_runs_and_exits_with_130(job: Job, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(two_tasks(job, max_steps=None, epochs=4000)), "utf-8")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "polytask", "compare", str(path), "--out", str(out), "--seeds", "2"]
    process = subprocess.Popen([*command, "--jobs", "2"], stderr=subprocess.PIPE, text=True, env={**os.environ})
    deadline = time.monotonic() + 120
    # A run that saves has two for a moment: count runs, not checkpoints.
    while time.monotonic() < deadline and len({found.parts[-3] for found in out.glob("runs/*/checkpoints/step-*")}) < 2:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "the same command continues from there" in told
    events = [path.read_text("utf-8") for path in out.glob("runs/*/events.jsonl")]
    assert [text.count('"interrupted"') for text in events] == [1, 1]


def identities(values: dict[str, Any], named: dict[str, list[str]] | None = None) -> dict[str, list[str]]:
    prepared = prepare(validate(values), ["global"], named or {})
    return {name: [part.seeded(7).identity for part in one.parts] for name, one in prepared.items()}


def test_the_hash_follows_the_content_and_not_the_place(job: Job, tmp_path: Path) -> None:
    values = two_tasks(job)
    before = identities(values, ARM)
    assert before == identities(values, ARM)
    assert len({one for listed in before.values() for one in listed}) == 4
    assert identities({**values, "max_tokens": 40})["global"] != before["global"]
    assert identities({**values, "tasks": dict(reversed(values["tasks"].items()))})["global"] != before["global"]
    # The same content elsewhere is the same run.
    for name, task in values["tasks"].items():
        moved = {split: tmp_path / f"moved-{split}.jsonl" for split in task["data"]}
        for split, path in moved.items():
            path.write_bytes(Path(task["data"][split]).read_bytes())
        values["tasks"][name] = {**task, "data": {split: str(path) for split, path in moved.items()}}
    assert identities(values, ARM) == before
    path = tmp_path / "moved-train.jsonl"
    path.write_text(path.read_text("utf-8").replace('"text": "', '"text": "Well, ', 1), "utf-8")
    after = identities(values, ARM)
    assert all(one != other for name in before for one, other in zip(before[name], after[name], strict=True))


def test_single_models_know_nothing_of_other_tasks(job: Job) -> None:
    values = job(rows=24, max_steps=2)
    values["tasks"]["topic"] |= {"needs": "sentiment", "reads": {"sentiment": "probabilities"}, "weight": 3.0}
    values["tasks"]["sentiment"]["gate"] = {"epochs": 0.5}
    values |= {"sharing": {"strategy": "partial", "shared_layers": 1}, "balance": {"method": "uncertainty"}}
    values["train"] |= {"select": "worst", "baselines": {"sentiment": 0.1, "topic": 0.2, "entities": 0.3}}
    config = validate(values)
    single = ARMS["single"](config, planned(assemble(config)))
    assert list(single.parts) == ["single-sentiment", "single-topic", "single-entities"]
    plain = validate(job(rows=24))
    for task, part in zip(config.tasks, single.parts.values(), strict=True):
        assert list(part.tasks) == [task]
        assert part.tasks[task] == plain.tasks[task]
        assert (part.sharing, part.schedule, part.balance) == (plain.sharing, plain.schedule, plain.balance)
        assert (part.train.max_steps, part.train.select, part.train.baselines) == (None, "gap", None)
        assert part.train.learning_rate == config.train.learning_rate
    pair = ARMS["pairs"](config, planned(assemble(config))).parts["pairs-sentiment-entities"]
    assert (pair.train.select, pair.train.baselines) == ("worst", {"sentiment": 0.1, "entities": 0.3})
    assert pair.tasks == {task: plain.tasks[task] for task in ("sentiment", "entities")}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"arms": ["globl"]}, "--arms: found 'globl', which is not an arm; .*did you mean 'global'.*--arm globl="),
        ({"arms": ["global", "global"]}, "--arms: found 'global' twice"),
        ({"arms": ["single"]}, "--arms: found only single, and nothing to compare it with; add global or config"),
        ({"arms": ["independent"]}, "found single, independent, but none of them shares anything; add global"),
        ({"named": {"config": ["max_tokens=9"]}}, "--arm config: this is the name of a built-in arm"),
        ({"named": {"a/b": ["max_tokens=9"]}}, "--arm a/b: found 'a/b'; a name is a letter"),
        ({"named": {"low": []}}, "--arm low: it changes nothing"),
        ({"named": {"low": ["sharing.strategy=partal"]}}, "arm 'low': --set sharing.strategy.*did you mean 'partial'"),
        ({"named": {"low": ["sharing={strategy: partial, shared_layers: 99}"]}}, "arm 'low': .* encoder has 2 layers"),
        ({"named": {"low": ["tasks.topic.metric=mcc"]}}, "arm 'low': 'topic' is scored by mcc, but its baseline by"),
        ({"named": {"low": ["tasks.topic.label=sentiment"]}}, "arm 'low': 'topic' is scored on other rows or labels"),
        ({"seeds": 1}, "--seeds: found 1; an interval over seeds needs two or more; set --seeds 3"),
        ({"seeds": [4, 4]}, "--seeds: found 4, 4; list a seed once"),
        ({"floor": -1}, "--floor: found -1; expected points that a task may lose, 0 or more"),
        ({"jobs": 0}, "--jobs: found 0"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_trains(
    job: Job, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        polytask.compare(two_tasks(job), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_arms_on_the_command_line_add_up() -> None:
    assert read_named(["a=x.y=1", "b=z=[1, 2]", "a=w=k=v"]) == {"a": ["x.y=1", "w=k=v"], "b": ["z=[1, 2]"]}
    for wrong in ("a", "a=", "a=x.y"):
        with pytest.raises(ConfigError, match="expected a name, a path and a value.*changes nothing"):
            read_named([wrong])
    assert chosen_seeds(3, 13) == [13, 14, 15]
    assert chosen_seeds([3, 1], 13) == [3, 1]


def test_the_predictions_of_another_data_set_are_refused(done: Done, tmp_path: Path) -> None:
    values, out, found = done
    shutil.copytree(out, tmp_path / "out")
    run = tmp_path / "out" / found.arms["global"]["runs"]["5"][0]
    path = run / "predictions" / "topic.jsonl"
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[1:]), "utf-8")
    with pytest.raises(UserError, match=rf"{path}: found \d+ predictions, but the run made \d+; .*delete {run}, and"):
        polytask.compare(values, tmp_path / "out", seeds=2, arms=["global"])
    other = tmp_path / "out" / found.arms["single"]["runs"]["5"][1] / "predictions" / "topic.jsonl"
    path.write_text(other.read_text("utf-8").replace('"row": 0', '"row": 99'), "utf-8")
    with pytest.raises(UserError) as told:
        polytask.compare(values, tmp_path / "out", seeds=2, arms=["global"])
    assert "predictions for other rows or labels than those in " in str(told.value)
    assert str(path) in str(told.value)
    doomed = re.findall(rf"{tmp_path}/out/runs/[\w-]+(?= and|,)", str(told.value))
    assert str(run) in doomed
    path.unlink()
    with pytest.raises(UserError, match="no readable predictions.*the same command trains it again"):
        polytask.compare(values, tmp_path / "out", seeds=2, arms=["global"])


@pytest.mark.parametrize("name", ["config.json", "comparison.json"])
def test_a_damaged_record_is_not_called_another_configuration(done: Done, tmp_path: Path, name: str) -> None:
    values, out, found = done
    shutil.copytree(out, tmp_path / "out")
    (tmp_path / "out" / name).write_text("{", "utf-8")
    again = polytask.compare(values, tmp_path / "out", seeds=2, arms=list(found.arms)[1:], named=ARM)
    assert again.trained == 0
    assert f"{name} was damaged, so earlier arms are not listed; their runs are kept" in again.record["notes"][0]


def test_a_folder_of_another_configuration_is_said_to_be_one(done: Done, tmp_path: Path) -> None:
    values, out, _ = done
    shutil.copytree(out, tmp_path / "out")
    values = {**values, "train": {**values["train"], "learning_rate": 2e-4}}
    found = polytask.compare(values, tmp_path / "out", seeds=2, arms=["global"])
    assert "held a comparison of another configuration" in found.record["notes"][0]
    assert found.trained == 6


def test_the_record_of_a_comparison_on_other_rows_is_kept(job: Job, tmp_path: Path) -> None:
    values, out = two_tasks(job), tmp_path / "out"
    before = polytask.compare(values, out, arms=["global"], seeds=2, named=ARM)
    path = Path(values["tasks"]["topic"]["data"]["train"])
    path.write_text(path.read_text("utf-8").replace('"text": "', '"text": "Well, ', 1), "utf-8")
    found = polytask.compare(values, out, arms=["global"], seeds=2)
    (kept,) = out.glob("comparison-*.json")
    assert json.loads(kept.read_text("utf-8")) == before.record
    assert found.record["notes"] == [
        f"{out} held a comparison on other data: the rows have changed since; its runs are kept, and its results are "
        f"kept in {kept.name}"
    ]
    assert (list(found.arms), found.trained) == (["single", "global"], 6)
    again = polytask.compare(values, out, arms=["global"], seeds=2)
    assert (again.record["notes"], again.trained) == ([], 0)
    assert list(out.glob("comparison-*.json")) == [kept]


def test_a_variant_may_change_strategy_though_the_first_had_options(job: Job) -> None:
    values = {**two_tasks(job), "sharing": {"strategy": "global", "share_heads": []}}
    config = validate(values)
    budget = planned(assemble(config))
    arms = build_arms(config, budget, ["single"], {"low": ["sharing.strategy=independent", "sharing.kind=lora"]})
    assert arms["low"].parts["low"].sharing.strategy == "independent"
    assert with_train(config, seed=3).train.seed == 3
    assert validate(values_of(config)).to_json() == config.to_json()


def test_an_arm_may_have_another_encoder(job: Job, six_layers: Path) -> None:
    named = {"deeper": [f"encoder={six_layers}"]}
    prepared = prepare(validate(job()), ["config", "deeper"], named)
    (config,), (deeper,) = (prepared[name].parts for name in ("config", "deeper"))
    assert deeper.config.encoder == str(six_layers)
    assert deeper.seeded(1).identity != config.seeded(1).identity


def test_runs_are_found_by_their_hash_whatever_they_are_called(tmp_path: Path) -> None:
    from polytask.comparison.preparation import PlannedRun

    (tmp_path / "other-abc").mkdir()
    config: Any = None
    assert RunStore(tmp_path).place(PlannedRun("global", "abc", config)) == tmp_path / "other-abc"
    assert RunStore(tmp_path).place(PlannedRun("global", "abd", config)) == tmp_path / "global-abd"


def test_single_models_teach_the_joint_one_of_their_seed(done: Done, tmp_path: Path) -> None:
    values, out, _ = done
    shutil.copytree(out, tmp_path / "out")
    found = polytask.compare(values, tmp_path / "out", seeds=2, arms=["distill"])
    assert (found.trained, found.reused) == (2, 8)
    for seed, (run,) in found.arms["distill"]["runs"].items():
        train = yaml.safe_load((tmp_path / "out" / run / "config.yaml").read_text("utf-8"))["train"]
        teachers = [str((tmp_path / "out" / single).resolve()) for single in found.arms["single"]["runs"][seed]]
        assert (train["teachers"], train["seed"]) == (teachers, int(seed))
    # Teachers that lie elsewhere are the same teachers.
    (tmp_path / "out").rename(tmp_path / "moved")
    assert polytask.compare(values, tmp_path / "moved", seeds=2, arms=["distill"]).trained == 0
