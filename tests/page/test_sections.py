"""Single parts of pages: cards, entities marked in their text, forest plots, tables to copy, sizes of `auto`."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from folders import LONG, ODD, make_auto, make_comparison, make_relatedness, make_run, write, write_lines

import polytask
from polytask.page.chart import Dot, Point, forest, scatter_chart


def text_of(folder: Path) -> str:
    return polytask.report(folder).read_text("utf-8")


def code_of(text: str, label: str) -> str:
    """Return what stands in the box of a label, as it is copied."""
    found = re.search(rf'<pre [^>]*aria-label="{label}">(.*?)</pre>', text, re.DOTALL)
    assert found is not None
    return unescape(found[1])


def task_of(folder: Path) -> str:
    """Return the name of a run's only task."""
    (task,) = json.loads((folder / "scores.json").read_text("utf-8"))["test"]
    return task


def sentences(folder: Path) -> list[str]:
    found = [unescape(found) for found in re.findall(r'<p class="said">(.*?)</p>', text_of(folder))]
    assert not any(" %" in sentence for sentence in found), "a number and its sign stay on one line"
    return [sentence.replace("\u00a0%", " %") for sentence in found]


def test_a_card_names_the_weakest_label_and_what_it_is_taken_for(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", 1, ["good", "bad", "so-so"])
    task = task_of(folder)
    counts = [[9, 1, 0], [1, 5, 4], [0, 0, 10]]
    write(folder, "confusion.json", {task: {"labels": ["good", "bad", "so-so"], "counts": counts}})
    assert sentences(folder) == [f"{task} 0.80: learned; weakest on bad (50 % found), most often taken for so-so."]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([[6, 0, 4], [0, 5, 5], [2, 3, 0]], "45 % of the entities are missed, 31 % of those found are wrong"),
        ([[1, 0, 9], [0, 1, 9], [0, 0, 0]], "most entities are missed"),
        ([[0, 0, 0], [0, 0, 0], [2, 3, 0]], "there are no entities in these rows"),
    ],
)
def test_a_card_of_entities_counts_missed_and_wrong_ones(counts: Any, words: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", 1)
    task = task_of(folder)
    write(folder, "confusion.json", {task: {"labels": ["PER", "LOC", "O"], "counts": counts}})
    assert sentences(folder) == [f"{task} 0.80: learned; {words}."]


def test_a_card_of_numbers_says_how_far_off_half_of_the_answers_are(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", 1)
    task = task_of(folder)
    (folder / "confusion.json").unlink()
    rows = [
        {"row": row, "label": 1.0 * row, "prediction": row + off, "text": "x"}
        for row, off in enumerate([0.1, -0.2, 3.0])
    ]
    write_lines(folder, f"predictions/{task}.jsonl", rows)
    assert sentences(folder) == [f"{task} 0.80: learned; half of the predictions are within 0.20 of the truth."]


def test_entity_errors_are_marked_in_their_text(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", 1)
    task = task_of(folder)
    text = "Ann <b>Lee</b> saw \U0001f600 Lyon."
    words = [[0, 3], [4, 14], [15, 18], [19, 20], [21, 25]]
    row = {
        "row": 7, "place": "/home/me/<b>.jsonl:12", "text": text, "words": words,
        "label": ["B-PER", "I-PER", "O", "O", "B-LOC"],
        "prediction": ["B-PER", "I-PER", "B-ORG", "O", "O"],
    }  # fmt: skip
    write_lines(folder, f"predictions/{task}.jsonl", [row])
    page = text_of(folder)
    truth, answer = re.findall(r"<dd>(.*?)</dd>", page)
    assert '<dd class="place">&lt;b&gt;.jsonl:12</dd>' in page
    assert unescape(truth) == (
        '<mark class="">Ann <b>Lee</b><span> PER</span></mark> saw \U0001f600 '
        '<mark class="missed">Lyon<span> LOC missed</span></mark>.'
    )
    assert '<mark class="wrong">saw<span> ORG wrong</span></mark>' in answer
    assert "missed" not in answer
    assert "<b>Lee" not in page


def test_the_menu_leads_only_to_sections_that_show_something(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", 2)
    (folder / "confusion.json").unlink()
    record = json.loads((folder / "run.json").read_text("utf-8"))
    write(folder, "run.json", {**record, "stages": []})
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text("utf-8").splitlines()]
    write_lines(folder, "events.jsonl", [one for one in events if one["event"] not in ("split", "merge")])
    page = text_of(folder)
    menu = re.findall(r'<li><a href="#(.*?)">', page)
    assert {"similarity-of-the-gradients", "forgetting"}.isdisjoint(re.findall(r'<section id="(.*?)"', page))
    assert "scores" in menu
    assert "what-was-confused" not in menu  # it says why there is nothing, and stands at the end
    assert '<section id="confusion-matrices"' in page


def test_wrong_rows_are_named_by_file_and_line(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", 1)
    assert "reviews.csv:3" in text_of(folder)
    rows = [{"row": 4, "label": "a", "prediction": "b", "text": "x"}]  # a run of before
    write_lines(folder, f"predictions/{task_of(folder)}.jsonl", rows)
    assert "row 4 of the split" in text_of(folder)


def test_a_forest_plot_keeps_every_dot_and_interval_on_its_axis() -> None:
    dots = [
        Dot("one", 0.5, "0.500", 0.4, 0.6, 0.1, True), Dot(ODD[0], -0.2, "-0.200", None, None, None, False),
        Dot("no number", None, "undefined", None, None, None),
    ]  # fmt: skip
    plot = forest("differences", dots, lines=[(0.0, "none"), (-0.3, "floor")])
    assert plot is not None
    assert [row.name for row in plot.rows] == ["one", ODD[0]]
    drawn = "".join(row.svg for row in plot.rows)
    places = [float(place) for place in re.findall(r'(?:cx|x1|x2)="(-?[\d.]+)%"', drawn)]
    assert places
    assert all(0 <= place <= 100 for place in places)
    assert "<script" not in drawn
    assert "one: baseline 0.1000" in drawn
    assert [float(place) for _, place in plot.ticks] == sorted(float(place) for _, place in plot.ticks)
    assert forest("nothing", [dots[2]]) is None


def test_a_comparison_is_copied_as_csv_and_latex(tmp_path: Path) -> None:
    text = text_of(make_comparison(tmp_path / "comparison"))
    rows = list(csv.DictReader(io.StringIO(code_of(text, "Scores as CSV").strip())))
    assert len(rows) == 3 * 4
    assert {row["task"] for row in rows} == {"task_0", "task_1", LONG}
    best = {row["task"]: row["arm"] for row in rows if row["best"] == "1"}
    assert best == dict.fromkeys(("task_0", "task_1", LONG), "lora")
    assert float(rows[1]["delta"]) == pytest.approx(0.02)
    latex = code_of(text, "Scores as LaTeX, with booktabs")
    assert latex.count("\\begin") == latex.count("\\end") == 2
    assert "an\\_arm\\_with\\_quite" in latex
    assert "\\textbf{76.00} $\\pm$ 1.00" in latex


def test_differences_are_points_in_sentences_tables_and_on_axes(tmp_path: Path) -> None:
    text = unescape(text_of(make_comparison(tmp_path / "comparison")))
    plot = text.partition("task_0: accuracy, points")[2].partition("</figure>")[0]
    shown = re.findall(r'<span class="value">(.*?)</span>', plot)
    assert shown == [
        "+2.0  (+0.5 to +3.5)", "+4.0  (+2.5 to +5.5)", "+6.0  (+4.5 to +7.5)",
    ]  # fmt: skip
    assert ">floor: 0.5 points below<" in plot
    ticks = [float(one.replace("\u2212", "-")) for one in re.findall(r"left: [\d.]+%[^>]*>([^<]+)<", plot)]
    assert max(ticks) >= 6
    table = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text.partition("task_0: accuracy, in points")[2]))
    assert "global 72.00 1.00 +2.0 +0.5 to +3.5" in table


def test_the_lead_of_auto_gives_speeds_that_fit_their_ratio_and_the_floor(tmp_path: Path) -> None:
    folder = make_auto(tmp_path / "plan")
    told = json.loads((folder / "auto.json").read_text("utf-8"))
    write(folder, "auto.json", {**told, "rows_per_second": {"shipped": 12.04, "single": 4.3}})
    shown = text_of(folder)
    assert "It predicts 12.0 texts per second for all tasks, and one model per task 4.3 (a factor of 2.80)" in shown
    assert "The floor is the loss that a task may have against its own model: 3 points." in shown


def test_the_frontier_of_auto_holds_what_nothing_smaller_beats(tmp_path: Path) -> None:
    folder = make_auto(tmp_path / "auto")
    text = text_of(folder)
    drawing = re.search(r'aria-label="(Scatter chart, size and the worst task[^"]*)"(.*?)</svg>', text, re.DOTALL)
    assert drawing is not None
    for point in (
        "global 1, \u22123",
        "upper_third_apart 1.6, \u22122",
        "upper_half_apart 2, \u22123.5",
        "shipped 1.4",
    ):
        assert point in drawing[1]
    assert "single models 3, 0" in drawing[1]
    assert drawing[1].count("global") == 1  # only what was trained whole
    line = re.search(r'<polyline points="([^"]*)"', drawing[2])
    assert line is not None
    assert len(line[1].split()) == 3  # global, shipped, single models
    assert ">floor<" in drawing[2]
    assert "out of memory" in text
    assert "&lt;script&gt;" in text
    for missing in ("auto.json is not JSON", "this search is not finished"):
        (folder / "auto.json").write_text("{", "utf-8")
        assert missing in text_of(folder)


def test_sizes_that_are_not_known_are_not_drawn() -> None:
    points = [Point("a", 1.0, float("nan")), Point("b", None, 1.0), Point("c", 2.0, 1.0)]
    chart = scatter_chart("t", points, x="size", y="points")
    assert chart is not None
    assert ("c 2, 1" in chart.svg, "a 1" in chart.svg) == (True, False)
    assert scatter_chart("t", points[:2], x="size", y="points") is None


def test_a_divided_head_is_told_with_its_evidence(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    event = {"event": "head_split", "step": 26, "groups": [["opposed"], ["other", "plain"]], "evidence": 6.648,
             "threshold": 5.704, "share_heads": [["plain", "other"]]}  # fmt: skip
    with (folder / "events.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(event) + "\n")
    shown = unescape(text_of(folder))
    assert "Step 26: opposed | other, plain got separate heads" in shown
    assert "6.6 nats, with a threshold of 5.7" in shown


def test_auto_opens_with_a_card_a_task_that_says_where_it_stands(tmp_path: Path) -> None:
    folder = make_auto(tmp_path / "plan")
    told = json.loads((folder / "auto.json").read_text("utf-8"))
    tasks = list(told["tasks"])
    told["tasks"][tasks[1]] |= {"below_floor": True, "dev": {"delta": 0.001, "above": 0.7}, "would_need": "more"}
    told["tasks"][tasks[2]]["dev"]["delta"] = -0.05
    write(folder, "auto.json", {**told, "answer": "One model; two tasks are low.", "rates": []})
    page = unescape(text_of(folder)).replace("\n", " ")
    lead, _, rest = page.partition("</nav>")[2].partition("<section")
    assert "Two tasks are low." in lead
    cards = re.findall(r'class="card (\w+)".*?class="said">(.*?)<', lead)
    assert [tone for tone, _ in cards] == ["good", "part", "bad"]
    assert cards[1][1] == "Shared; not surely above the floor on dev rows; more."
    assert "own model 0.80; \u22122.0 points" in lead
    assert "Learning rates" not in page  # none was compared
    assert rest.index("The ladder") > rest.index("Size and worst task")


def test_relatedness_opens_with_the_tasks_that_share(tmp_path: Path) -> None:
    folder = make_relatedness(tmp_path / "related")
    told = json.loads((folder / "relatedness.json").read_text("utf-8"))
    for groups, title in (
        ([["a", "b"], ["c"]], "Together: a + b; apart: c"), ([["a", "b", "c"]], "All tasks together"),
        ([["a"], ["b"], ["c"]], "Each task separately"),
    ):  # fmt: skip
        write(folder, "relatedness.json", {**told, "groups": groups})
        assert title in text_of(folder)


def test_a_small_measure_is_never_written_as_zero(tmp_path: Path) -> None:
    folder = make_relatedness(tmp_path / "related", 2)
    told = json.loads((folder / "relatedness.json").read_text("utf-8"))
    told["measures"] = {"look_ahead": {"matrix": [[0.0034, -0.00002], [0.0, 0.0006]]}}
    write(folder, "relatedness.json", told)
    drawing = text_of(folder).partition("Heat map, look ahead")[2].partition("</svg>")[0]
    assert re.findall(r">([-\u2212\d.e]+)</text>", drawing) == ["0.0034", "\u22122e\u22125", "0.0000", "0.0006"]


def test_an_option_of_a_command_is_not_cut_at_its_hyphens(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "comparison")
    value = json.loads((folder / "comparison.json").read_text("utf-8"))
    write(folder, "comparison.json", {**value, "notes": ["add --max-size 3 & a-b <i>--x</i>"]})
    shown = 'add <span class="option">--max-size</span> 3 &amp; a-b &lt;i&gt;<span class="option">--x</span>&lt;/i&gt;'
    assert f"<li>{shown}</li>" in text_of(folder)


def test_an_error_is_told_as_more_or_less_than_the_majoritys(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    data = json.loads((folder / "data.json").read_text("utf-8"))
    data["tasks"]["task_0"] |= {"metric": "mae", "smaller_is_better": True}
    write(folder, "data.json", data)
    for score, told in (
        (0.9, "0.40 more than the majority baseline (0.50)"),
        (0.2, "0.30 less than the majority baseline (0.50)"),
        (0.502, "the same as the majority baseline (0.50)"),
    ):
        write(folder, "scores.json", {"test": {"task_0": {"mae": score}}})
        write(folder, "baselines.json", {"test": {"task_0": {"mae": 0.5}}})
        assert f"{told}; lower is better" in text_of(folder)


def test_many_arms_stand_below_each_other_and_what_is_alike_is_not_drawn(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "comparison", 3)
    value = json.loads((folder / "comparison.json").read_text("utf-8"))
    first, second = list(value["tasks"])[:2]
    for arm in (f"arm_{number}" for number in range(6)):
        value["arms"][arm] = {**value["arms"]["global"], "overrides": [f"train.seed={arm}"]}
        for found in value["tasks"].values():
            found["arms"][arm] = found["arms"]["global"]
    still = {"mean": 0.0, "std": 0.0, "delta": 0.0, "low": 0.0, "high": 0.0, "relative": None, "values": [0.0, 0.0]}
    value["tasks"][first]["arms"] = dict.fromkeys(value["arms"], still)
    value["tasks"][second] |= {"verdict": "share_partly", "sentence": "share partly: with lora, it is better"}
    value["tasks"][first]["verdict"] = "cannot_tell"
    write(folder, "comparison.json", value)
    text = text_of(folder)
    words = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", text)))
    assert f"arm {first} (accuracy) {second} (accuracy)" in words
    assert "arm_5 0.00 ± 0.00" in words
    assert not re.search("<strong>0.00", text)
    assert f"All arms score the same as single models: \u2068{first}\u2069." in words
    assert (
        f"{first}: accuracy" not in words.partition("Differences to single models")[2].partition("What an arm costs")[0]
    )
    assert "Train it jointly, as in the arm lora." in words
    assert "For 1 of 3 tasks the comparison cannot tell whether sharing pays off." in words
    assert "train.seed=arm_5; the same runs as global" in words
    assert re.search(r'<section id="runs"[^>]*class="closed"', text)
