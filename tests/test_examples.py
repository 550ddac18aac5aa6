"""Every example runs end to end: trained, scored, saved, loaded, predicting; most of them on the bundled corpus."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from polytask.api import Run, load, train
from polytask.balance import BALANCERS
from polytask.config import load_config
from polytask.schedule import SCHEDULES
from polytask.schedule.dynamic import DynamicOptions
from polytask.sharing import SHARING
from samples import write_corpus

ROOT = Path(__file__).parents[1]
TEXTS = ["A moving film by Ang Lee.", "The phone broke in Rome after two days."]


def examples(folder: str) -> list[Path]:
    return sorted((ROOT / "examples" / folder).glob("*.yaml"))


def named(folder: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("example", [example.stem for example in examples(folder)])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, six_layers: Path) -> Path:
    """A folder with the examples and data of the quickstart, as in a checkout after `make quickstart`."""
    found = tmp_path_factory.mktemp("project")
    write_corpus(found / "quickstart" / "data")
    shutil.copytree(ROOT / "examples", found / "examples")
    shutil.copytree(six_layers, found / "encoder")
    return found


def run_example(project: Path, example: str, out: Path, *overrides: str) -> Run:
    """Train an example for a few steps, and see that the saved model answers as the trained one."""
    small = [f"encoder={project / 'encoder'}", "train.max_steps=3", "train.batch_size=8", "train.precision=fp32"]
    run = train(project / "examples" / f"{example}.yaml", out, overrides=[*small, *overrides])
    assert set(run.scores["test"]) == set(run.model.tasks)
    loaded = load(out / "model")
    assert loaded.network.sharing == run.model.network.sharing
    assert loaded.predict(TEXTS) == run.model.predict(TEXTS)
    return run


def test_every_strategy_and_kind_of_method_has_an_example() -> None:
    assert {load_config(example).sharing.strategy for example in examples("sharing")} == set(SHARING)
    assert {load_config(example).schedule.strategy for example in examples("scheduling")} == set(SCHEDULES)
    shapes = {load_config(example).balance.shape for example in examples("balancing")}
    assert shapes == {method.shape for method in BALANCERS.values()} - {"nothing"}


@named("sharing")
def test_a_sharing_example_runs(example: str, project: Path, tmp_path: Path) -> None:
    overrides = ["interval=1", "patience=1", "threshold=1.0", "confidence=0", "min_measurements=1"]
    early = [f"sharing.{one}" for one in overrides] if example == "adaptive" else []
    run = run_example(project, f"sharing/{example}", tmp_path / "run", *early)
    if example == "adaptive":  # it measures early, and splits whatever is less than equal
        assert len(run.model.network.plan.levels[-1]) > 1


@named("scheduling")
def test_a_scheduling_example_runs_through_all_of_its_stages(example: str, project: Path, tmp_path: Path) -> None:
    """Gates are set to open after a few rows, so that every task gets its turn."""
    gates = {
        "sequential": ["tasks.sentiment.gate={epochs: 0.03}", "tasks.topic.gate={epochs: 0.03}"],
        "gated": ["tasks.sentiment.gate={epochs: 0.03}", "tasks.topic.gate={epochs: 0.03}"],
        "cascade": ["tasks.sentiment.gate={epochs: 0.03}"],
    }
    run_example(project, f"scheduling/{example}", tmp_path / "run", "train.max_steps=12", *gates.get(example, []))
    record = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert all(seen["rows"] > 0 for seen in record["exposure"].values())
    if example == "sequential":
        assert [stage["stage"] for stage in record["stages"]] == ["sentiment", "topic", "entities"]


@pytest.mark.parametrize("policy", get_args(DynamicOptions.model_fields["policy"].annotation))
def test_the_dynamic_example_runs_under_every_policy(policy: str, project: Path, tmp_path: Path) -> None:
    targets = ["schedule.targets={sentiment: 0.8, topic: 0.7, entities: 0.6}"] if policy == "dev_gap" else []
    run_example(project, "scheduling/dynamic", tmp_path / "run", f"schedule.policy={policy}", *targets)


@named("balancing")
def test_a_balancing_example_runs(example: str, project: Path, tmp_path: Path) -> None:
    run_example(project, f"balancing/{example}", tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text("utf-8").splitlines()]
    steps = [event for event in log if event["event"] == "step"]
    assert all(("weights" in event) == (example != "graddrop") for event in steps)


@pytest.mark.parametrize("example", ["imdb_sequential", "imdb_parallel", "imdb_dynamic"])
def test_an_imdb_example_runs_on_files_of_the_official_form(example: str, project: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label, ratings in (("neg", (1, 4)), ("pos", (7, 10))):
            folder = tmp_path / "aclImdb" / split / label
            folder.mkdir(parents=True)
            for number in range(20):
                text = f"A {'fine' if label == 'pos' else 'poor'} film, number {number}.<br />See for yourself."
                (folder / f"{number}_{ratings[number % 2]}.txt").write_text(text, "utf-8")
    script = ROOT / "examples" / "imdb_official.py"
    subprocess.run([sys.executable, script, tmp_path / "aclImdb", tmp_path / "imdb"], check=True)
    files = {split: str(tmp_path / "imdb" / f"{split}.jsonl") for split in ("train", "dev", "test")}
    data = [f"tasks.{task}.data={json.dumps(files)}" for task in ("sentiment", "rating")]
    run_example(project, example, tmp_path / "run", "train.max_steps=12", *data)
    record = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert all(seen["rows"] > 0 for seen in record["exposure"].values())
