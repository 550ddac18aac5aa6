"""polytask.testing finds a user's method that breaks a law, and passes one that keeps them."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from polytask.balance.balancer import BalanceOptions, Statistic, Weighting
from polytask.tasks import METRICS, Metric
from polytask.tasks.regression import Regression
from polytask.testing import BalancerContract, MetricContract, ScheduleContract, TaskContract

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text("utf-8")


def laws(contract: type, **attributes: Any) -> dict[str, AssertionError | None]:
    """Run a contract as pytest would: for each law the error that it raised."""
    held = type("TestIt", (contract,), attributes)()
    found: dict[str, AssertionError | None] = {}
    for name, _ in inspect.getmembers(contract, inspect.isfunction):
        if name.startswith("test_"):
            try:
                getattr(held, name)()
                found[name] = None
            except AssertionError as error:
                found[name] = error
    assert len(found) >= 4
    return found


def test_the_methods_of_the_page_keep_the_laws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = re.search(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert block is not None
    (tmp_path / "page_methods.py").write_text(block[1], "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("page_methods")
    within = METRICS["row"]["within_half"]
    found = [
        laws(BalancerContract, options=module.HardestOptions()),
        laws(ScheduleContract, options=module.TakingTurnsOptions()),
        laws(TaskContract, kind=module.Stars, cells=[1, 2.5, "4", None]),
        laws(MetricContract, metric=within, truth=[1.0, 2.0, 3.0], predictions=[1.2, 4.0, 3.0]),
    ]
    assert [{name: error for name, error in told.items() if error} for told in found] == [{}] * 4
    del sys.modules["page_methods"]


def test_a_forgetful_balancer_is_found() -> None:
    class Forgetful(Weighting):
        def __init__(self) -> None:
            self.steps = 0

        def weigh(self, statistic: Statistic) -> Any:
            self.steps += 1
            return np.full(len(statistic.losses), float(self.steps))

    class Options(BalanceOptions):
        shape: ClassVar[Any] = "losses"
        method: str = "forgetful"

        def build(self, tasks: tuple[str, ...]) -> Weighting:
            return Forgetful()

    found = laws(BalancerContract, options=Options())
    assert [name for name, error in found.items() if error] == ["test_a_resumed_balancer_goes_on_with_the_same_updates"]


def test_a_loss_that_is_a_mean_is_found() -> None:
    class Mean(Regression):
        def loss(self, outputs: Any, targets: Any) -> Any:
            return (outputs.squeeze(-1) - targets).square().mean()

    found = laws(TaskContract, kind=Mean, cells=[1, 2, 4, 8])
    assert [name for name, error in found.items() if error] == ["test_a_loss_over_parts_adds_up"]


def test_a_wrong_resampled_form_is_found() -> None:
    mae = METRICS["row"]["mae"]
    wrong = Metric(mae.function, smaller_is_better=True, resampled=METRICS["row"]["accuracy"].resampled)
    values: Mapping[str, Any] = {"truth": [1.0, 2.0, 5.0], "predictions": [1.0, 4.0, 5.5]}
    assert [name for name, error in laws(MetricContract, metric=wrong, **values).items() if error] == [
        "test_weights_of_rows_are_repeated_rows"
    ]
    assert set(laws(MetricContract, metric=mae, **values).values()) == {None}
