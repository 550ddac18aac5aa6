"""Arms of a grid and of a file: what they are called, what they set, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.comparison.arms import ARMS, build_arms
from polytask.comparison.compare import requested_arms
from polytask.comparison.grid import ArmsFile, axes_of, grid_arms, read_arms_file, read_axes, written
from polytask.config import validate
from polytask.config.document import parse
from polytask.errors import ConfigError
from polytask.options import is_name


def arms_of(*texts: str) -> dict[str, list[str]]:
    return grid_arms(read_axes(texts))


def test_a_grid_has_an_arm_for_every_combination_named_after_its_values() -> None:
    assert arms_of("sharing.strategy=global,partial", "balance.method=sum,aligned_mtl") == {
        "global-sum": ["sharing.strategy=global", "balance.method=sum"],
        "global-aligned_mtl": ["sharing.strategy=global", "balance.method=aligned_mtl"],
        "partial-sum": ["sharing.strategy=partial", "balance.method=sum"],
        "partial-aligned_mtl": ["sharing.strategy=partial", "balance.method=aligned_mtl"],
    }
    assert grid_arms([]) == {}


def test_numbers_and_built_in_names_are_called_with_their_option() -> None:
    assert list(arms_of("train.learning_rate=1e-5, 3e-5")) == ["learning_rate-1e-5", "learning_rate-3e-5"]
    # `global` is an arm of its own, so that the whole axis is told apart from it.
    assert list(arms_of("sharing.strategy=global,mmoe")) == ["strategy-global", "strategy-mmoe"]
    assert list(arms_of("train.best_of_each_task=true,false")) == ["best_of_each_task-true", "best_of_each_task-false"]
    found = arms_of("sharing={strategy: partial, shared_layers: 1},{strategy: mmoe}")
    assert list(found) == ["partial-shared_layers-1", "mmoe"]
    found = arms_of("sharing={strategy: partial, shared_layers: 1},{strategy: global}")
    assert list(found) == ["sharing-strategy_partial_shared_layers_1", "sharing-strategy_global"]


def test_commas_inside_of_brackets_and_quotes_are_part_of_a_value() -> None:
    ((name, overrides),) = arms_of("sharing={strategy: partial, layers: {a: [[x, y]]}}").items()
    assert overrides == ["sharing={strategy: partial, layers: {a: [[x, y]]}}"]
    assert name == "partial-a-x_y"
    assert read_axes(["""tasks.a.separator=",",";" """])[0].values == ('","', '";"')


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["sharing.strategy"], "expected a path and its values, such as sharing.strategy=global"),
        (["=a,b"], "expected a path and its values"),
        (["a..b=1"], "expected a path and its values"),
        (["a=1,,2"], "--grid a=1,,2: a value is empty"),
        (["a="], "a value is empty"),
        (["a={b: 1,c"], r"--grid a=\{b: 1,c: \} is missing"),
        (["a='x,y"], "' is missing"),
        (["a=1,1"], "--grid a: found 1, 1; list a value once"),
        (["a=1", "a=2"], "--grid a: found twice"),
        (["a=" + ",".join(map(str, range(15))), "b=" + ",".join(map(str, range(15)))], "found 225 combinations"),
        (["a=x.y,x/y"], "two combinations would have the same name; name them yourself with --arms-file"),
        (["a=" + "x" * 200], "cannot be the name of an arm"),
    ],
)
def test_what_is_no_grid_is_refused(texts: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        arms_of(*texts)


def test_a_grid_in_python_values_reads_back_as_them() -> None:
    axes = axes_of(
        {"sharing": [{"strategy": "partial", "shared_layers": 1}, {"strategy": "global"}], "max_tokens": [8]}
    )
    arms = grid_arms(axes)
    assert len(arms) == 2
    assert all(is_name(name) for name in arms)
    with pytest.raises(ConfigError, match="grid: sharing.strategy: found 'global'; expected a list of values"):
        axes_of({"sharing.strategy": "global"})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12),
        lambda inner: st.lists(inner, max_size=3), max_leaves=4,
    )
)  # fmt: skip
def test_a_value_reads_back_from_an_override_as_it_was(value: Any) -> None:
    if not any(mark in str(value) for mark in "\x85\u2028\u2029\ufeff\ufffe\uffff"):
        assert parse(written(value), "")[0] == value


def test_a_file_of_arms_gives_options_by_name(tmp_path: Path) -> None:
    path = tmp_path / "arms.yaml"
    path.write_text(
        "global:\nlow:\n  sharing: {strategy: partial, shared_layers: 3}\n  train.learning_rate: 1e-5\n"
        "sum: {balance.method: sum}\n",
        "utf-8",
    )
    assert read_arms_file(path) == ArmsFile(
        ("global",),
        {
            "low": ['sharing={"strategy": "partial", "shared_layers": 3}', "train.learning_rate=1e-05"],
            "sum": ["balance.method=sum"],
        },
    )
    assert requested_arms(None, {"own": ["a=1"]}, ["x.y=p,q"], path) == (
        ["single", "global"],
        {"own": ["a=1"], "p": ["x.y=p"], "q": ["x.y=q"], **read_arms_file(path).named},
    )
    assert requested_arms(["config"], {}, None, path)[0] == ["config", "global"]
    assert requested_arms(None, {"own": ["a=1"]}) == (["single", "global", "config"], {"own": ["a=1"]})
    with pytest.raises(ConfigError, match="--arm and --arms-file: both define an arm 'low'"):
        requested_arms(None, {"low": ["a=1"]}, None, path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- low\n", "arms.yaml: expected a mapping from arms"),
        ("global: {max_tokens: 9}\n", "arms.yaml:1: global is a built-in arm"),
        ("\nlow:\n", "arms.yaml:2: low changes nothing, and is not a built-in arm"),
        ("a/b: {x: 1}\n", "arms.yaml:1: found 'a/b'; an arm needs a name"),
        ("low: [x]\n", r"arms.yaml:1: found \['x'\]; expected the options that the arm sets"),
        ("low:\n  a..b: 1\n", "arms.yaml:2: found 'a..b'; expected a path"),
        ("low: {x: 1\n", "arms.yaml:"),
    ],
)
def test_what_is_no_file_of_arms_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "arms.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=told):
        read_arms_file(path)
    with pytest.raises(ConfigError, match="--arms-file .*nowhere.yaml: cannot be read"):
        read_arms_file(tmp_path / "nowhere.yaml")


def test_another_strategy_leaves_behind_what_it_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "encoder": "x",
        "tasks": {name: {"type": "classification", "data": {"train": "t", "dev": "d"}} for name in ("a", "b")},
        "sharing": {"strategy": "partial", "shared_layers": 3, "share_heads": []},
        "balance": {"method": "gradnorm", "alpha": 1.0},
    }
    grid = arms_of("sharing.strategy=global,partial", "balance.method=sum,gradnorm")
    monkeypatch.setitem(ARMS, "single", ARMS["config"])  # which needs no budget
    arms = build_arms(validate(values), None, ["config"], grid)  # type: ignore[arg-type]
    found = {name: arm.parts[name] for name, arm in arms.items() if name in grid}
    assert found["global-sum"].sharing.model_dump(exclude_unset=True) == {"strategy": "global", "share_heads": ()}
    assert getattr(found["partial-gradnorm"].sharing, "shared_layers", None) == 3
    assert getattr(found["global-gradnorm"].balance, "alpha", None) == 1.0
    assert arms["global-sum"].overrides == ("sharing.strategy=global", "balance.method=sum")
    assert "global-sum" not in ARMS
