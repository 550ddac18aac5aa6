"""Tables of a comparison for papers: mean and spread, the best marked, significance with Holm's correction."""

from __future__ import annotations

import csv
import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.arm_tables import FORMATS, entry_of, to_csv, to_latex, to_markdown
from polytask.comparison.compare import Comparison
from polytask.comparison.merging import keep_other
from polytask.comparison.predictions import ArmPredictions
from polytask.comparison.statistics import compare_arms, holm, p_value
from polytask.comparison.table import print_table, read_format, show_comparison
from polytask.errors import OutputError, UserError
from polytask.tables import console

ARM = "partial-shared_layers-3-aligned_mtl"


def score(mean: float | None, delta: float | None = 0.0, **more: Any) -> dict[str, Any]:
    keys = ("low", "high", "relative")
    return {"mean": mean, "std": None if mean is None else 0.004, "delta": delta, **dict.fromkeys(keys, 0.0),
            "values": [mean, mean], **more}  # fmt: skip


def record() -> dict[str, Any]:
    return {
        "tasks": {
            "topic_a": {
                "metric": "macro_f1", "smaller_is_better": False,
                "arms": {
                    "single": score(0.8),
                    ARM: score(0.8431, 0.0431, p=0.01, p_holm=0.02),
                    "low": score(0.7, -0.1, p=0.001, p_holm=0.003),
                },
                "sentence": "share: topic gains",
            },
            "rating": {
                "metric": "mae", "smaller_is_better": True,
                "arms": {
                    "single": score(0.25),
                    ARM: score(0.5, -0.25, p=0.2, p_holm=0.2),
                    "low": score(None, None),
                },
                "sentence": "cannot tell",
            },
        },
        "arms": {
            name: {"runs": {seed: ["x"] for seed in seeds}, "parameters": 10, "train_seconds": 1.0, "overrides": [],
                   "predict_rows_per_second": None}
            for name, seeds in (("single", "45"), (ARM, "45"), ("pairs", "45"), ("low", "4"))
        },
        "overall": {ARM: {"mean": 0.012, "low": 0.0, "high": 0.1}, "low": None},
        "seeds": [4, 5],
        "notes": [],
    }  # fmt: skip


def test_the_latex_table_marks_the_best_and_what_is_beyond_noise() -> None:
    rows = [line for line in to_latex(record()).splitlines() if line.endswith("\\\\")]
    assert rows == [
        " & topic\\_a & rating $\\downarrow$ & mean over tasks \\\\",
        " & macro\\_f1 & mae & \\% \\\\",
        "single & 80.00 $\\pm$ 0.40 & \\textbf{0.2500} $\\pm$ 0.0040 &  \\\\",
        "partial-shared\\_layers-3-aligned\\_mtl & "
        "\\textbf{84.31} $\\pm$ 0.40$^{*}$ & 0.5000 $\\pm$ 0.0040 & +1.2 \\\\",
        "low & 70.00 $\\pm$ 0.40$^{\\dagger}$ & -- &  \\\\",
    ]
    text = to_latex(record())
    assert "\\begin{tabular}{lccc}" in text
    assert "over 2 seeds (low: 1), in points (hundredths; mae in its own unit)" in text
    assert "corrected by Holm's method" in text
    assert text.count("{") == text.count("}")


def test_the_markdown_table_is_the_same() -> None:
    lines = to_markdown(record()).splitlines()
    assert lines[:5] == [
        "| arm | topic\\_a (macro\\_f1) | rating (mae ↓) | mean over tasks, % |",
        "| --- | ---: | ---: | ---: |",
        "| single | 80.00 ± 0.40 | **0.2500** ± 0.0040 |  |",
        "| partial-shared\\_layers-3-aligned\\_mtl | **84.31** ± 0.40 \\* | 0.5000 ± 0.0040 | +1.2 |",
        "| low | 70.00 ± 0.40 † | – |  |",
    ]


def test_csv_has_all_figures_by_task_and_arm() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(record()))))
    assert [(row["task"], row["arm"], row["best"]) for row in rows] == [
        ("topic_a", "single", "0"), ("topic_a", ARM, "1"), ("topic_a", "low", "0"),
        ("rating", "single", "1"), ("rating", ARM, "0"), ("rating", "low", "0"),
    ]  # fmt: skip
    assert rows[1]["mean"] == "0.8431"
    assert rows[1]["p_holm"] == "0.02"
    assert rows[5]["mean"] == rows[0]["p"] == ""


def test_equal_means_are_all_best_and_an_arm_without_scores_is_left_out() -> None:
    found = record()
    found["tasks"]["topic_a"]["arms"]["low"] = score(0.8431)
    assert [entry_of(found["tasks"]["topic_a"], arm).best for arm in ("single", ARM, "low", "pairs")] == [
        False, True, True, False,
    ]  # fmt: skip
    assert "pairs" not in to_latex(found)


