"""What a configuration says of sharing: every strategy is declared once, and mistakes name line, place and mend."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from polytask.config import Config, load_config, validate
from polytask.errors import ConfigError
from polytask.sharing import SHARING

HEAD = """\
encoder: some/encoder
tasks:
  a: {type: classification, data: &rows {train: x.jsonl}}
  b: {type: classification, data: *rows}
"""
HEADS = {"share_heads": [["a", "b"]]}
LORA = {"kind": "lora", "rank": 4, "alpha": 8, "targets": ["query", "value"], "base": "frozen"}
BRANCHES = [{"from_layer": 2, "groups": [["a", "b"]]}, {"from_layer": 4, "groups": [["a"], ["b"]]}]
MEASURED = {
    "interval": 5, "threshold": -0.2, "patience": 2, "smoothing": 0.5, "max_parameters": 1.5,
    "merge": True, "merge_similarity": 0.3, "merge_distance": 0.1,
}  # fmt: skip
# Every strategy with the least that it asks for, and with all that it reads.
VALID: dict[str, list[dict[str, Any]]] = {
    "global": [{}, HEADS],
    "independent": [{}, {**LORA, **HEADS}, {"kind": "soft", "strength": 0.5}, {"kind": "adapter", "rank": 16}],
    "partial": [
        {"shared_layers": 0},
        {"branches": BRANCHES, **LORA, **HEADS},
        {"layers": {"embeddings": [["a", "b"]], "1-3": [["a", "b"]], "4": [["a"], ["b"]]}, "kind": "soft"},
    ],
    "adaptive": [
        {},
        {"kind": "lora", "rank": 4, "start": {"strategy": "partial", "shared_layers": 3}, **HEADS},
        {"kind": "soft", "start": {"strategy": "independent"}, **MEASURED},
        {"start": {"strategy": "partial", "branches": BRANCHES}},
        {"start": {"strategy": "from_affinity", "file": "/there/affinity.json", "max_layers": 9}},
    ],
    "from_affinity": [{"file": "/there/affinity.json"}, {"file": "/there/affinity.json", "max_layers": 9, **LORA}],
    "mmoe": [{}, {"from_layer": 3, "experts": 2, **HEADS}],
    "ple": [{}, {"from_layer": 3, "shared_experts": 2, "task_experts": 0}],
    "cross_stitch": [{}, {"from_layer": 3, "own_weight": 0.8, "rate": 10}],
}
EACH = [({"strategy": name, **options}) for name, found in VALID.items() for options in found]


def config_of(sharing: Any) -> dict[str, Any]:
    rows = {"train": [{"text": "x", "label": None}]}
    tasks = {name: {"type": "classification", "data": rows} for name in "ab"}
    return {"encoder": "e", "tasks": tasks, "sharing": sharing}


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(Config.model_json_schema())


# Every strategy


def test_the_schema_holds_every_strategy_with_its_options(schema: jsonschema.Draft202012Validator) -> None:
    choice = schema.schema["properties"]["sharing"]
    assert set(choice["discriminator"]["mapping"]) == set(SHARING) == set(VALID)
    assert len(choice["oneOf"]) == 8
    for name, reference in choice["discriminator"]["mapping"].items():
        found = schema.schema["$defs"][reference.rpartition("/")[2]]
        assert set(found["properties"]) == set(SHARING[name].model_fields)
        assert found["properties"]["strategy"]["const"] == name
        described = {key for key, value in found["properties"].items() if "description" in value}
        assert described == set(found["properties"]) - {"strategy"}


@pytest.mark.parametrize("sharing", EACH, ids=str)
def test_every_strategy_is_accepted_by_checker_and_schema_and_reads_back_equal(
    sharing: dict[str, Any], schema: jsonschema.Draft202012Validator
) -> None:
    schema.validate(config_of(sharing))
    config = validate(config_of(sharing))
    written = json.loads(json.dumps(config.to_json()))
    schema.validate(written)
    again = validate(written)
    assert again == config
    assert again.to_json() == written


@pytest.mark.parametrize("sharing", EACH, ids=str)
def test_all_options_that_were_given_are_written(sharing: dict[str, Any]) -> None:
    written = validate(config_of(sharing)).to_json()["sharing"]
    start = sharing.get("start", {})
    assert {key: value for key, value in written.items() if key in sharing and key != "start"} == {
        key: value for key, value in sharing.items() if key != "start"
    }
    assert {key: value for key, value in written.get("start", {}).items() if key in start} == start


def test_the_default_shares_everything() -> None:
    values = config_of(None)
    del values["sharing"]
    assert validate(values) == validate(config_of({"strategy": "global"}))


def test_a_file_of_affinities_is_relative_to_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    for prefix in ("", "strategy: adaptive\n  start:\n    "):
        path.write_text(HEAD + f"sharing:\n  {prefix}strategy: from_affinity\n")
        key = "sharing.start.file" if prefix else "sharing.file"
        sharing: Any = load_config(path, [f"{key}=sub/affinity.json"]).sharing
        assert (sharing.start if prefix else sharing).file == str(tmp_path / "sub/affinity.json")


# Mistakes


@pytest.mark.parametrize("wrong", [
    {"strategy": "globl"}, {}, 3, {"strategy": "global", "kind": "lora"}, {"strategy": "partial", "branches": []},
    {"strategy": "partial", "branches": [{"from_layer": 1}]}, {"strategy": "partial", "shared_layers": -1},
    {"strategy": "adaptive", "start": {"strategy": "mmoe"}}, {"strategy": "adaptive", "start": {}},
    {"strategy": "from_affinity"}, {"strategy": "mmoe", "experts": 0}, {"strategy": "ple", "experts": 2},
    {"strategy": "cross_stitch", "own_weight": 0}, {"strategy": "independent", "kind": "prefix"},
    {"strategy": "independent", "share_heads": ["a"]},
], ids=str)  # fmt: skip
def test_schema_and_checker_refuse_the_same(wrong: Any, schema: jsonschema.Draft202012Validator) -> None:
    assert not schema.is_valid(config_of(wrong))
    with pytest.raises(ConfigError):
        validate(config_of(wrong))


ALL = "adaptive, cross_stitch, from_affinity, global, independent, mmoe, partial, ple"
KEYS = ", ".join(sorted(SHARING["adaptive"].model_fields))
MISTAKES: dict[str, tuple[str, list[str]]] = {
    "an unknown strategy": (
        "sharing: {strategy: globl}",
        [f"run.yaml:5: sharing.strategy: found 'globl'; accepted: {ALL}; did you mean 'global'?"],
    ),
    "a strategy that is no name": (
        "sharing:\n  strategy: [global]",
        [f"run.yaml:6: sharing.strategy: found a list; accepted: {ALL}"],
    ),
    "an empty strategy": (
        "sharing:\n  strategy:",
        [f"run.yaml:6: sharing.strategy: found nothing; accepted: {ALL}"],
    ),
    "a missing strategy": (
        "sharing:\n  shared_layers: 3",
        [
            "run.yaml:5: sharing.strategy: missing; accepted: global, independent, partial, adaptive, from_affinity, "
            "mmoe, ple, cross_stitch"
        ],
    ),
    "a misspelt strategy": (
        "sharing:\n  stratgy: global\n  start: 1",
        ["run.yaml:6: sharing.stratgy: unknown key; accepted: strategy; did you mean 'strategy'?"],
    ),
    "no mapping": ("sharing: global", [
        "run.yaml:5: sharing: found 'global'; expected keys with values; write `sharing: {strategy: global}`, or --set "
        "sharing.strategy=global"
    ]),
    "nothing": ("sharing:", ["run.yaml:5: sharing: found nothing; expected keys with values"]),
    "another strategy's key": (
        "sharing:\n  strategy: global\n  shared_layers: 3",
        [
            "run.yaml:7: sharing.shared_layers: unknown key; accepted: share_heads, strategy; did you mean "
            "'share_heads'?"
        ],
    ),
    "a key of the mixtures": (
        "sharing:\n  strategy: mmoe\n  expert: 3",
        [
            "run.yaml:7: sharing.expert: unknown key; accepted: experts, from_layer, share_heads, strategy; did you "
            "mean 'experts'?"
        ],
    ),
    "a key of a branch": (
        "sharing:\n  strategy: partial\n  branches:\n    - {from_layer: 2, groups: [[a], [b]]}\n    - from_layer: 3\n"
        "      groups: [[a], [b]]\n      layer: 3",
        [
            "run.yaml:11: sharing.branches.1.layer: unknown key; accepted: from_layer, groups; did you mean "
            "'from_layer'?"
        ],
    ),
    "a branch without groups": (
        "sharing:\n  strategy: partial\n  branches:\n    - {from_layer: 2}",
        ["run.yaml:8: sharing.branches.0.groups: missing, and it has no default"],
    ),
    "no branches": (
        "sharing: {strategy: partial, branches: []}",
        ["run.yaml:5: sharing.branches: found 0 items; expected at least 1"],
    ),
    "branches that are no list": (
        "sharing:\n  strategy: partial\n  branches: {from_layer: 2, groups: [[a], [b]]}",
        ["run.yaml:7: sharing.branches: found a mapping; expected a list"],
    ),
    "a branch that is no mapping": (
        "sharing:\n  strategy: partial\n  branches:\n    - [a]\n    - [b]",
        [
            "run.yaml:8: sharing.branches.0: found a list; expected keys with values",
            "run.yaml:9: sharing.branches.1: found a list; expected keys with values",
        ],
    ),
    "a group that is no list": (
        "sharing:\n  strategy: partial\n  branches:\n    - from_layer: 2\n      groups:\n      - [a]\n      - b",
        ["run.yaml:11: sharing.branches.0.groups.1: found 'b'; expected a list"],
    ),
    "a task that is a number": (
        "sharing:\n  strategy: partial\n  layers:\n    1-2: [[a, 3]]",
        ["run.yaml:8: sharing.layers.1-2.0.1: found 3; expected text (put it in quotes)"],
    ),
    "layers that are a list": (
        "sharing:\n  strategy: partial\n  layers: [1, 2]",
        ["run.yaml:7: sharing.layers: found a list; expected keys with values"],
    ),
    "a number that is text": (
        "sharing:\n  strategy: partial\n  shared_layers: many",
        ["run.yaml:7: sharing.shared_layers: found 'many'; expected a whole number"],
    ),
    "a layer below the first": (
        "sharing:\n  strategy: partial\n  branches: [{from_layer: 0, groups: [[a, b]]}]",
        ["run.yaml:7: sharing.branches.0.from_layer: found 0; should be greater than or equal to 1"],
    ),
    "no form": (
        "sharing:\n  strategy: partial\n  kind: lora",
        ["run.yaml:5: sharing: found none; expected one of shared_layers, branches, layers"],
    ),
    "an unknown kind": (
        "sharing:\n  strategy: independent\n  kind: lorra",
        ["run.yaml:7: sharing.kind: found 'lorra'; accepted: adapter, copy, lora, soft; did you mean 'lora'?"],
    ),
    "another kind's option": (
        "sharing:\n  strategy: independent\n  rank: 4",
        ["run.yaml:5: sharing: found 'rank' with kind 'copy'; only lora and adapter use it"],
    ),
    "a key of the adaptive policy": (
        "sharing:\n  strategy: adaptive\n  treshold: 0",
        [
            f"run.yaml:7: sharing.treshold: unknown key; accepted: {KEYS}; did you mean 'threshold'?"
        ],
    ),
    "numbers out of range": (
        "sharing:\n  strategy: adaptive\n  interval: 0\n  threshold: 2\n  smoothing: 1",
        [
            "run.yaml:7: sharing.interval: found 0; should be greater than or equal to 1",
            "run.yaml:8: sharing.threshold: found 2; should be less than or equal to 1",
            "run.yaml:9: sharing.smoothing: found 1; should be less than 1",
        ],
    ),
    "a starting plan without a strategy": (
        "sharing:\n  strategy: adaptive\n  start: {shared_layers: 2}",
        ["run.yaml:7: sharing.start.strategy: missing; accepted: global, independent, partial, from_affinity"],
    ),
    "a starting plan that is no tree": (
        "sharing:\n  strategy: adaptive\n  start:\n    strategy: mmoe",
        ["run.yaml:8: sharing.start.strategy: found 'mmoe'; accepted: from_affinity, global, independent, partial"],
    ),
    "a key of the starting plan": (
        "sharing:\n  strategy: adaptive\n  start:\n    strategy: partial\n    shared_layer: 2\n    shared_layers: 2",
        [
            "run.yaml:9: sharing.start.shared_layer: unknown key; accepted: alpha, base, branches, kind, layers, rank, "
            "share_heads, shared_layers, strategy, strength, targets; did you mean 'shared_layers'?"
        ],
    ),
    "a key of a branch of the starting plan": (
        "sharing:\n  strategy: adaptive\n  start:\n    strategy: partial\n    branches:\n"
        "      - {from_layer: 2, groups: [[a], [b]], grops: 1}",
        [
            "run.yaml:10: sharing.start.branches.0.grops: unknown key; accepted: from_layer, groups; did you mean "
            "'groups'?"
        ],
    ),
    "a kind in the starting plan": (
        "sharing:\n  strategy: adaptive\n  start:\n    strategy: independent\n    kind: lora",
        [
            "run.yaml:7: sharing.start: found 'kind' in the starting plan; put it next to `strategy: adaptive`"
        ],
    ),
    "no file": (
        "sharing:\n  strategy: from_affinity",
        ["run.yaml:5: sharing.file: missing, and it has no default"],
    ),
    "heads that are no groups": (
        "sharing:\n  strategy: ple\n  share_heads: [a, b]",
        [
            "run.yaml:7: sharing.share_heads.0: found 'a'; expected a list",
            "run.yaml:7: sharing.share_heads.1: found 'b'; expected a list",
        ],
    ),
}  # fmt: skip


def complaints(tmp_path: Path, text: str, overrides: Sequence[str] = ()) -> list[str]:
    path = tmp_path / "run.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return re.sub(r"\S*/run\.yaml", "run.yaml", str(caught.value)).splitlines()


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_says_line_place_what_was_found_and_what_is_accepted(tmp_path: Path, name: str) -> None:
    written, expected = MISTAKES[name]
    assert complaints(tmp_path, HEAD + written + "\n") == expected


def test_overrides_are_checked_alike(tmp_path: Path) -> None:
    text = HEAD + "sharing: {strategy: adaptive}\n"
    assert complaints(tmp_path, text, ["sharing.start={strategy: partial, shared_layer: 1}"]) == [
        "--set sharing.start: sharing.start.shared_layer: unknown key; accepted: alpha, base, branches, kind, layers, "
        "rank, share_heads, shared_layers, strategy, strength, targets; did you mean 'shared_layers'?"
    ]
    changed = load_config(tmp_path / "run.yaml", ["sharing={strategy: partial, shared_layers: 4}"])
    assert changed.sharing.strategy == "partial"
