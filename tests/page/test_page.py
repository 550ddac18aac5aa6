"""A page shows what a folder holds, says what is missing, and lets nothing of the data through as markup."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

import pytest
from folders import LONG, ODD, events, make_comparison, make_relatedness, make_run, write, write_lines

import polytask
from polytask.errors import UserError
from polytask.lock import locked

MAKERS: dict[str, Callable[..., Path]] = {
    "run": make_run, "comparison": make_comparison, "relatedness": make_relatedness
}  # fmt: skip


class Parts(HTMLParser):
    """What stands in a page: elements with their attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page(folder: Path) -> tuple[str, Parts]:
    path = polytask.report(folder)
    assert path == folder / "report.html"
    text = path.read_text("utf-8")
    parts = Parts(text)
    assert not parts.open
    return text, parts


@pytest.mark.parametrize("count", [1, 2, 3, 12])
@pytest.mark.parametrize("name", MAKERS)
def test_a_page_asks_for_nothing_outside_and_runs_nothing(name: str, count: int, tmp_path: Path) -> None:
    text, parts = page(MAKERS[name](tmp_path / name, count))
    for tag, attributes in parts.elements:
        assert tag not in ("script", "link", "img", "iframe", "object", "b")
        for key, value in attributes.items():
            assert not key.startswith("on")
            if key in ("src", "href", "xlink:href"):
                assert value is not None
                assert value.startswith(("#", "./"))
                assert ":" not in value
    assert "<script" not in text
    assert "url(" not in text
    assert "@import" not in text


@pytest.mark.parametrize("name", MAKERS)
def test_headings_come_in_order_and_every_drawing_has_words(name: str, tmp_path: Path) -> None:
    _, parts = page(MAKERS[name](tmp_path / name))
    levels = [tag for tag, _ in parts.elements if tag in ("h1", "h2", "h3")]
    assert levels[0] == "h1"
    assert set(levels[1:]) == {"h2"}
    drawings = [attributes for tag, attributes in parts.elements if tag == "svg"]
    assert drawings
    assert all(found.get("role") == "img" and len(found.get("aria-label") or "") > 20 for found in drawings)
    assert ("html", {"lang": "en"}) in parts.elements
    anchors = {attributes.get("id") for tag, attributes in parts.elements if tag == "section"}
    links = {(attributes["href"] or "")[1:] for tag, attributes in parts.elements if tag == "a"} - {"content"}
    assert anchors <= links


def test_labels_of_any_script_are_shown_as_text(tmp_path: Path) -> None:
    _, parts = page(make_run(tmp_path / "run"))
    for label in ODD:
        assert label in parts.text
    assert LONG in parts.text


