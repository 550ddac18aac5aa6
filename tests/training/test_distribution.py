"""Two processes make the update of one; so do several pieces."""

from __future__ import annotations

import json
import random
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from several_processes import in_processes, without_dropout

from polytask.api import train
from polytask.assemble import assemble
from polytask.config import validate
from polytask.errors import ConfigError
from polytask.training.distribution import World
from polytask.training.events import Events

Job = Callable[..., dict[str, Any]]
WORKER = Path(__file__).with_name("ddp_worker.py")


def gradients(cases: Mapping[str, Any], folder: Path, processes: int) -> dict[str, list[dict[str, torch.Tensor]]]:
    """Return for each case the gradient of an update, as every process has it."""
    folder.mkdir()
    (folder / "cases.json").write_text(json.dumps(cases))
    if processes == 1:  # here: starting another one takes seconds
        runpy.run_path(str(WORKER))["main"](folder / "cases.json", folder)
    else:
        with in_processes([str(WORKER), str(folder / "cases.json"), str(folder)], processes):
            pass
    return {name: [load_file(folder / f"{name}-{rank}.safetensors") for rank in range(processes)] for name in cases}


def in_pieces(values: dict[str, Any], pieces: int) -> dict[str, Any]:
    return {**values, "train": {**values["train"], "gradient_accumulation_steps": pieces}}


def limited(values: dict[str, Any], tokens: int) -> dict[str, Any]:
    return {**values, "train": {**values["train"], "max_tokens_per_batch": tokens}}


def require_same(found: Mapping[str, Sequence[dict[str, torch.Tensor]]], alone: Mapping[str, Any]) -> None:
    """Require that every process has the gradient that one process makes alone."""
    for name, processes in found.items():
        for gradient in processes:
            assert set(gradient) == set(alone[name][0])
            for key, expected in alone[name][0].items():
                torch.testing.assert_close(gradient[key], expected, atol=1e-6, rtol=1e-5, msg=f"{name}: {key}")


# Each round ends with work of the group's thread that may still wait for Python's lock, as another thread keeps it.
ROUNDS = """
import os, sys, threading
import torch, torch.distributed as dist
from polytask.training.distribution import join_world

def spin():
    while True:
        sum(range(50))

def alone(backend, join=dist.init_process_group):
    join(backend, store=dist.HashStore(), rank=0, world_size=1)

dist.init_process_group = alone
os.environ.update(WORLD_SIZE="2", RANK="0")
threading.Thread(target=spin, daemon=True).start()
for number in range(int(sys.argv[1])):
    with join_world(torch.device("cpu")) as world:
        wrapped = world.wrap(torch.nn.Linear(4, 4), torch.device("cpu"))
        wrapped(torch.ones(2, 4)).sum().backward()
        dist.all_gather_object([None], number)
    del wrapped
print("over")
"""


BRANCH = {"strategy": "partial", "branches": [{"from_layer": 2, "groups": [["sentiment", "topic"], ["entities"]]}]}
BALANCED: dict[str, dict[str, Any]] = {
    "sum": {},
    "losses": {"balance": {"method": "stch"}},
    "gram": {"balance": {"method": "nash_mtl"}},
    "errors": {"balance": {"method": "equal_norms"}},
    "top": {"balance": {"method": "imtl_g", "measure": "top"}},
    "gradients": {"balance": {"method": "trimmed_mean"}},
    "drawn": {"balance": {"method": "graddrop"}},
}


def reading(tasks: dict[str, Any]) -> dict[str, Any]:
    """Let the entities read the topic, and train what they read."""
    reads = {"needs": "topic", "reads": {"topic": "probabilities"}, "detach_reads": False}
    return {
        "sentiment": tasks["sentiment"],
        "topic": {**tasks["topic"], "gate": {"epochs": 0.01}},
        "entities": {**tasks["entities"], **reads},
    }


def balanced(values: dict[str, Any]) -> dict[str, Any]:
    """Return a case of each way to differentiate, with rows dealt to the processes and with tasks split among them."""
    dealt = {name: {**values, "sharing": BRANCH, **changed} for name, changed in BALANCED.items()}
    dealt["cascade"] = {**in_pieces(dealt["losses"], 2), "tasks": reading(values["tasks"])}
    split = {"schedule": {"strategy": "parallel", "placement": "split"}}
    pieces = {f"{name}-in-pieces": in_pieces(dealt[name], 2) for name in ("sum", "gram")}
    pieces |= {
        f"{name}-in-pieces-of-tokens": limited(dealt[name], values["max_tokens"])
        for name in ("sum", "losses", "gradients")
    }
    return {**dealt, **pieces, **{f"{name}-split": {**case, **split} for name, case in dealt.items()}}


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_limit_of_tokens_makes_the_update_of_the_whole_in_pieces_that_keep_to_it(
    job: Job, tmp_path: Path, pieces: int
) -> None:
    values = in_pieces({**without_dropout(job(shared=False, batch_size=24)), "max_tokens": 32}, pieces)
    cases = {str(tokens): limited(values, tokens) for tokens in (32, 90, 300, 10**6)}
    require_same(gradients(cases, tmp_path / "cut", 1), gradients(dict.fromkeys(cases, values), tmp_path / "whole", 1))
    counts: list[int] = []
    for tokens in (None, 300, 90, 32):
        case = values if tokens is None else limited(values, tokens)
        trainer = assemble(validate(case)).trainer(World(0, 1), None, Events(None))
        batches = trainer.rows.batches(trainer.rows.draw())
        assert sum(batch.rows for batch in batches) == 24
        assert tokens is None or all(
            batch.rows * max(chunk.ids.shape[1] for chunk in batch.chunks) <= tokens for batch in batches
        )
        counts.append(len(batches))
    assert counts[0] == pieces
    assert sorted(set(counts)) == counts


