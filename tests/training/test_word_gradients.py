"""Gradients of word embeddings in a kept table are those of autograd, in every update and under every sharing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from polytask.assemble import assemble
from polytask.config import validate
from polytask.training.distribution import World
from polytask.training.events import Events
from polytask.training.loop import Trainer
from polytask.training.optimizer import clip_gradients
from polytask.training.word_gradients import WordGradients

Job = Callable[..., dict[str, Any]]
CASES: dict[str, dict[str, Any]] = {
    "global": {"sharing": {"strategy": "global"}, "balance": {"method": "sum"}},
    "two trunks": {"sharing": {"strategy": "independent"}, "balance": {"method": "sum"}},
    "in pieces": {"train": {"gradient_accumulation_steps": 2}, "balance": {"method": "sum"}},
    "by losses": {"balance": {"method": "uncertainty"}},
    "by gradients": {"balance": {"method": "aligned_mtl"}},
    "by the top": {"balance": {"method": "equal_norms", "measure": "top"}},
    "default": {},
}


def trainer_of(values: dict[str, Any]) -> Trainer:
    return assemble(validate(values)).trainer(World(0, 1), None, Events(None))


def updated(trainer: Trainer, updates: int) -> dict[str, torch.Tensor]:
    for _ in range(updates):
        trainer.update()
        trainer.state.step += 1
    return {name: value.clone() for name, value in trainer.parts.model.state_dict().items()}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_updates_are_those_of_a_dense_gradient(case: dict[str, Any], job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {**job(rows=60, epochs=1), **case}
    values["train"] = {**job(rows=60, epochs=1)["train"], **case.get("train", {}), "batch_size": 8}
    kept = updated(trainer_of(values), 5)
    monkeypatch.setattr(WordGradients, "takes", lambda self, trunk: False)
    dense = updated(trainer_of(values), 5)
    assert kept.keys() == dense.keys()
    for name, value in dense.items():
        torch.testing.assert_close(kept[name], value, atol=2e-5, rtol=1e-4, msg=name)


def test_the_table_holds_the_rows_of_this_update_only(job: Job) -> None:
    values = {**job(rows=60, epochs=1), "sharing": {"strategy": "global"}, "balance": {"method": "sum"}}
    trainer = trainer_of(values)
    (table,) = trainer.parts.model.word_embeddings().values()
    tables: list[torch.Tensor] = []
    for _ in range(3):
        batches = trainer.rows.batches(trainer.rows.draw())
        trainer.differentiator.whole(trainer.state.wrapped, batches)
        assert table.grad is not None
        tables.append(table.grad)
        ids = torch.cat([ids for batch in batches for ids in trainer.parts.model.ids(batch).values()])
        others = torch.ones(len(table), dtype=torch.bool)
        others[ids] = False
        assert table.grad.any()
        assert not table.grad[others].any()
        assert not table.grad[trainer.parts.collator.pad_id].any()
        trainer.parts.model.zero_grad(set_to_none=True)
    assert tables[0] is tables[1] is tables[2]


def test_a_gradient_that_is_there_already_is_added_to(job: Job) -> None:
    trainer = trainer_of(job(rows=8))
    model = trainer.parts.model
    (trunk,) = model.plan.trunks
    table = model.word_embeddings()[trunk]
    table.grad = torch.ones_like(table)
    words = WordGradients(model)
    words.add(trunk, torch.tensor([7, 7, 9]), torch.ones(3, table.shape[1]))
    assert table.grad[7].eq(3).all()
    assert table.grad[9].eq(2).all()
    assert table.grad[8].eq(1).all()


@pytest.mark.parametrize("limit", [0.5, 5.0, 1e-9])
def test_gradients_are_clipped_as_torch_clips_them(limit: float, job: Job) -> None:
    trainer = trainer_of({**job(rows=8), "balance": {"method": "sum"}})
    model = trainer.parts.model
    trainer.differentiator.whole(trainer.state.wrapped, trainer.rows.batches(trainer.rows.draw()))
    before = {parameter: parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None}
    norm = clip_gradients(model, limit, World(0, 1))
    clipped = {parameter: parameter.grad for parameter in before}
    for parameter, gradient in before.items():
        parameter.grad = gradient
    assert norm == float(torch.nn.utils.clip_grad_norm_(model.parameters(), limit))
    for parameter, gradient in clipped.items():
        assert parameter.grad is not None
        assert gradient is not None
        assert torch.equal(gradient, parameter.grad)
