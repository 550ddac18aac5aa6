"""The graph computes what the model does: for every family, every sharing and cascades, at any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from families import CONFIGS, INSTALLED
from polytask.exports.graph import GraphFiles, draw
from polytask.model.family import FAMILIES
from polytask.model.multitask import MultiTaskModel
from polytask.sharing import SHARING
from polytask.terms import Activation, HeadSpec, ReadOutputs
from stacks import HEADS, MIXTURES, TREES, batch, chunk, length_of, stack, takes_types

# One drawing takes seconds, so each case covers a family, a way to share, and a cascade (who reads whom).
CHAIN = {"c": ["a"], "b": ["c"], "d": ["b"]}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, list[str]], Activation]] = {
    "bert, global": ("bert", TREES["global"], {"b": ["d"], "d": ["c"]}, "softmax"),
    "roberta, branches": ("roberta", TREES["branches"], {}, "softmax"),
    "xlm-roberta, independent": ("xlm-roberta", TREES["independent"], CHAIN, "softmax"),
    "electra, lora on two trunks": ("electra", TREES["layers"] | {"kind": "lora"}, CHAIN, "sigmoid"),
    "distilbert, adapter": ("distilbert", TREES["branches"] | {"kind": "adapter"}, {"c": ["a"]}, "identity"),
    "mpnet, cross_stitch": ("mpnet", MIXTURES["cross_stitch"], {}, "softmax"),
    "modernbert, soft": ("modernbert", TREES["branches"] | {"kind": "soft"}, {"d": ["b"]}, "softmax"),
    "deberta-v2, branches": ("deberta-v2", TREES["branches"], {"b": ["a", "c"], "d": ["a", "b"]}, "softmax"),
    "albert, global": ("albert", TREES["global"], {"b": ["d"]}, "softmax"),
    "gemma3_text, global": ("gemma3_text", TREES["global"], {"c": ["a"]}, "softmax"),
    "bert, mmoe": ("bert", MIXTURES["mmoe"], {"b": ["a"]}, "softmax"),
    "bert, ple": ("bert", MIXTURES["ple"], {}, "softmax"),
    "bert, shared heads": ("bert", TREES["branches"] | {"share_heads": (("b", "d"),)}, {}, "softmax"),
}
CASES |= {
    f"{family}, global": (family, TREES["global"], {"c": ["a"]}, "softmax")
    for family in FAMILIES
    if family not in {case[0] for case in CASES.values()}
}
# The others are drawn with the slow tests.
QUICK = ("gemma3_text, global", "bert, ple")
EACH_CASE = [pytest.param(case, marks=[] if case in QUICK else pytest.mark.slow) for case in CASES]
# Never the two rows of seven tokens that a graph is drawn with; a single row, and rows of very different lengths.
SIZES: tuple[tuple[list[int], int | None], ...] = (([0], None), ([8], 31), ([1, 5, 7], None), ([2, 3, 4, 6, 9], None))


def specs(family: str, reads: Mapping[str, Sequence[str]], activation: Activation) -> dict[str, HeadSpec]:
    asked = {**HEADS, "c": replace(HEADS["c"], pooling="last")} if FAMILIES[family].decoder else HEADS
    return {
        task: replace(
            spec, reads=tuple(ReadOutputs(one, HEADS[one].size, activation, True) for one in reads.get(task, ()))
        )
        for task, spec in asked.items()
    }


def outputs_of(
    model: MultiTaskModel, session: Any, family: str, rows: list[int], width: int | None
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    given = chunk(dict.fromkeys("abcd", rows), width=width, type_ids=takes_types(family))
    feed = {"input_ids": given.ids.numpy(), "attention_mask": given.mask.numpy()}
    if given.type_ids is not None:
        feed["token_type_ids"] = given.type_ids.numpy()
    assert {one.name for one in session.get_inputs()} == set(feed)
    made = dict(zip("abcd", session.run([f"logits.{task}" for task in "abcd"], feed), strict=True))
    with torch.inference_mode():
        expected = model(batch(given))
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for task in "abcd":
        words = given.tasks[task].words
        outputs = torch.from_numpy(made[task])
        found[task] = expected[task], outputs if words is None else outputs[words[0], words[1]]
    return found


def test_every_family_and_every_way_to_share_is_among_the_cases() -> None:
    drawn = {family for family, *_ in CASES.values()}
    assert drawn == set(FAMILIES)
    assert set(CONFIGS) == set(INSTALLED)
    kinds = {options.get("kind", "copy") for _, options, *_ in CASES.values()}
    assert kinds == {"copy", "soft", "lora", "adapter"}
    strategies = {options["strategy"] for _, options, *_ in CASES.values()}
    # The adaptive ones end as a partial tree.
    assert strategies == set(SHARING) - {"adaptive", "from_affinity"}


# A model, its graph, and what is known of it, by the name of the case.
Drawn = Callable[[str], tuple[MultiTaskModel, Path, GraphFiles]]


@pytest.fixture(scope="module", autouse=True)
def translated_once() -> Iterator[None]:
    """Let torch translate a model once, which takes seconds: it is written as often as it is drawn."""
    export = torch.onnx.export
    known: dict[MultiTaskModel, Any] = {}

    def export_once(graph: Any, *given: Any, **options: Any) -> Any:
        if graph.model not in known:
            known[graph.model] = export(graph, *given, **options)
        return known[graph.model]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", export_once)
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """The model of a case and its graph in a folder of its own, drawn when it is first asked for."""

    @cache
    def one(case: str) -> tuple[MultiTaskModel, Path, GraphFiles]:
        family, options, reads, activation = CASES[case]
        model = stack(options, family, seed=1, specs=specs(family, reads, activation))
        before = [encoder.model.config._attn_implementation for encoder in model.trunks]
        path = tmp_path_factory.mktemp("graph") / "model.onnx"
        files = draw(model, path)
        assert [encoder.model.config._attn_implementation for encoder in model.trunks] == before
        return model, path, files

    return one


@pytest.mark.parametrize("case", EACH_CASE)
def test_the_graph_gives_the_outputs_of_the_model_at_other_sizes(case: str, drawn: Drawn) -> None:
    family = CASES[case][0]
    model, path, _ = drawn(case)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for rows, width in SIZES:
        for task, (expected, found) in outputs_of(model, session, family, rows, width).items():
            assert found.shape == expected.shape, task
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5, msg=f"{task} {rows}")


def test_the_graph_is_whole_plain_onnx_and_tells_nothing_of_this_machine(drawn: Drawn) -> None:
    _, path, files = drawn("bert, global")
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    assert {one.domain for one in graph.opset_import} == {""}
    shapes = {one.name: [axis.dim_param or axis.dim_value for axis in one.type.tensor_type.shape.dim]
              for one in (*graph.graph.input, *graph.graph.output)}  # fmt: skip
    assert shapes["input_ids"] == shapes["attention_mask"] == shapes["token_type_ids"] == ["rows", "tokens"]
    assert shapes["logits.a"] == ["rows", 5]
    assert shapes["logits.b"] == ["rows", "tokens", 4]
    assert files.outputs == {task: f"logits.{task}" for task in "abcd"}
    content = path.read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content


def test_parts_that_are_shared_stand_in_the_graph_once(drawn: Drawn) -> None:
    attentions: dict[str, int] = {}
    for case in ("bert, global", "distilbert, adapter"):
        graph = onnx.load(drawn(case)[1]).graph
        _, _, reads, activation = CASES[case]  # a task that is read answers with an activation of its own
        read = sum(map(len, reads.values())) if activation == "softmax" else 0
        attentions[case] = sum(node.op_type == "Softmax" for node in graph.node) - read
    assert attentions == {"bert, global": 3, "distilbert, adapter": 3}  # one attention a layer


def test_large_weights_lie_beside_the_graph(drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from polytask.exports import graph

    monkeypatch.setattr(graph, "MOST_BYTES_INSIDE", 1000)
    model = drawn("bert, global")[0]
    draw(model, tmp_path / "model.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    expected, found = outputs_of(model, session, "bert", [3], length_of(3))["a"]
    assert np.abs(expected.numpy() - found.numpy()).max() < 1e-5
