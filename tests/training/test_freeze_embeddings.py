"""Word embeddings that stay as they are: they do, whatever is shared, and nothing else is frozen with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from interruptions import weights_of, with_and_without_a_stop
from safetensors.torch import load_file
from transformers import AutoModel

import polytask as pt
from polytask.assemble import assemble
from polytask.config import validate
from polytask.training.optimizer import build_optimizer, optimizer_tensors

Job = Callable[..., dict[str, Any]]
WORDS = "embeddings.word_embeddings.weight"
SHARING: dict[str, dict[str, Any]] = {
    "global": {"strategy": "global"},
    "partial": {"strategy": "partial", "shared_layers": 1},
    "independent": {"strategy": "independent"},
    "mmoe": {"strategy": "mmoe", "from_layer": 2},
}


@pytest.mark.parametrize("sharing", SHARING.values(), ids=list(SHARING))
def test_words_stay_and_all_else_trains(sharing: dict[str, Any], job: Job, tiny: Path, tmp_path: Path) -> None:
    values = {**job(rows=20, epochs=1, freeze_embeddings=True), "sharing": sharing}
    model = assemble(validate(values)).model
    first = {name: value.clone() for name, value in model.state_dict().items()}
    pt.train(values, tmp_path / "run")
    trained = load_file(tmp_path / "run" / "model" / "model.safetensors")
    real = AutoModel.from_pretrained(tiny).state_dict()[WORDS]
    (name,) = (name for name in trained if name.endswith(WORDS))  # once, however many trunks have it
    assert torch.equal(trained[name], real)
    same = [name for name, _ in model.named_parameters() if name in trained and torch.equal(trained[name], first[name])]
    assert same == [name]
    assert len(trained) == len(first) - len(model.trunks) + 1


def test_the_optimizer_holds_nothing_of_them(job: Job) -> None:
    sizes: dict[bool, int] = {}
    for frozen in (False, True):
        assembly = assemble(validate(job(rows=8, freeze_embeddings=frozen)))
        model, train = assembly.model, assembly.config.train
        optimizer = build_optimizer(model, train, assembly.tasks)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        sizes[frozen] = sum(tensor.numel() for tensor in optimizer_tensors(model, optimizer).values() if tensor.ndim)
        words = sum(table.numel() for table in model.word_embeddings().values())
    assert sizes[False] - sizes[True] == 2 * words


def test_layers_that_are_divided_later_leave_them_frozen(job: Job) -> None:
    model = assemble(validate(job(rows=8, freeze_embeddings=True))).model
    tasks = model.plan.tasks
    model.follow(model.plan.split(2, tasks[:1]))
    assert all(not table.requires_grad for table in model.word_embeddings().values())
    assert all(
        parameter.requires_grad
        for name, parameter in model.named_parameters()
        if "embeddings.position_embeddings" in name or "LayerNorm" in name
    )


def test_a_stopped_run_goes_on_to_the_same_weights(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = job(rows=20, epochs=2, freeze_embeddings=True)
    runs = with_and_without_a_stop(values, tmp_path, monkeypatch, after=2)
    whole, stopped = weights_of(runs)
    assert whole == stopped
