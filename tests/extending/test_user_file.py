"""The file of docs/extending.md, outside of the repository: every way that polytask runs takes its methods."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import polytask as pt
from polytask.artifact.folder import load_bundle
from polytask.errors import ModelError

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text("utf-8")
Call = Callable[..., tuple[int, str, str]]


def block(kind: str) -> str:
    """Return the first block of the page of a kind."""
    found = re.search(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def config(tmp_path: Path, tiny: Path) -> Path:
    """The page's configuration on a few rows, with the module beside it."""
    tones = {"dreadful": 1, "poor": 2, "decent": 3, "good": 4, "wonderful": 5}
    rows = [
        {"text": f"A {word} film, number {number}.", "stars": stars, "tone": "good" if stars > 2 else "bad"}
        for number in range(8)
        for word, stars in tones.items()
    ]
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (tmp_path / "my_methods.py").write_text(block("python"), "utf-8")
    values = yaml.safe_load(block("yaml extension"))
    values["encoder"] = str(tiny)
    values["train"] |= {"precision": "fp32", "save_steps": 1, "epochs": 4}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    return path


def test_the_strategy_of_the_page_shares_what_it_says(config: Path, tmp_path: Path) -> None:
    (tmp_path / "my_strategy.py").write_text(block("python strategy"), "utf-8")
    values = yaml.safe_load(config.read_text("utf-8"))
    sharing = {"strategy": "last_alone", "task": "tone", "kind": "lora"}
    train = {**values["train"], "max_steps": 2}
    values |= {"extensions": ["my_methods", "my_strategy"], "sharing": sharing, "train": train}
    config.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    try:
        run = pt.train(config, tmp_path / "run")
        plan = load_bundle(tmp_path / "run" / "model").model.plan
    finally:
        forget()
    assert set(run.scores["test"]) == {"rating", "tone"}
    assert [len(level) for level in plan.levels] == [1] * plan.layers + [2]
    assert plan.part(plan.layers, "tone") == frozenset({"tone"})


def forget() -> None:
    """Be as a process that has not imported the module."""
    from polytask import extensions
    from polytask.registry import TABLES

    for own in ("my_methods", "my_strategy"):
        sys.modules.pop(own, None)
        extensions._done.discard(own)
    os.environ.pop(extensions.VARIABLE, None)
    for table in TABLES.values():
        for name in [name for name, module in table.extensions.items() if module in ("my_methods", "my_strategy")]:
            table.remove(name)


def test_the_file_has_about_thirty_lines() -> None:
    assert len([line for line in block("python").splitlines() if line.strip()]) <= 35


@pytest.mark.usefixtures("quick_processes")  # the one that is killed dies with its stand-in
def test_a_users_file_trains_resumes_compares_and_predicts(config: Path, tmp_path: Path, call: Call) -> None:
    code, out, err = call("check", config)
    assert code == 0, err
    assert "hardest" in out

    run = pt.train(config, tmp_path / "whole")
    assert list(run.scores["dev"]["rating"]) == ["within_half", "pearson", "spearman", "mae"]
    assert run.intervals["test"]["rating"]["within_half"] is not None
    made = json.loads((tmp_path / "whole" / "model" / "polytask.json").read_text("utf-8"))
    assert made["extensions"] == ["my_methods"]

    kill_after_a_checkpoint(config, tmp_path / "killed")
    pt.train(config, tmp_path / "killed", resume=True)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]

    arguments = ("--arms", "single,config", "--seeds", 2, "--jobs", 2, "--set", "train.max_steps=2")
    code, out, err = call("compare", config, "--out", tmp_path / "comparison", *arguments)
    assert code == 0, err
    found = json.loads((tmp_path / "comparison" / "comparison.json").read_text("utf-8"))
    assert found["tasks"]["rating"]["metric"] == "within_half"

    model, texts = tmp_path / "whole" / "model", tmp_path / "texts.txt"
    texts.write_text("A wonderful film.\n", "utf-8")
    forget()
    code, out, err = call("predict", model, texts)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {model}: needs the extension my_methods, and a folder imports no code by itself")
    assert "my_methods" not in sys.modules
    code, out, err = call("predict", model, texts, "--extension", "my_methods")
    assert code == 0, err
    answer = json.loads(out)["predictions"]
    assert list(answer) == ["rating", "tone"]
    assert isinstance(answer["rating"]["value"], float)
    code, _, err = call("export", model, "--to", "hf", "--out", tmp_path / "hf", "--tasks", "rating")
    assert code == 2
    assert "its head is 'greatest', which other programs do not have" in err


def kill_after_a_checkpoint(config: Path, run: Path) -> None:
    """Train in another process and end it by SIGKILL as soon as it has saved something."""
    command = [sys.executable, "-m", "polytask", "train", str(config), "--out", str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while process.poll() is None and not list((run / "checkpoints").glob("*")):
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)  # until nobody writes any more, behind a stand-in either
    assert not (run / "model").exists()


def test_a_model_folder_imports_nothing_by_itself(config: Path, tmp_path: Path) -> None:
    pt.train(config, tmp_path / "run", overrides=["train.max_steps=1"])
    model = tmp_path / "run" / "model"
    forget()
    (tmp_path / "my_methods.py").write_text("raise AssertionError('it ran')", "utf-8")
    with pytest.raises(ModelError, match=r"needs the extension my_methods.*extensions=\['my_methods'\]"):
        pt.load(model)
    # An enemy may name what is there already, or what is no module at all.
    said = json.loads((model / "polytask.json").read_text("utf-8"))
    for named, told in (
        (["os"], "found the type 'stars', and os did not register it"),
        ([], "found the type 'stars'; accepted: "),
        (["../my_methods"], "an extension is the name of a module"),
        ([{"a": 1}], "an extension is the name of a module"),
        ("my_methods", "expected a list of modules"),
    ):
        (model / "polytask.json").write_text(json.dumps({**said, "extensions": named}), "utf-8")
        with pytest.raises(ModelError, match=re.escape(told)):
            pt.load(model)
    assert "my_methods" not in sys.modules
    shutil.rmtree(model)


def test_callbacks_are_told_what_the_log_holds_and_change_nothing(config: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []

    def callback(event: str, step: int, values: Any) -> None:
        told.append((event, step))
        values.clear()

    silent = pt.train(config, overrides=["train.max_steps=3"])
    run = pt.train(config, tmp_path / "run", overrides=["train.max_steps=3"], callbacks=[callback])
    lines = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text("utf-8").splitlines()]
    assert told == [(line["event"], line["step"]) for line in lines]
    assert {"start", "scores"} <= {event for event, _ in told}
    assert run.scores == silent.scores
    told.clear()
    pt.train(config, overrides=["train.max_steps=1"], callbacks=[callback])
    assert {"start", "scores"} <= {event for event, _ in told}


def test_sections_may_be_objects(config: Path) -> None:
    from polytask.balance import SumOptions

    chosen: list[Any] = []

    def callback(event: str, step: int, values: Any) -> None:
        chosen.extend([values] if event == "start" else [])

    from polytask.api import as_config, with_sections

    changed = with_sections(as_config(config), {"balance": SumOptions(), "schedule": {"strategy": "parallel"}})
    assert (changed.balance.method, changed.schedule.strategy) == ("sum", "parallel")
    assert changed.tasks == as_config(config).tasks
    pt.train(config, overrides=["train.max_steps=1"], balance=SumOptions(), callbacks=[callback])
    assert len(chosen) == 1
