"""A budget is divided before the first run: what is needed for the guarantee first, and never more than there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.errors import ConfigError
from polytask.search.outline import FINALISTS, FOLDS, RATES, SearchOutline, fold_cost, outline_for, total, usable_shares

SINGLES = {"a": 0.5, "b": 0.3, "c": 0.4}


@given(
    budget=st.floats(0.1, 60),
    singles=st.lists(st.floats(0.05, 1.5), min_size=2, max_size=8),
    updates=st.integers(1, 5000),
    candidates=st.integers(1, 9),
    folds=st.sampled_from([None, 0, 1, 5]),
)
def test_an_outline_never_costs_more_than_its_budget(
    budget: float, singles: list[float], updates: int, candidates: int, folds: int | None
) -> None:
    costs = {f"t{number}": cost for number, cost in enumerate(singles)}
    least = sum(singles) + 1 + (folds or 0) * fold_cost(sum(singles))
    if budget < least - 1e-9:
        with pytest.raises(ConfigError, match=r"--budget: found .* give at least"):
            outline_for(budget, costs, updates, candidates, folds)
        return
    found = outline_for(budget, costs, updates, candidates, folds)
    assert folds is None or found.folds == folds
    assert found.folds <= FOLDS
    assert found.cost + found.ladder == pytest.approx(budget)
    assert found.cost == pytest.approx(total(found, sum(singles)))
    assert 1 <= found.finalists <= found.candidates <= candidates
    # Whatever is done beyond the guarantee leaves a step of the ladder for the most expensive task.
    assert found.cost == pytest.approx(least) or found.ladder >= max(singles) - 1e-9
    counts = [count for _, count in found.rungs()]
    assert counts == sorted(counts, reverse=True)
    assert all(count >= found.finalists for count in counts)


def test_the_least_budget_that_is_named_is_enough() -> None:
    with pytest.raises(ConfigError, match=r"cost 2\.20 trainings of the configuration; give at least 2\.2"):
        outline_for(2.1, SINGLES, 500, 6)
    plain = outline_for(2.2, SINGLES, 500, 6)
    assert (plain.candidates, plain.finalists, plain.teach, len(plain.rates)) == (1, 1, False, 1)


def test_more_budget_buys_candidates_then_rates_then_folds_then_teachers() -> None:
    found = [outline_for(budget, SINGLES, 500, 6) for budget in (2.2, 3.7, 5.5, 8.0, 9.0, 11.0, 30.0)]
    spent = [one.cost for one in found]
    assert spent == sorted(spent)
    assert found[1].finalists == FINALISTS
    assert len(found[3].rates) == len(RATES)
    assert [one.folds for one in found] == [0, 0, 0, 1, 1, 2, FOLDS]
    assert found[5].candidates > found[4].candidates
    assert found[-1].teach
    assert found[-1].candidates == 6


def test_short_runs_are_not_cut_into_shares_that_tell_nothing() -> None:
    assert usable_shares(31) == ()
    found = outline_for(12, SINGLES, 31, 6)
    assert found.rate_share == 1
    assert found.rungs() == []
    assert found.finalists == found.candidates


def test_an_outline_counts_every_run_once() -> None:
    # Rates at a quarter: three times the single models and a joint one; then 4 at an eighth, 2 at a quarter, 2 whole.
    outline = SearchOutline((1 / 8, 1 / 4), RATES, 4, 2, True, folds=3)
    rates = 3 * (1.2 + 1) / 4
    rungs = 4 / 8 + 1.2 / 8 + 2 / 4
    assert total(outline, 1.2) == pytest.approx(1.2 + 2 + 1 + rates + rungs + 3 * 0.8 * 2.2)