def test_where_all_arms_are_equal_none_is_best_and_a_minus_is_one() -> None:
    found = record()
    found["tasks"]["topic_a"]["arms"] = {"single": score(-0.5), ARM: score(-0.5)}
    assert [entry_of(found["tasks"]["topic_a"], arm).best for arm in ("single", ARM)] == [False, False]
    assert "single & $-$50.00 $\\pm$ 0.40 &" in to_latex(found)
    assert "| single | -50.00 ± 0.40 |" in to_markdown(found)


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_name_breaks_a_table(task: str, arm: str) -> None:
    found = {
        "tasks": {task: {"metric": "accuracy", "smaller_is_better": False,
            "arms": {"single": score(0.5), f"a{arm}": score(0.6, 0.1)}}},
        "arms": {"single": {}, f"a{arm}": {}}, "seeds": [1, 2],
    }  # fmt: skip
    latex = to_latex(found)
    assert len([line for line in latex.split("\n") if line.endswith("\\\\")]) == 4
    lines = to_markdown(found).split("\n")
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines[:4])
    assert len(list(csv.reader(io.StringIO(to_csv(found))))) == 3


@pytest.mark.parametrize("damaged", [{}, {"tasks": {}}, {"tasks": []}, {"tasks": {"a": {"arms": {"x": {}}}}}])
def test_a_damaged_record_is_told(damaged: dict[str, Any]) -> None:
    for write in FORMATS.values():
        with pytest.raises(OutputError, match="comparison.json holds no scores of arms, or was altered"):
            write(damaged)


def test_tables_are_printed_from_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="the folder holds no comparison; to train one give a configuration, and --out"):
        print_table(tmp_path, "csv")
    with pytest.raises(UserError, match="not the folder of a comparison; to train one give a configuration"):
        print_table(tmp_path / "config.yaml", None)
    (tmp_path / "comparison.json").write_text(json.dumps(record()), "utf-8")
    with pytest.raises(UserError, match="name the format of the table: --to csv, latex, markdown"):
        print_table(tmp_path, None)
    for name, write in FORMATS.items():
        print_table(tmp_path, read_format(name))
        assert capsys.readouterr().out == write(record())
    with pytest.raises(UserError, match="--to: found 'latx'; accepted: csv, latex, markdown; did you mean 'latex'"):
        read_format("latx")
    kept = keep_other(tmp_path)
    assert kept is not None
    assert json.loads(kept.read_text("utf-8")) == record()
    assert keep_other(tmp_path) is None


def test_the_terminal_shows_arms_by_their_whole_names_at_any_width(capsys: pytest.CaptureFixture[str]) -> None:
    found = Comparison(Path(), record()["tasks"], record()["arms"], "single", "why", 0, 0, record())
    assert (found.to_csv(), found.to_latex()) == (to_csv(record()), to_latex(record()))
    assert found.to_markdown() == to_markdown(record())
    for width in (40, 80, 200):
        screen = console()
        screen.width = width
        show_comparison(found, screen)
        out = capsys.readouterr().out
        assert ARM in out
        assert "best 84.31 ± 0.40" in out
        assert "0.020 *" in out
        assert "0.003 †" in out


def test_holms_correction_is_that_of_the_paper() -> None:
    # Four hypotheses in their order: 4 x 0.005, 3 x 0.01, 2 x 0.03, then never smaller than before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0.0, 1.0), max_size=7))
def test_holm_rejects_what_the_closed_bonferroni_test_rejects(values: list[float]) -> None:
    """Holm's is the closure of Bonferroni's: the greatest n x min(p) over all sets that hold a hypothesis."""
    corrected = holm(values)
    for at in range(len(values)):
        sets = [chosen for size in range(1, len(values) + 1)
                for chosen in itertools.combinations(range(len(values)), size) if at in chosen]  # fmt: skip
        closed = max(min(1.0, len(chosen) * min(values[one] for one in chosen)) for chosen in sets)
        assert corrected[at] == pytest.approx(closed)


def test_p_is_small_exactly_where_the_interval_leaves_zero_out() -> None:
    assert p_value(np.zeros(2000)) == 1.0
    assert p_value(np.ones(1999)) == pytest.approx(2 / 2000)
    assert p_value(np.full(10, np.nan)) is None
    assert p_value(np.array([np.nan] * 6 + [1.0] * 4)) is None
    draws = np.random.default_rng(1).normal(0.0, 1.0, 2000)
    for shift in (0.0, 1.0, 1.5, 2.5, 3.0):
        low = float(np.quantile(draws + shift, 0.025))
        found = p_value(draws + shift)
        assert found is not None
        if abs(low) > 0.05:
            assert (found < 0.05) == (low > 0), shift


def test_an_arm_is_compared_over_its_own_seeds() -> None:
    rng = np.random.default_rng(3)
    labels = ("yes",) * 60

    def answers(seeds: tuple[int, ...], share: float) -> ArmPredictions:
        found = tuple(tuple("yes" if rng.random() < share else "no" for _ in labels) for _ in seeds)
        return ArmPredictions(tuple(range(60)), ("t",) * 60, labels, found, seeds)

    single, arm = answers((3, 4, 5), 0.7), answers((5, 3), 0.8)
    both = compare_arms("accuracy", "row", {"single": single, "arm": arm}, baseline="single", resamples=200, seed=0)
    alone = compare_arms(
        "accuracy", "row", {"single": single.over((5, 3)), "arm": arm}, baseline="single", resamples=200, seed=0
    )
    for key in ("values", "delta", "low", "high", "relative", "p"):
        assert getattr(both["arm"], key) == getattr(alone["arm"], key)
    assert len(both["single"].values) == 3


def test_zero_has_no_sign_in_csv() -> None:
    from polytask.arm_tables import _cell

    assert [str(_cell(value)) for value in (-0.0, 0.0, -0.5, None, 0, "x")] == ["0.0", "0.0", "-0.5", "", "0", "x"]
