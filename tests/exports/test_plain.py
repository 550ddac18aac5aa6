"""A task as a plain Hugging Face model computes what the joint model computes, in every family."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from families import CONFIGS, LAYERED
from plain_models import bundle
from polytask.artifact.bundle import Bundle
from polytask.exports.plain import averages, encoder_obstacle, plain_model
from polytask.model.family import FAMILIES
from polytask.tasks import head_specs
from stacks import TREES, batch, chunk, stack, takes_types

READS = {"a": [0, 2, 5], "b": [0, 1, 2, 5], "c": [1, 2], "d": [5]}
SHARINGS: dict[str, dict[str, Any]] = {
    **TREES,
    "lora": {**TREES["branches"], "kind": "lora", "rank": 4},
    "soft": {"strategy": "partial", "shared_layers": 1, "kind": "soft"},
}


# Those whose own classes read the first token; T5Gemma's hold a decoder, those of decoders another head.
READING_FIRST = [family for family in CONFIGS if FAMILIES[family].head.poolings]


def require_equal(found: Bundle, family: str) -> None:
    given = chunk(READS, type_ids=takes_types(family))
    types = {} if given.type_ids is None else {"token_type_ids": given.type_ids}
    with torch.no_grad():
        joint = found.model(batch(given))
        for name, task in found.tasks.items():
            plain = plain_model(found, name)
            assert plain.config._attn_implementation != "polytask_sdpa"
            logits = plain(input_ids=given.ids, attention_mask=given.mask, **types).logits
            rows = given.tasks[name]
            picked = logits[rows.rows] if rows.words is None else logits[rows.words[0], rows.words[1]]
            factor, summand = task.unit
            torch.testing.assert_close(picked, joint[name] * factor + summand, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_logits_are_the_joint_models_under_every_tree(sharing: str) -> None:
    require_equal(bundle(SHARINGS[sharing]), "bert")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("sharing", ["shared_layers", "lora"])
@pytest.mark.parametrize("family", READING_FIRST)
def test_logits_are_the_joint_models_in_every_family(family: str, sharing: str) -> None:
    require_equal(bundle(SHARINGS[sharing if family in LAYERED else "global"], family), family)


@pytest.mark.parametrize("family", sorted({"modernbert", "eurobert", "ultrabert"}.intersection(LAYERED)))
def test_some_can_average(family: str) -> None:
    require_equal(bundle(SHARINGS["lora"], family, pooling="mean"), family)


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_a_decoders_words_are_those_of_its_own_class(family: str) -> None:
    found = bundle(SHARINGS["lora"], family, pooling="last")
    require_equal(replace(found, tasks={name: found.tasks[name] for name in "bd"}), family)


@pytest.mark.parametrize(("family", "task", "told"), [
    ("t5gemma", "a", "no class for it on the encoder of t5_gemma_module alone"),
    ("gemma3_text", "b", "no class for it on the encoder of gemma3_text alone"),
    ("gemma3_text", "a", None),
])  # fmt: skip
def test_what_has_no_class_is_refused_and_the_rest_is_for_sentence_transformers(
    family: str, task: str, told: str | None
) -> None:
    found = bundle(SHARINGS["global"], family, pooling="last")
    obstacle = encoder_obstacle(found, task)
    assert (obstacle is None) == (told is None)
    assert told is None or told in str(obstacle)
    assert averages(found, "a")


def test_debertas_convolution_stands_beside_the_layers_again() -> None:
    for sharing in ("independent", "lora"):
        found = bundle(SHARINGS[sharing], "deberta-v2", conv_kernel_size=3)
        require_equal(found, "deberta-v2")
    assert any(".encoder.conv." in name for name in plain_model(found, "a").state_dict())


def test_a_shared_head_is_everyones() -> None:
    found = bundle(SHARINGS["global"])
    tasks = {**found.tasks, "d": replace(found.tasks["b"], name="d")}  # type: ignore[type-var]
    model = stack({"strategy": "global", "share_heads": [["b", "d"]]}, seed=2, specs=head_specs(tasks))
    require_equal(replace(found, model=model, tasks=tasks), "bert")