def test_a_limit_of_tokens_below_one_text_is_refused(job: Job) -> None:
    with pytest.raises(ConfigError, match=r"train\.max_tokens_per_batch: found 31, .*max_tokens=32; raise it"):
        assemble(validate(limited({**job(), "max_tokens": 32}, 31)))


@pytest.mark.usefixtures("quick_processes")
def test_two_processes_make_balance_and_place_as_one_does(job: Job, tmp_path: Path) -> None:
    """Also where each has rows of as few tasks as may be, and where a task's gradient reaches what others own."""
    plain = {f"plain-{shared}": without_dropout(job(shared=shared)) for shared in (True, False)}
    cases = plain | {f"{name}-in-pieces": in_pieces(values, 3) for name, values in plain.items()}
    cases |= {
        f"{name}-{shared}": case
        for shared in (True, False)
        for name, case in balanced(without_dropout(job(shared=shared))).items()
        if not shared or "-" not in name
    }
    alone = gradients(cases, tmp_path / "one", 1)
    require_same(gradients(cases, tmp_path / "two", 2), alone)
    for name in cases:  # for one process it is all the same
        first = name.replace("-split", "").replace("-in-pieces", "").replace("-of-tokens", "")
        require_same({name: alone[name]}, {name: alone[first]})


@pytest.mark.parametrize(
    "sharing",
    [
        {"strategy": "partial", "shared_layers": 0, "kind": "soft", "strength": 0.5},
        {"strategy": "adaptive", "start": {"strategy": "partial", "shared_layers": 1}, "interval": 2},
    ],
    ids=["soft", "adaptive"],
)
@pytest.mark.usefixtures("quick_processes")
def test_two_processes_go_on_when_a_step_lacks_tasks(job: Job, tmp_path: Path, sharing: dict[str, Any]) -> None:
    """Two rows a step for three tasks: parts without rows on a process, or on both."""
    values = {
        **without_dropout(job(shared=False, batch_size=2, max_steps=7, epochs=9, logging_steps=1)),
        "sharing": sharing,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values), "utf-8")
    train(tmp_path / "config.yaml", tmp_path / "1")
    command = ["train", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "2"), "--processes", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "polytask", *command], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    # Not the weights: AdamW makes whole steps of a gradient that is rounding only, as a key's bias has.
    alone, together = (
        [json.loads(line) for line in (tmp_path / count / "events.jsonl").read_text().splitlines()]
        for count in ("1", "2")
    )
    losses = [[event["losses"] for event in events if event["event"] == "step"] for events in (alone, together)]
    assert len(losses[0]) == 7
    for one, two in zip(*losses, strict=True):
        assert one == pytest.approx(two, abs=1e-4)


def test_pieces_make_the_update_of_the_whole(job: Job, tmp_path: Path) -> None:
    values = without_dropout(job())
    found = gradients({"whole": values, "pieces": in_pieces(values, 4)}, tmp_path / "one", 1)
    require_same({"whole": found["pieces"]}, found)


@pytest.mark.usefixtures("quick_processes")
def test_train_with_two_processes_ends_in_a_model_that_predicts(job: Job, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(job(epochs=1)), "utf-8")
    command = [sys.executable, "-m", "polytask", "train", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "run")]
    done = subprocess.run([*command, "--processes", "2"], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["processes"] == 2
    assert set(json.loads((tmp_path / "run" / "scores.json").read_text())) == {"dev", "test"}
    again = subprocess.run([*command, "--processes", "2"], capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 2
    assert again.stderr.count("this run is complete") == 1
    assert "Traceback" not in again.stderr


def test_rows_are_dealt_evenly_and_each_to_one_process() -> None:
    dealt = [World(rank, 3).share(range(10)) for rank in range(3)]
    assert sorted(row for part in dealt for row in part) == list(range(10))
    assert {len(part) for part in dealt} == {3, 4}


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_stretches_hold_every_row_once_and_about_as_many_tokens(processes: int) -> None:
    drawn = random.Random(1)
    for count in (processes, processes + 1, 20, 100):
        sizes = [drawn.randint(3, 128) for _ in range(count)]
        items = drawn.sample(range(1000), count)
        parts = [World(rank, processes).stretch(items, sizes) for rank in range(processes)]
        assert [item for part in parts for item in part] == items
        tokens = [sum(sizes[items.index(item)] for item in part) for part in parts]
        assert max(tokens) <= sum(sizes) / processes + 2 * max(sizes)
        assert min(map(len, parts)) > 0


def test_fewer_rows_than_processes_are_one_each() -> None:
    parts = [World(rank, 4).stretch([7, 5], [3, 90]) for rank in range(4)]
    assert parts == [[7], [5], [], []]


def test_everybody_gets_a_row_however_long_the_others_are() -> None:
    parts = [World(rank, 3).stretch([0, 1, 2, 3], [1, 40, 40, 1]) for rank in range(3)]
    assert min(map(len, parts)) > 0


@pytest.mark.usefixtures("quick_processes")
@pytest.mark.parametrize("rounds", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_a_process_ends_though_a_wrapped_model_outlives_its_group(rounds: int) -> None:
    command = [sys.executable, "-c", ROUNDS, str(rounds)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.stdout == "over\n", ended.stderr
