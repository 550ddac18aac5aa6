"""Losses that compare the rows of a step: pieces and processes make the update of the whole step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from several_processes import without_dropout
from test_distribution import gradients, in_pieces, require_same

import polytask as pt
from vectors import config, pairs, scored


def cases(tiny: Path) -> dict[str, Any]:
    """Return triplets beside another task of the same texts, pairs with scores, and ways to differentiate them."""
    rows = [{**row, "label": "ab"[number % 2]} for number, row in enumerate(pairs(16, negatives=True))]
    graded = scored(16)
    label = {"label": {"type": "classification", "data": {"train": rows, "dev": rows, "test": rows}}}
    found = {
        "triplets": config(tiny, rows, rows, others=label, sizes=[8]),
        "scores": config(tiny, graded, graded, score="score"),
    }
    found["gram"] = {**found["triplets"], "balance": {"method": "nash_mtl"}}
    return {name: without_dropout(values) for name, values in found.items()}


def test_pieces_make_the_update_of_the_whole(tiny: Path, tmp_path: Path) -> None:
    whole = cases(tiny)
    cut = {f"{name}-{pieces}": in_pieces(values, pieces) for name, values in whole.items() for pieces in (3,)}
    found = gradients({**whole, **cut}, tmp_path / "one", 1)
    require_same({name: found[name] for name in cut}, {name: found[name.split("-")[0]] for name in cut})


@pytest.mark.usefixtures("quick_processes")
def test_processes_make_the_update_of_one(tiny: Path, tmp_path: Path) -> None:
    whole = cases(tiny)
    pieces = {"triplets-in-pieces": in_pieces(whole["triplets"], 2)}
    split = {"triplets-split": {**whole["triplets"], "schedule": {"strategy": "parallel", "placement": "split"}}}
    every = {**whole, **pieces, **split}
    alone = gradients(every, tmp_path / "one", 1)
    require_same(gradients(every, tmp_path / "two", 2), alone)
    require_same({name: alone[name] for name in pieces}, {name: alone[name.split("-")[0]] for name in pieces})


def test_the_reported_loss_is_that_of_the_step_and_negatives_are_the_whole_steps(tiny: Path, tmp_path: Path) -> None:
    rows = pairs(16)
    losses: dict[int, list[float]] = {}
    for pieces in (1, 4):
        values = without_dropout(config(tiny, rows, rows, train={"batch_size": 16, "logging_steps": 1}))
        pt.train(in_pieces(values, pieces), tmp_path / str(pieces))
        log = [json.loads(line) for line in (tmp_path / str(pieces) / "events.jsonl").read_text("utf-8").splitlines()]
        losses[pieces] = [event["losses"]["near"] for event in log if event["event"] == "step"]
    assert losses[4] == pytest.approx(losses[1], abs=1e-5)
    assert losses[1][0] > 1  # of 16 candidates; alone in a piece of 4, a text would have 4