def test_every_number_of_a_drawing_is_finite(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    write(folder, "scores.json", {"test": {"task_0": {"macro_f1": float("nan")}, "task_1": {"macro_f1": 0.5}}})
    text, parts = page(folder)
    assert "undefined" in parts.text
    for _, attributes in parts.elements:
        for key in ("d", "points", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height"):
            assert not re.search("nan|inf", attributes.get(key) or "")
    assert text.count("<svg") > 5


def test_a_run_in_training_leads_with_its_step_the_time_left_and_dev_scores(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", finished=False)
    log = [event for event in events(["task_0"], finished=False) if event["event"] != "gate" and event["step"] <= 45]
    write_lines(folder, "events.jsonl", log)
    text = re.sub(r"\s+", " ", page(folder)[1].text)
    assert "In training Step 45 of 60 About 15.0 s left at this pace." in text  # a second an update
    assert "task_0 macro_f1 0.6000 0.6000 40" in text
    assert "--resume" not in text


def test_a_run_that_nobody_trains_says_how_to_go_on_and_shows_the_rest(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", finished=False)
    (folder / ".lock").unlink()
    _, parts = page(folder)
    assert "Step 20 of 60" in parts.text
    assert "scores.json is not in the folder. Resume with this command:" in parts.text
    assert "polytask train run/config.yaml --out run --resume" in parts.text
    assert "Not shown:" not in parts.text  # what is written at the end is no news before it
    assert "nothing to show" not in parts.text
    assert "task_0: macro_f1 on dev" in parts.text
    assert "700" in parts.text


def test_a_long_run_has_a_page_of_ordinary_size(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    write_lines(folder, "events.jsonl", events(["task_0"], steps=6000))
    text, parts = page(folder)
    assert "Main dev scores at 63 of 300 evaluations" in parts.text  # every fifth, the marked two, the last
    assert len(text) < 300_000


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", finished=False)
    (folder / ".lock").unlink()
    with (folder / "events.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps({"event": "failed", "step": 61, "reason": "step 61: the loss of 'a' is nan"}) + "\n")
    assert "Training stopped: step 61: the loss of 'a' is nan." in page(folder)[1].text


def test_files_that_are_broken_are_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "confusion.json").write_text("{", "utf-8")
    (folder / "data.json").write_text('{"tasks": {"a": {"rows": "many"}}}', "utf-8")
    (folder / "config.yaml").write_text("a: [", "utf-8")
    with (folder / "events.jsonl").open("ab") as log:
        log.write(b'{"event": "st\xff')
    (folder / "predictions" / "task_0.jsonl").unlink()
    text = page(folder)[1].text
    assert "confusion.json is not JSON (" in text
    assert "data.json does not have the form that this version reads (tasks.a.type: field required)." in text
    assert "config.yaml cannot be read (" in text
    assert "1 line of events.jsonl could not be read; the first one is line" in text
    assert "task_0: predictions/task_0.jsonl is not in the folder." in text
    assert "task_1: wrong predictions: " in text


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_deep_values_in_any_file_are_told_and_no_traceback(make: Callable[..., Path], tmp_path: Path) -> None:
    """The parsers of JSON and YAML call themselves for each level, and Python ends that at some depth."""
    folder = make(tmp_path / "folder")
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl", ".yaml"))
    assert files
    for path in files:
        before = path.read_bytes()
        path.write_text("[" * 100_000 + "]" * 100_000 + "\n", "utf-8")
        with suppress(UserError):  # of the file that tells what the folder is
            assert polytask.report(folder).is_file()
        path.write_bytes(before)


def test_an_empty_log_makes_a_page(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.jsonl").touch()
    text = page(tmp_path / "run")[1].text
    assert "events.jsonl is empty." in text
    assert "config.yaml is not in the folder." in text


def test_control_characters_and_lone_surrogates_do_not_stop_a_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", labels=["a\x00b", "c\x1b[31m"])
    (folder / "predictions" / "task_0.jsonl").write_text(
        '{"row": 0, "label": "\\ud800", "prediction": "x", "text": "y"}\n', "utf-8"
    )
    text = page(folder)[1].text
    assert "a\ufffdb" in text
    assert "\x1b" not in text


def test_a_comparison_puts_the_recommendation_first_and_the_verdicts_in_words(tmp_path: Path) -> None:
    text, parts = page(make_comparison(tmp_path / "comparison", 4))
    assert parts.text.count("No task loses.") == 1
    assert parts.text.index("Recommended: global (all tasks share the whole encoder)") < parts.text.index("Each task")
    for verdict in ("share", "share partly", "keep apart", "cannot tell"):
        assert f">{verdict}</span>" in text
    assert "PER 1\u20132, LOC 4" in parts.text
    assert "task_0: global broke no row." in parts.text
    assert 'href="./runs/global-0f3c/report.html"' in text
    assert 'href="./runs/single-0f3c"' in text
    assert 'href="./javascript%3Aalert%281%29"' in text


def test_a_comparison_that_goes_on_lists_its_runs(tmp_path: Path) -> None:
    make_run(tmp_path / "comparison" / "runs" / "global-1", finished=False)
    make_run(tmp_path / "comparison" / "runs" / "single-2")
    with pytest.raises(UserError, match="neither a run"):  # any folder may hold one of that name
        polytask.report(tmp_path / "comparison")
    write(tmp_path / "comparison", "config.json", {})
    assert "This comparison was stopped" in page(tmp_path / "comparison")[1].text
    with locked(tmp_path / "comparison"):
        text = page(tmp_path / "comparison")[1].text
    assert "This comparison is running" in text
    assert "not finished, or was altered" not in text
    assert re.search(r"runs/global-1\s+not finished", text)
    assert re.search(r"runs/single-2\s+finished", text)


def test_a_relatedness_page_draws_every_layer_and_names_what_predicted_nothing(tmp_path: Path) -> None:
    text = page(make_relatedness(tmp_path / "relatedness"))[1].text
    assert "gradient cosine, layer 2" in text
    assert re.search(r"look ahead\s+undefined\s+6", text)
    assert "21.0 %" in text
    assert "{strategy: from_affinity, file: affinity.json}" in text


def test_a_folder_of_another_kind_is_an_error_with_the_nearest_one(tmp_path: Path) -> None:
    make_run(tmp_path / "work" / "reviews")
    with pytest.raises(UserError, match=r"work: neither a run .* nor a comparison .*; did you mean .*work/reviews\?"):
        polytask.report(tmp_path / "work")
    (tmp_path / "work" / "reviews" / "model").mkdir()
    with pytest.raises(UserError, match=r"did you mean .*work/reviews\?"):
        polytask.report(tmp_path / "work" / "reviews" / "model")
    with pytest.raises(UserError, match="no such folder"):
        polytask.report(tmp_path / "nothing")
    with pytest.raises(UserError, match="it is a file"):
        polytask.report(tmp_path / "work" / "reviews" / "run.json")


def test_the_command_prints_the_path_and_loads_no_torch(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    code = f"import sys; from polytask.cli import app; app(['report', {str(folder)!r}], standalone_mode=False)"
    code += "; assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{folder / 'report.html'}\n"
    assert not list(folder.glob(".report*"))


@pytest.mark.parametrize(
    ("score", "majority", "limits", "error", "words"),
    [
        (0.2, 0.5, (0.15, 0.25), True, "better than the majority baseline"),
        (0.2, 0.5, (0.15, 0.55), True, "no better than the majority baseline"),
        (1.2, 3.5, (None, None), True, "better than the majority baseline"),
        (
            0.2,
            0.5,
            (0.15, 0.25),
            False,
            "not learned: not significantly better than the majority baseline on these rows",
        ),
        (0.95, 0.5, (0.9, 0.97), False, "learned well"),
        (None, 0.5, (None, None), False, "the score is undefined"),
        (
            0.5,
            None,
            (None, None),
            False,
            "without the score of the majority baseline, it is unknown how much was learned",
        ),
    ],
)
def test_a_card_says_how_much_was_learned(
    score: float | None, majority: float | None, limits: tuple[float | None, float | None], error: bool, words: str
) -> None:
    from polytask.page.cards import _level  # pyright: ignore[reportPrivateUsage]

    assert _level(score, majority, limits, error=error)[0] == words


@pytest.mark.parametrize(
    ("score", "limits", "words"),
    [
        (0.56, (0.35, 0.74), "partly learned"),
        (
            0.1,
            (-0.2, 0.4),
            "not learned: the correlation with the truth is not significant on these rows",
        ),
        (None, (None, None), "the score is undefined"),
    ],
)
def test_a_card_says_how_far_answers_follow_the_truth_where_the_majority_has_no_score(
    score: float | None, limits: tuple[float | None, float | None], words: str, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "run", 1)
    for name, values in (("scores", {"pearson": score}), ("baselines", {"pearson": None})):
        told = json.loads((folder / f"{name}.json").read_text("utf-8"))
        changed = {split: dict.fromkeys(tasks, values) for split, tasks in told.items()}
        (folder / f"{name}.json").write_text(json.dumps(changed), "utf-8")
    data = json.loads((folder / "data.json").read_text("utf-8"))
    for task in data["tasks"].values():
        task["metric"] = "pearson"
    write(folder, "data.json", data)
    splits = json.loads((folder / "intervals.json").read_text("utf-8"))
    intervals = {
        split: {task: {} if limits[0] is None else {"pearson": limits} for task in tasks}
        for split, tasks in splits.items()
    }
    (folder / "intervals.json").write_text(json.dumps(intervals), "utf-8")
    shown = page(folder)[1].text
    assert words in shown
    assert "1 is perfect, 0 is chance" in shown
    assert "majority baseline unknown" not in shown
