"""The sequential test of shared heads: what divides one, and how seldom one is divided that is right."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grams import LAYERS, copies, decisions, gram
from polytask.sharing.adaptive import Adaptive, AdaptiveOptions
from polytask.sharing.head_evidence import HeadCut, HeadDecision, HeadEvidence
from polytask.sharing.plan import global_plan
from polytask.sharing.sharing import Sharing

ABC = (("a", "b", "c"),)


def cut(one: str, other: str) -> HeadCut:
    return frozenset(one), frozenset(other)


def test_every_task_may_part_from_the_others_of_its_head_and_two_tasks_part_once() -> None:
    assert HeadEvidence(ABC, 0.01).cuts() == [cut("a", "bc"), cut("b", "ac"), cut("c", "ab")]
    assert HeadEvidence((("a", "b"), ("d", "e")), 0.01).cuts() == [cut("b", "a"), cut("e", "d")]
    assert HeadEvidence((), 0.01).cuts() == []


def test_a_head_is_divided_once_the_evidence_reaches_what_the_risk_asks_for() -> None:
    evidence = HeadEvidence(ABC, 0.01)
    assert evidence.threshold == pytest.approx(math.log(3 / 0.01))
    assert evidence.observe({cut("c", "ab"): 5.0, cut("a", "bc"): 5.5}) is None
    assert evidence.observe({cut("c", "ab"): 0.7, cut("a", "bc"): -2.0}) is None
    found = evidence.observe({cut("c", "ab"): 0.1})
    assert found == HeadDecision(cut("c", "ab"), pytest.approx(5.8), pytest.approx(math.log(300)), (("a", "b"),))  # type: ignore[arg-type]
    assert evidence.heads == (("a", "b"),)
    assert evidence.cuts() == [cut("b", "a")]
    written = json.loads(json.dumps(found.to_json()))
    assert written == {"groups": [["c"], ["a", "b"]], "evidence": 5.8, "threshold": 5.704, "share_heads": [["a", "b"]]}
    # What is left is judged anew.
    assert evidence.observe({cut("b", "a"): 4.0}) is None
    assert evidence.observe({cut("b", "a"): 2.0}) is not None
    assert evidence.heads == ()


def test_a_division_leaves_other_heads_and_their_evidence_alone() -> None:
    evidence = HeadEvidence((("a", "b"), ("d", "e")), 0.01)
    evidence.observe({cut("b", "a"): 4.0})
    assert evidence.observe({cut("e", "d"): 9.0}) is not None
    assert evidence.heads == (("a", "b"),)
    assert evidence.observe({cut("b", "a"): 2.0}) is not None


def test_evidence_that_is_not_a_number_or_of_no_cut_is_left_out() -> None:
    evidence = HeadEvidence(ABC, 0.01)
    for gain in (math.nan, math.inf):
        assert evidence.observe({cut("c", "ab"): gain, cut("x", "y"): 99.0}) is None


def test_no_risk_keeps_every_head() -> None:
    evidence = HeadEvidence(ABC, 0.0)
    assert evidence.cuts() == []
    assert evidence.observe({cut("c", "ab"): 1e9}) is None


@pytest.mark.parametrize("risk", [0.02, 0.2])
def test_where_one_head_is_right_one_is_divided_no_more_often_than_the_risk_says(risk: float) -> None:
    """Labels follow the common head's forecasts; the own heads forecast whatever they like, before they see a label."""
    random, runs, divided = np.random.default_rng(3), 600, 0
    for _ in range(runs):
        evidence = HeadEvidence(ABC, risk)
        for _ in range(80):
            right = random.uniform(0.05, 0.95, 3)
            own = np.clip(right + random.normal(0, 0.15, 3), 0.01, 0.99)
            label = random.random(3) < right
            gains = np.log(np.where(label, own / right, (1 - own) / (1 - right)))
            if evidence.observe({one: float(gain) for one, gain in zip(evidence.cuts(), gains, strict=True)}):
                divided += 1
                break
    assert divided / runs <= risk + 3 * math.sqrt(risk * (1 - risk) / runs)


@given(st.lists(st.lists(st.floats(-3, 4), min_size=3, max_size=3), max_size=20), st.integers(0, 20))
def test_a_saved_policy_goes_on_as_if_it_had_never_stopped(stream: list[list[float]], stop: int) -> None:
    def policy() -> Adaptive:
        options = AdaptiveOptions.model_validate({"strategy": "adaptive", "max_parameters": 9})
        return options.policy(Sharing(global_plan("abc", 2), heads=ABC), lambda plan: len(plan.levels), 3, 1.0)

    def told(found: list[float]) -> dict[HeadCut, float]:
        return dict(zip([cut("a", "bc"), cut("b", "ac"), cut("c", "ab")], found, strict=True))

    whole, first, second = (policy() for _ in range(3))
    expected = [whole.observe_heads(told(found)) for found in stream]
    begun = [first.observe_heads(told(found)) for found in stream[:stop]]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert begun + [second.observe_heads(told(found)) for found in stream[stop:]] == expected
    assert second.state_dict() == whole.state_dict()


def test_measurements_go_with_the_balancers_comparisons_where_it_makes_any() -> None:
    options = AdaptiveOptions.model_validate({"strategy": "adaptive"})
    start = Sharing(global_plan("abc", 2))
    intervals = {
        compares: options.policy(start, lambda plan: 3, 3, 1.0, compares).interval for compares in (None, 1, 3, 8)
    }
    assert intervals == {None: 12, 1: 4, 3: 6, 8: 8}


def test_what_was_measured_before_a_head_was_divided_does_not_divide_layers_afterwards() -> None:
    heads = Sharing(global_plan("abc", LAYERS), heads=ABC)
    options = AdaptiveOptions.model_validate(
        {"strategy": "adaptive", "confidence": 0.0, "patience": 1, "min_measurements": 6, "max_parameters": 9}
    )
    policy, other = (options.policy(heads, copies, LAYERS + 1, 1.0) for _ in range(2))
    conflict, agreeing = gram("abc", "ab", "c"), gram("abc", "abc")
    for _ in range(5):
        assert policy.observe(conflict) is other.observe(conflict) is None
    assert policy.observe_heads({cut("c", "ab"): 9.0}) is not None
    assert not decisions(policy, [agreeing] * 12)
    assert decisions(other, [conflict])
