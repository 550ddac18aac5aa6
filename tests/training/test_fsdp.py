"""An encoder that is sharded over processes trains as one that each of them holds."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fsdp_worker import train
from safetensors.torch import load_file
from several_processes import free_port, in_processes, without_dropout
from test_distribution import BRANCH, balanced, gradients, require_same
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

import polytask as pt
from polytask.assemble import assemble
from polytask.config import validate
from polytask.errors import ConfigError, TrainingError
from polytask.training.checkpoint import Checkpoint, Checkpoints
from polytask.training.checkpoint_files import ShardFiles
from polytask.training.distribution import World

Job = Callable[..., dict[str, Any]]
WORKER = Path(__file__).with_name("fsdp_worker.py")


def sharded(values: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {**values, "train": {**values["train"], "fsdp": True, **options}}


def in_two(folder: Path, *runs: dict[str, Any], code: int = 0) -> None:
    """Train run after run in two processes."""
    (folder / "runs.json").write_text(json.dumps([(free_port(), run) for run in runs]))
    with in_processes([str(WORKER), str(folder / "runs.json")], code=code):
        pass


def sharings(values: dict[str, Any]) -> dict[str, Any]:
    """Return a case of each way to share that has parameters of its own."""
    soft = {"strategy": "partial", "shared_layers": 0, "kind": "soft", "strength": 0.5}
    lora = {"strategy": "partial", "shared_layers": 1, "kind": "lora"}
    cases = {"lora": lora, "soft": soft, "mmoe": {"strategy": "mmoe"}}
    return {name: {**values, "sharing": case} for name, case in cases.items()}


@pytest.mark.usefixtures("quick_processes")
def test_two_processes_that_share_out_the_encoder_make_the_update_of_one(job: Job, tmp_path: Path) -> None:
    """Also where a process lacks rows of tasks, has fewer chunks than the other, or fewer pieces."""
    apart = without_dropout(job(shared=False))
    cases = balanced(apart)
    names = ("losses", "errors", "gradients", "cascade", "gram-in-pieces", "sum-in-pieces-of-tokens", "errors-split")
    chosen = {name: cases[name] for name in names}
    chosen |= sharings(without_dropout(job()))
    chosen["again"] = {**apart, "sharing": BRANCH, "train": {**apart["train"], "gradient_checkpointing": True}}
    alone = gradients(chosen, tmp_path / "one", 1)
    found = gradients({name: sharded(case) for name, case in chosen.items()}, tmp_path / "two", 2)
    require_same(found, alone)


@pytest.mark.usefixtures("quick_processes")
def test_in_bfloat16_shards_are_multiplied_as_whole_weights_are(job: Job, tmp_path: Path) -> None:
    plain = without_dropout(job(precision="bf16"))
    gradients({"plain": plain}, tmp_path / "one", 1)  # one process fills the cache
    found = gradients({"plain": plain, "shards": sharded(plain)}, tmp_path / "two", 2)
    require_same({"shards": found["shards"]}, {"shards": found["plain"]})


@pytest.fixture
def values(job: Job) -> dict[str, Any]:
    """A run that scores its dev rows once, at its end, so that its last weights are its best."""
    plain = without_dropout(job(rows=120, epochs=1, save_steps=2, shared=False))
    return {**plain, "sharing": {"strategy": "partial", "shared_layers": 1}, "balance": {"method": "equal_norms"}}


@pytest.mark.usefixtures("quick_processes")
def test_a_sharded_run_ends_as_a_plain_one_also_when_killed_or_moved_to_other_processes(
    values: dict[str, Any], tmp_path: Path
) -> None:
    plain, whole, moved, killed = (tmp_path / name for name in ("plain", "whole", "moved", "killed"))
    shards = sharded(values)
    in_two(
        tmp_path,
        {"values": values, "out": str(plain)},
        {"values": shards, "out": str(whole)},
        {"values": shards, "out": str(moved), "stop": 2},
        {"values": shards, "out": str(killed), "kill": 5},
        code=-signal.SIGKILL,
    )
    assert not (killed / "model").exists()
    assert sorted(file.suffix for file in (moved / "checkpoints" / "step-00000003").iterdir()) == [
        ".json", ".json", ".safetensors", ".safetensors",
    ]  # fmt: skip
    train(shards, str(moved), resume=True, stop=5)
    in_two(
        tmp_path,
        {"values": shards, "out": str(moved), "resume": True},
        {"values": shards, "out": str(killed), "resume": True},
    )
    weights = {run: load_file(run / "model" / "model.safetensors") for run in (plain, whole, moved, killed)}
    first = assemble(validate(values)).model.state_dict()
    assert any(not torch.allclose(first[name], value, atol=1e-3) for name, value in weights[plain].items())
    for run in (whole, moved):
        assert weights[run].keys() == weights[plain].keys()
        for name, value in weights[run].items():
            torch.testing.assert_close(value, weights[plain][name], atol=1e-5, rtol=1e-4, msg=f"{run.name}: {name}")
    assert (killed / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()
    resumed = [json.loads(line) for line in (moved / "events.jsonl").read_text().splitlines()]
    assert [event["processes"] for event in resumed if event["event"] in ("start", "resume")] == [2, 1, 2]
    assert pt.load(whole / "model").predict(["A fine cast."]) == pt.load(killed / "model").predict(["A fine cast."])
    for rank in (0, 1):
        parts = [int((tmp_path / f"{run.name}-{rank}.json").read_text()) for run in (whole, plain)]
        assert 0.5 <= parts[0] / parts[1] < 0.6


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "adaptive": ({"sharing": {"strategy": "adaptive"}}, r"sharing\.strategy: found adaptive with train\.fsdp=true"),
    "top": ({"balance": {"method": "imtl_g", "measure": "top"}}, r"balance\.measure: found top .*measure=all"),
    "drawn": ({"balance": {"method": "graddrop"}}, r"balance\.method: found graddrop .*equal_norms or sum"),
    "freeze": ({"schedule": {"strategy": "sequential", "freeze": 1}}, r"schedule\.freeze: found 1 .*freeze=0"),
}


@pytest.mark.parametrize(("changed", "message"), REFUSED.values(), ids=REFUSED)
def test_what_needs_whole_layers_is_refused_before_the_first_step(
    job: Job, changed: dict[str, Any], message: str
) -> None:
    values = {**job(), **changed}
    assemble(validate(values))
    with pytest.raises(ConfigError, match=message + r".*, or train\.fsdp=false$"):
        assemble(validate(sharded(values)))


def test_shards_of_one_process_are_read_as_they_were_written_and_a_full_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}
    others = {
        "a.weight/exp_avg": torch.ones(2, 3),
        "a.weight/step": torch.tensor(3.0),
        "generator/0": torch.get_rng_state(),
    }
    found = Checkpoints(tmp_path, "a", files=ShardFiles(World(0, 1)))
    found.save(1, Checkpoint({"step": 1}, weights, others))
    assert found.newest() == "step-00000001"
    read = found.load("step-00000001", weights)
    for expected, kept in ((weights, read.weights), (others, read.others)):
        assert expected.keys() == kept.keys()
        for name, value in expected.items():
            assert torch.equal(kept[name], value), name

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(HuggingFaceStorageWriter, "write_data", full)
    with pytest.raises(
        TrainingError, match=r"step-00000002: the checkpoint cannot be written .*No space left.*00001 stays"
    ):
        found.save(2, Checkpoint({"step": 2}, weights, others))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_task_that_guesses_words_is_refused(job: Job) -> None:
    values = job()
    values["tasks"]["words"] = {"type": "mlm", "data": values["tasks"]["topic"]["data"]}
    assemble(validate(values))
    with pytest.raises(
        ConfigError, match=r"tasks\.words: found a task that predicts masked words with train\.fsdp=true"
    ):
        assemble(validate(sharded(values)))


def test_a_trained_model_is_not_extended_in_shards(job: Job, tmp_path: Path) -> None:
    values = job(max_steps=1)
    old, new = ({**values, "tasks": {task: values["tasks"][task]}} for task in ("topic", "sentiment"))
    pt.train(old, tmp_path / "old")
    with pytest.raises(ConfigError, match=r"extend: found with train\.fsdp=true; the old tasks are scored before"):
        pt.extend(tmp_path / "old", sharded(new), tmp_path / "new")
    assert not (tmp_path / "new" / "model").exists()
