"""Modules of users add names; only a person has them imported, and every mistake is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from polytask import extensions
from polytask.balance import BALANCERS
from polytask.balance.balancer import BalanceOptions, Weighting
from polytask.config import Config, load_config, validate
from polytask.errors import ConfigError
from polytask.registry import Table
from polytask.schedule import SCHEDULES
from polytask.schedule.proportions import PROPORTIONS
from polytask.tasks import METRICS, TASKS, Metric, smaller_is_better
from polytask.tasks.regression import Regression

METHOD = """
from polytask.custom import BALANCERS, BalanceOptions
from pydantic import Field

@BALANCERS.register("{name}")
class Own(BalanceOptions):
    shape = "losses"
    power: float = Field(default=1.0, gt=0)
    def build(self, tasks):
        raise NotImplementedError
"""


def values(**more: Any) -> dict[str, Any]:
    rows = {"train": [{"text": "a", "label": "x"}]}
    return {"encoder": "e", "tasks": {"a": {"type": "classification", "data": rows}}, **more}


def write(path: Path, name: str = "own") -> None:
    path.write_text(METHOD.format(name=name), "utf-8")


def test_a_configuration_imports_what_it_names_before_it_is_checked(tmp_path: Path) -> None:
    write(tmp_path / "own_methods.py")
    config = validate(values(extensions="own_methods", balance={"method": "own", "power": 2}))
    assert (config.balance.method, config.balance.power) == ("own", 2.0)  # type: ignore[attr-defined]
    assert config.extensions == ("own_methods",)
    assert BALANCERS.extensions == {"own": "own_methods"}
    assert validate(json.loads(json.dumps(config.to_json()))) == config
    assert Config.model_validate(config.to_json()) == config


def test_a_module_beside_the_configuration_is_found_and_processes_find_it_too(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    (folder / "own_package").mkdir(parents=True)
    (folder / "own_package" / "__init__.py").write_text("", "utf-8")
    write(folder / "own_package" / "methods.py")
    (folder / "config.yaml").write_text(
        json.dumps(values(extensions=["own_package.methods"], balance={"method": "own"})), "utf-8"
    )
    load_config(folder / "config.yaml")
    import os

    assert os.environ[extensions.VARIABLE] == "own_package.methods"
    assert os.environ[extensions.FOLDERS] == str(folder)
    assert sys.path[-1] == str(folder)


def test_the_schema_and_the_messages_hold_a_name_at_once(tmp_path: Path) -> None:
    assert "'own'" not in json.dumps(Config.model_json_schema())
    write(tmp_path / "own_methods.py")
    extensions.import_extensions(["own_methods"])
    schema = Config.model_json_schema()
    assert schema["$defs"]["Own"]["properties"]["method"]["const"] == "own"
    assert "Own" in json.dumps(schema["properties"]["balance"])
    with pytest.raises(ConfigError, match=r"balance\.method: found 'onw'; accepted: .*own.*did you mean 'own'"):
        validate(values(balance={"method": "onw"}))
    with pytest.raises(
        ConfigError, match=r"balance\.powre: unknown key; accepted: method, power; did you mean 'power'"
    ):
        validate(values(balance={"method": "own", "powre": 1}))
    with pytest.raises(ConfigError, match=r"balance\.power: found -1; "):
        validate(values(balance={"method": "own", "power": -1}))


def test_names_of_functions_are_looked_up_too() -> None:
    with pytest.raises(ConfigError, match=r"schedule\.proportions: found 'halves'; .*uniform"):
        validate(values(schedule={"proportions": "halves"}))
    PROPORTIONS.register("halves", lambda sizes, dial: dict.fromkeys(sizes, 0.5))
    config = validate(values(schedule={"proportions": "halves"}))
    assert config.schedule.proportions == "halves"  # type: ignore[attr-defined]
    assert "halves" in json.dumps(Config.model_json_schema())


def test_what_cannot_be_imported_is_told_with_its_place(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"

    def message(module: str, text: str | None = None) -> str:
        if text is not None:
            (tmp_path / f"{module}.py").write_text(text, "utf-8")
        config.write_text(f"encoder: e\nextensions: [{module}]\n", "utf-8")
        with pytest.raises(ConfigError) as error:
            load_config(config)
        return str(error.value)

    place = f"{config}:2: extensions: "
    assert message("nowhere_at_all").startswith(f"{place}there is no module 'nowhere_at_all'")
    assert message("methods.py") == f"{place}found 'methods.py'; name the module, as `import` does: methods"
    assert "such as my_package.methods" in message("'../methods'")
    assert message("fails", "x = 1\n1 / 0\n") == (
        f"{place}fails cannot be imported: ZeroDivisionError: division by zero ({tmp_path / 'fails.py'}:2)"
    )
    assert f"({tmp_path / 'broken.py'}:1)" in message("broken", "def\n")
    assert "needs_more cannot be imported: ModuleNotFoundError: No module named 'nothing_like_it'" in message(
        "needs_more", "import nothing_like_it\n"
    )
    assert "is not a subclass of BalanceOptions" in message(
        "wrong", "from polytask.custom import BALANCERS\n@BALANCERS.register('w')\nclass W: pass\n"
    )


def test_a_file_that_has_the_name_of_an_installed_module_is_no_riddle(tmp_path: Path) -> None:
    write(tmp_path / "this.py")
    with pytest.raises(ConfigError, match=r"Python finds another module of this name .* rename yours"):
        extensions.import_extensions(["this"])


def test_an_entry_that_is_no_list_of_names_is_told_by_the_check() -> None:
    with pytest.raises(ConfigError, match=r"extensions.*: found 3"):
        validate(values(extensions=3))


def test_the_variable_names_extensions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "own_methods.py")
    monkeypatch.setenv(extensions.VARIABLE, " own_methods ,")
    assert validate(values(balance={"method": "own"})).balance.method == "own"


def test_installed_packages_declare_extensions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "own_methods.py")
    information = tmp_path / "own-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n", "utf-8")
    (information / "entry_points.txt").write_text("[polytask.extensions]\nown = own_methods\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    extensions._import_installed.cache_clear()
    try:
        assert validate(values(balance={"method": "own"})).balance.method == "own"
    finally:
        extensions._import_installed.cache_clear()


def test_a_configuration_in_a_folder_imports_nothing(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text("raise AssertionError('it ran')", "utf-8")
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(values(extensions=["planted"])), "utf-8")
    with pytest.raises(ConfigError, match=r"needs the extension planted, .* --extension planted"):
        load_config(config, trusted=False)
    assert "planted" not in sys.modules


def test_a_name_that_is_taken_is_refused_and_a_cell_that_runs_again_is_not() -> None:
    def row() -> type[BalanceOptions]:
        class Own(BalanceOptions):
            shape = "losses"

            def build(self, tasks: tuple[str, ...]) -> Weighting:
                raise NotImplementedError

        return Own

    first, again = row(), row()
    BALANCERS.register("own", first)
    BALANCERS.register("own", again)
    assert BALANCERS["own"] is again
    assert again().method == "own"  # type: ignore[call-arg]
    with pytest.raises(
        ConfigError, match=r"balancer 'sum': .*Own cannot register it, since polytask.*SumOptions has this name already"
    ):
        BALANCERS.register("sum", row())
    for name in ("", "1st", "a b", "a.b"):
        with pytest.raises(ConfigError, match="a name is a letter"):
            BALANCERS.register(name, row())


def test_a_row_that_lacks_what_its_table_needs_is_refused() -> None:
    class NoBuild(BalanceOptions):
        shape = "losses"

    with pytest.raises(ConfigError, match=r"balancer 'own': .*NoBuild lacks build"):
        BALANCERS.register("own", NoBuild)
    with pytest.raises(ConfigError, match="expected a function"):
        PROPORTIONS.register("own", 3)
    with pytest.raises(ConfigError, match="expected a Metric"):
        METRICS["row"].register("own", len)


def test_a_type_has_the_options_of_its_parent_under_its_own_name() -> None:
    TASKS.register("stars")(type("Stars", (Regression,), {"__module__": __name__}))
    config = validate(values(tasks={"a": {"type": "stars", "data": {"train": [{"text": "a", "score": 1}]}}}))
    assert config.tasks["a"].type == "stars"
    assert Regression.Options.model_fields["type"].annotation.__args__ == ("regression",)  # type: ignore[union-attr]
    assert TASKS["stars"].type_name == "stars"
    assert TASKS.extensions["stars"] == __name__


def test_a_metric_is_one_value() -> None:
    def far(truth: list[float], found: list[float]) -> float | None:
        return max(abs(a - b) for a, b in zip(truth, found, strict=True)) if truth else None

    METRICS["row"].register("far", types=("regression",), smaller_is_better=True)(far)
    assert smaller_is_better("far")
    assert not smaller_is_better("pearson")
    options = validate(
        values(tasks={"a": {"type": "regression", "data": {"train": [{"text": "a", "score": 1}]}, "metric": "far"}})
    ).tasks["a"]
    task = Regression("a", options, 0.0, 1.0)  # type: ignore[arg-type]
    assert task.metrics == ("far", "pearson", "spearman", "mae")
    with pytest.raises(ConfigError, match=r"tasks\.a\.metric: found 'far'"):
        validate(values(tasks={"a": {"type": "classification", "metric": "far", "data": {"train": []}}}))
    with pytest.raises(ConfigError, match="whether less is better differs"):
        METRICS["word"].register("far", Metric(far))


def test_a_metric_without_a_resampled_form_is_that_of_repeated_rows() -> None:
    import numpy as np

    plain, fast = Metric(METRICS["row"]["mae"].function), METRICS["row"]["mae"]
    truth, found = [1.0, 2.0, 5.0], [1.5, 2.0, 4.0]
    block = np.array([[1, 1, 1], [0, 3, 0], [2, 0, 1], [0, 0, 0]])
    np.testing.assert_allclose(plain.over_weights(truth, found)(block), fast.over_weights(truth, found)(block))


def test_every_table_is_known_by_what_its_rows_are() -> None:
    from polytask.registry import TABLES

    assert {"balancer", "schedule", "sharing strategy", "task type", "head", "metric of rows"} <= set(TABLES)
    assert all(isinstance(table, Table) for table in TABLES.values())
    assert len(SCHEDULES) == 3


def test_options_may_be_given_as_objects_of_registered_classes(tmp_path: Path) -> None:
    write(tmp_path / "own_methods.py")
    extensions.import_extensions(["own_methods"])
    options = BALANCERS["own"].model_validate({"power": 3})
    config = validate(values(balance=options))
    assert config.balance is options
    assert config.to_json()["balance"] == {"method": "own", "power": 3.0}


def test_a_table_without_rows_accepts_nothing() -> None:
    from typing import Annotated

    from polytask.options import Options
    from polytask.registry import NameOf

    class Naming(Options):
        name: Annotated[str, NameOf({})]

    with pytest.raises(ValueError, match="found 'x'; accepted: nothing"):
        Naming(name="x")
    with pytest.raises(ConfigError, match=r"tasks\.a\.head: found 'tall'"):
        validate(values(tasks={"a": {"type": "classification", "head": "tall", "data": {"train": []}}}))


def test_poolings_heads_and_rules_are_tables_too() -> None:
    import torch
    from transformers import BertConfig

    from polytask.heads import POOLINGS
    from polytask.model.heads import build_head
    from polytask.terms import HeadSpec

    POOLINGS.register("end", lambda states, mask: states[torch.arange(len(states)), mask.sum(1) - 1])
    config = BertConfig(hidden_size=4, num_attention_heads=1)
    head = build_head(HeadSpec("row", 2, "end", 0.0), config)
    states, mask = torch.randn(2, 3, 4), torch.tensor([[1, 1, 0], [1, 1, 1]])
    pooled = head.pool_everywhere(states, mask)
    torch.testing.assert_close(pooled, torch.stack([states[0, 1], states[1, 2]]))
    task = {"type": "classification", "pooling": "end", "data": {"train": []}}
    assert validate(values(tasks={"a": task})).tasks["a"].pooling == "end"
    with pytest.raises(
        ConfigError, match=r"tasks\.a\.pooling: found 'lst'; accepted: auto, cls, end, last, mean; .*'last'"
    ):
        validate(values(tasks={"a": {**task, "pooling": "lst"}}))
