"""Laws of the mixed batch: it is the sum of its parts, however it is composed, cut or padded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from polytask.assemble import assemble
from polytask.assembly import Assembly
from polytask.config import validate
from polytask.data.batch import Batch
from polytask.data.collator import Collator
from polytask.data.stream import DrawnRow
from polytask.model.multitask import MultiTaskModel
from polytask.model.parameters import count_parameters

Job = Callable[..., dict[str, Any]]
SHARED: dict[str, dict[str, Any]] = {
    "global": {"strategy": "global"},
    "independent": {"strategy": "independent"},
    "partial": {
        "strategy": "partial",
        "branches": [{"from_layer": 2, "groups": [["topic", "sentiment"], ["entities"]]}],
        "kind": "lora",
    },
    "ple": {"strategy": "ple", "from_layer": 1},
}


def build(job: Job, strategy: str = "global", **values: Any) -> Assembly:
    return assemble(validate({**job(**values), "sharing": SHARED[strategy]}))


def drawn_rows(assembly: Assembly, count: int = 6) -> list[DrawnRow]:
    """Some rows of every training source, each with all tasks whose label it carries."""
    found: list[DrawnRow] = []
    for number, source in enumerate(assembly.sources["train"]):
        for row in range(min(count, len(source))):
            tasks = tuple(task for task in source.tasks if row in source.carries[task])
            if tasks:
                found.append(DrawnRow(number, row, tasks))
    return found


def mean_losses(assembly: Assembly, batch: Batch) -> dict[str, Tensor]:
    outputs = assembly.model(batch)
    return {
        name: assembly.tasks[name].loss(found, batch.targets[name])
        / assembly.tasks[name].loss_denominator(batch.targets[name])
        for name, found in outputs.items()
    }


def gradients(model: MultiTaskModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }


@pytest.mark.parametrize("strategy", SHARED)
@pytest.mark.parametrize("shared", [True, False])
def test_gradient_of_a_mixed_batch_is_the_sum_of_the_tasks_gradients(job: Job, strategy: str, shared: bool) -> None:
    assembly = build(job, strategy, shared=shared)
    assembly.model.eval()
    rows = drawn_rows(assembly)
    batch = assembly.collator().from_sources(assembly.sources["train"], rows)
    mixed = gradients(assembly.model, torch.stack(list(mean_losses(assembly, batch).values())).sum())
    added = {name: torch.zeros_like(gradient) for name, gradient in mixed.items()}
    for task in assembly.tasks:
        own = [DrawnRow(one.source, one.row, (task,)) for one in rows if task in one.tasks]
        alone = assembly.collator().from_sources(assembly.sources["train"], own)
        for name, gradient in gradients(assembly.model, mean_losses(assembly, alone)[task]).items():
            added[name] += gradient
    for name, gradient in mixed.items():
        torch.testing.assert_close(gradient, added[name], atol=1e-6, rtol=1e-5, msg=name)


def test_a_task_never_reaches_another_tasks_encoder_when_they_are_independent(job: Job) -> None:
    assembly = build(job, "independent")
    batch = assembly.collator().from_sources(assembly.sources["train"], drawn_rows(assembly))
    found = gradients(assembly.model, mean_losses(assembly, batch)["topic"])
    place = [next(iter(part)) for part in assembly.model.plan.trunks].index("topic")
    for name, gradient in found.items():
        reached = name.startswith((f"encoders.{place}.", "heads.task-topic."))
        assert reached or not gradient.any(), name


@pytest.mark.parametrize("overhead", [0, 16, 10**9])
@pytest.mark.parametrize("strategy", SHARED)
def test_chunks_and_padding_change_no_loss(job: Job, overhead: int, strategy: str) -> None:
    assembly = build(job, strategy)
    assembly.model.eval()
    rows = drawn_rows(assembly, 10)
    collator = assembly.collator()
    one_by_one = [collator.from_sources(assembly.sources["train"], [row]) for row in rows]
    cut = Collator(assembly.tasks, collator.pad_id, collator.uses_type_ids, overhead)
    batch = cut.from_sources(assembly.sources["train"], rows)
    with torch.inference_mode():
        losses = mean_losses(assembly, batch)
        for task in assembly.tasks:
            total, denominator = 0.0, 0.0
            for single in one_by_one:
                if task in single.targets:
                    outputs = assembly.model(single)[task]
                    total += float(assembly.tasks[task].loss(outputs, single.targets[task]))
                    denominator += assembly.tasks[task].loss_denominator(single.targets[task])
            assert float(losses[task]) == pytest.approx(total / denominator, abs=1e-5)


def test_shared_rows_pass_the_encoder_once_for_all_tasks(job: Job) -> None:
    assembly = build(job)
    rows = drawn_rows(assembly, 8)
    assert any(len(row.tasks) == 3 for row in rows)
    batch = assembly.collator().from_sources(assembly.sources["train"], rows)
    seen: list[int] = []
    assembly.model.trunks[0].register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    assembly.model(batch)
    assert sum(seen) == len(rows) == batch.rows
    assert len(seen) == len(batch.chunks)


def test_missing_cells_are_masked(job: Job) -> None:
    assembly = build(job)
    source = assembly.sources["train"][0]
    batch = assembly.collator().from_sources([source], drawn_rows(assembly, len(source)))
    for task in ("sentiment", "topic"):
        assert len(batch.targets[task]) == len(source.carries[task]) < len(source)


def test_parameters_are_counted_as_shared_and_own(job: Job) -> None:
    together = count_parameters(build(job).model)
    apart = count_parameters(build(job, "independent").model)
    encoder = together.shared["sentiment"]
    assert together.total == encoder + sum(together.own.values())
    assert apart.shared == {"sentiment": 0, "topic": 0, "entities": 0}
    assert apart.total == sum(apart.own.values()) == together.total + 2 * encoder


def test_task_names_that_are_module_attributes_work(job: Job) -> None:
    values = job()
    values["tasks"] = {"values": values["tasks"]["topic"], "type": values["tasks"]["sentiment"]}
    assembly = assemble(validate(values))
    batch = assembly.collator().from_sources(assembly.sources["train"], drawn_rows(assembly))
    assert set(assembly.model(batch)) == {"values", "type"}


def test_bf16_passes_stay_close_to_full_precision(job: Job) -> None:
    assembly = build(job)
    assembly.model.eval()
    batch = assembly.collator().from_sources(assembly.sources["train"], drawn_rows(assembly))
    with torch.inference_mode():
        exact = assembly.model(batch)
        with torch.autocast("cpu", torch.bfloat16):
            rough = assembly.model(batch)
    for task, found in exact.items():
        assert rough[task].dtype == torch.float32
        torch.testing.assert_close(rough[task], found, atol=0.05, rtol=0.1)
